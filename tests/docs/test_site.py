"""The site of docs/ (`make docs`): a broken link fails, and nothing is loaded from elsewhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from support import ROOT

import panns_litert
from panns_litert.cli import build_parser

pytest.importorskip("mkdocs")
pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")

LOADED = {("img", "src"), ("script", "src"), ("link", "href"), ("iframe", "src"), ("source", "src")}
"""Tags and attributes whose target a browser loads with the page."""


class Html(HTMLParser):
    """What links point to, what they point from, and what is loaded, in one file."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if name == "id" and value:
                self.anchors.add(value)
            elif (tag, name) in LOADED and value:
                self.loaded.append(value)
            elif name == "href" and value:
                self.links.append(value)


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--config-file", config, "--site-dir", site],
        cwd=config.parent,
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site."""
    folder = tmp_path_factory.mktemp("site")
    built = build(ROOT / "mkdocs.yml", folder)
    assert built.returncode == 0, built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Html]:
    """The pages of the site. 404.html has links from the root of a server and is left out."""
    return {path: Html(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_every_link_leads_to_a_file_and_an_anchor(site: Path, pages: dict[Path, Html]) -> None:
    assert {"index.html", "tag.html", "repository/android_demo/index.html"} <= {
        path.relative_to(site).as_posix() for path in pages
    }
    for path, page in pages.items():
        for link in (*page.links, *page.loaded):
            url = urlsplit(link)
            if url.scheme in ("http", "https", "mailto", "data"):
                continue
            goal = (path.parent / unquote(url.path)).resolve() if url.path else path
            goal = goal / "index.html" if goal.is_dir() else goal
            assert goal.is_file(), (path.name, link)
            if url.fragment and goal in pages:
                assert unquote(url.fragment) in pages[goal].anchors | {"__toc", "__drawer"}, (path.name, link)


def test_nothing_is_loaded_from_elsewhere(site: Path, pages: dict[Path, Html]) -> None:
    for path, page in pages.items():
        assert [url for url in page.loaded if urlsplit(url).netloc] == [], path.name
    for path in site.rglob("*.css"):
        assert re.findall(r"""url\(["']?(?:https?:)?//|@import""", path.read_text(encoding="utf-8")) == [], path.name


def test_the_reference_has_every_command_and_public_name(site: Path, pages: dict[Path, Html]) -> None:
    (commands,) = (action.choices for action in build_parser()._actions if action.dest == "command")
    assert set(commands) <= pages[site / "reference" / "commands.html"].anchors
    anchors = set().union(*(page.anchors for page in pages.values()))
    names = {f"panns_litert.{name}" for name in panns_litert.__all__} - {"panns_litert.PannsLitertError"}
    aliases = {"panns_litert.windows": "panns_litert.windows.windows"}  # it is also the name of a package
    assert {aliases.get(name, name) for name in names} <= anchors
    assert "panns_litert.errors.PannsLitertError" in anchors
    text = (site / "reference" / "tagging.html").read_text(encoding="utf-8")
    assert re.search(r"<code>(?:<[^>]*>)*&gt;&gt;&gt; ", text), "examples are shown as code"


GOOD = {
    "README.md": "# Home\n\n[a page](docs/page.md#two) [outside](other/README.md) [a licence](LICENSE)\n",
    "LICENSE": "free\n",
    "docs/page.md": "# Page\n\n## Two\n\n[home](../README.md) [outside](../other/README.md) [data](../other/data)\n",
    "other/README.md": "# Other\n\n[back](../docs/page.md) [home](../README.md#home)\n\n```python\na[0](x.md)\n```\n",
    "other/data/a.json": "{}\n",
    "nav": "[index.md, page.md]",
}


def project(folder: Path, files: dict[str, str]) -> Path:
    """Writes a small repository with the settings and hooks of this one, and returns its mkdocs.yml."""
    for name, text in files.items():
        if name != "nav":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
    settings = f"INHERIT: {ROOT}/mkdocs.yml\nnav: {files['nav']}\nhooks: [{ROOT}/docs/hooks.py]\nplugins: [search]\n"
    config = folder / "mkdocs.yml"
    config.write_text(settings, encoding="utf-8")
    return config


def test_links_work_between_docs_and_the_rest_of_a_repository(tmp_path: Path) -> None:
    built = build(project(tmp_path / "repository", GOOD), tmp_path / "site")
    assert built.returncode == 0, built.stderr
    found = {path: Html(tmp_path / "site" / path).links for path in ("index.html", "page.html")}
    assert {"page.html#two", "repository/other/index.html", "repository/LICENSE"} <= set(found["index.html"])
    assert {"index.html", "repository/other/index.html", "repository/other/data/index.html"} <= set(found["page.html"])
    assert {"../../page.html", "../../index.html#home"} <= set(
        Html(tmp_path / "site/repository/other/index.html").links
    )
    assert "a.json" in Html(tmp_path / "site/repository/other/data/index.html").links
    assert (tmp_path / "site/repository/other/data/a.json").read_text(encoding="utf-8") == "{}\n"


BROKEN = {
    "README.md": "# Home\n\n[a page](docs/page.md#three)\n",
    "docs/page.md": "# Page\n\n[a](a.md) [b](../other/b.py) [outside](../other/README.md) [c](../../c.md)\n",
    "docs/new.md": "# New\n",
    "other/README.md": "# Other\n\n[d](../d.md) [home](../README.md#away)\n",
    "nav": "[index.md, page.md, e.md]",
}
WARNINGS = (
    r"anchor '#three'",
    r"'page\.md' contains a link 'a\.md'",
    r"docs/page\.md links to other/b\.py, which does not exist",
    r"docs/page\.md links to \.\./c\.md, which does not exist",
    r"not included in the \"nav\" configuration:\s+- new\.md",
    r"other/README\.md links to d\.md, which does not exist",
    r"anchor '#away'",
    r"'e\.md' is included in the 'nav' configuration",
)
"""What fails a strict build of BROKEN."""


def test_a_broken_link_or_a_page_without_a_place_fails(tmp_path: Path) -> None:
    built = build(project(tmp_path / "repository", GOOD | BROKEN), tmp_path / "site")
    assert built.returncode == 1
    for warning in WARNINGS:
        assert re.search(rf"^WARNING .*{warning}", built.stderr, re.M), (warning, built.stderr)
