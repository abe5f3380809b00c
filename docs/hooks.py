"""Hooks of the site (mkdocs.yml): links out of docs/, and the reference of commands and docstrings.

A link in a document is relative, so that it works on a code host. In the site, README.md is the home page, and every
file outside docs/ that a page links to is part of the site, under OUTSIDE: Markdown as a page, a folder as a list of
its files, and anything else as it is. A link to a file that does not exist is a warning, which fails the build.
"""

from __future__ import annotations

import io
import logging
import os
import posixpath
import re
from contextlib import redirect_stdout, suppress
from pathlib import Path
from unittest.mock import patch

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.site")

HOME = "README.md"
OUTSIDE = "repository"
COMMANDS = "<!-- commands -->\n"
"""Is replaced by the help of all commands."""
COLUMNS = 84
"""Width of the help, characters."""

_CODE_OR_LINK = re.compile(r"^ *```.*?^ *```$|`(?:[^`\n]|\n(?!\n))+`|\]\(([^)\s]+)\)", re.M | re.S)
_NOT_RELATIVE = re.compile(r"[a-z]+:|#|/")
_NOT_LISTED = {"__pycache__", "build", "dist", "node_modules"}


class Repository:
    """Where the files of the repository are in the site. Paths are relative to the repository, with slashes."""

    def __init__(self, config: MkDocsConfig) -> None:
        self.root = Path(config.config_file_path).resolve().parent
        self.docs = Path(config.docs_dir).resolve().relative_to(self.root).as_posix()

    def uri(self, path: str) -> str:
        """Returns the place in the site of a file or a folder."""
        if path == HOME:
            return "index.md"
        if path.startswith(f"{self.docs}/"):
            return path.removeprefix(f"{self.docs}/")
        return f"{OUTSIDE}/{path}/index.md" if (self.root / path).is_dir() else f"{OUTSIDE}/{path}"

    def path(self, uri: str) -> str:
        """Returns the file or the folder of a place in the site."""
        if uri == "index.md":
            return HOME
        if not uri.startswith(f"{OUTSIDE}/"):
            return f"{self.docs}/{uri}"
        path = uri.removeprefix(f"{OUTSIDE}/")
        return path if (self.root / path).exists() else posixpath.dirname(path)

    def markdown(self, path: str) -> str | None:
        """Returns the text of a page; None for a file that is none."""
        place = self.root / path
        if place.is_dir():
            links = [f"- [{name}]({posixpath.basename(path)}/{name})\n" for name in listed(place)]
            return f"# {path}\n\n{''.join(links)}"
        return place.read_text(encoding="utf-8") if path.endswith(".md") else None

    def links(self, path: str) -> list[str]:
        """Returns the files and folders that a page links to."""
        found = [goal(link[1], path) for link in _CODE_OR_LINK.finditer(self.markdown(path) or "")]
        return [path for path in found if path is not None]


def goal(link: str | None, path: str) -> str | None:
    """Returns where a link of the page at `path` leads in the repository; None for a link to elsewhere, or for code."""
    if link is None or _NOT_RELATIVE.match(link):
        return None
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link.partition("#")[0]))


def listed(folder: Path) -> list[str]:
    """Returns the files of a folder and of its folders, relative to it, without hidden ones and what is built there."""
    names = [file.relative_to(folder) for file in sorted(folder.rglob("*")) if file.is_file()]
    return [
        name.as_posix()
        for name in names
        if not _NOT_LISTED & set(name.parts) and not any(part.startswith(".") for part in name.parts)
    ]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the home page, and all files outside docs/ that it or another page links to, directly or through others."""
    repository = Repository(config)
    pending = [HOME, *(repository.path(file.src_uri) for file in files.documentation_pages())]
    known = set(pending)
    while pending:
        path = pending.pop()
        if path == HOME or not path.startswith(f"{repository.docs}/"):
            files.append(_file(path, repository, config))
        for found in repository.links(path):
            if found in known:
                continue
            known.add(found)
            if found.startswith("../") or not (repository.root / found).exists():
                log.warning("%s links to %s, which does not exist", path, found)
            elif not found.startswith(f"{repository.docs}/"):
                pending.append(found)
    return files


def _file(path: str, repository: Repository, config: MkDocsConfig) -> File:
    uri, text = repository.uri(path), repository.markdown(path)
    # A page outside docs/ may be in the nav, but need not.
    inclusion = InclusionLevel.INCLUDED if path == HOME else InclusionLevel.NOT_IN_NAV
    if text is None:
        return File.generated(config, uri, abs_src_path=str(repository.root / path), inclusion=inclusion)
    return File.generated(config, uri, content=text, inclusion=inclusion)


def on_page_markdown(text: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links to places in the site, and fills in the commands."""
    repository, uri = Repository(config), page.file.src_uri
    path = repository.path(uri)

    def changed(match: re.Match[str]) -> str:
        found = goal(match[1], path)
        if found is None:
            # A fence's second word, such as "gpu" in "bash gpu", is for the tests.
            return re.sub(r"^( *```\w+) .*", r"\1", match[0]) if match[0].lstrip().startswith("```") else match[0]
        _, mark, anchor = match[1].partition("#")
        return f"]({posixpath.relpath(repository.uri(found), posixpath.dirname(uri) or '.')}{mark}{anchor})"

    text = _CODE_OR_LINK.sub(changed, text)
    return text.replace(COMMANDS, commands()) if COMMANDS in text else text


def commands() -> str:
    """Returns Markdown with the help of the program and of every command, from argparse."""
    from panns_litert.cli import main

    def shown(*words: str) -> str:
        with redirect_stdout(io.StringIO()) as out, patch.dict(os.environ, COLUMNS=str(COLUMNS)), suppress(SystemExit):
            main(words)
        return f"```text\n{out.getvalue()}```\n"

    overview = shown("--help")
    names = re.findall(r"^ {2,4}([a-z][a-z-]*)(?:  |$)", overview, re.M)
    return "\n".join([overview, *(f"## {name}\n\n{shown(name, '--help')}" for name in names)])


class Examples(griffe.Extension):
    """Shows the examples at the end of docstrings as code."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Puts the lines of an example, which begin with `>>>`, into a section of their own."""
        if obj.docstring is not None:
            text, prompt, example = obj.docstring.value.partition("\n>>> ")
            if prompt:
                lines = f">>> {example}".splitlines()
                obj.docstring.value = f"{text}\nExamples:\n" + "".join(f"    {line}\n" for line in lines)
