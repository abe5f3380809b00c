"""The part of the build that is not static: README for an index page. Everything else is in pyproject.toml.

An index page shows the text alone, so links relative to the repository would be dead there.
"""

import re
import tomllib
from pathlib import Path

from setuptools import setup

HERE = Path(__file__).parent
_LINK = re.compile(r"!?\[([^]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")


def page(readme: str, *, source: str | None) -> str:
    """Returns README as an index page can show it.

    Args:
        readme: text in Markdown.
        source: address of the repository, to which relative links then point; None if it has none. Without it links
            become their texts, and pictures are left out with their captions.
    """
    if source is not None:
        readme = re.sub(r"(!\[[^]]*\]\()(?![a-z]+:)([^)\s]+)", rf"\1{source}/raw/HEAD/\2", readme)
        return _LINK.sub(rf"[\1]({source}/blob/HEAD/\2)", readme)
    # A picture stands in a paragraph of its own; a paragraph in italics after it is its caption.
    readme = re.sub(r"^!\[[^]]*\]\((?![a-z]+:)[^)]*\)\n\n(\*[^*]+\*\n\n)?", "", readme, flags=re.MULTILINE)
    return _LINK.sub(r"\1", readme)


if __name__ == "__main__":
    urls = tomllib.loads((HERE / "pyproject.toml").read_text(encoding="utf-8"))["project"].get("urls", {})
    readme = (HERE / "README.md").read_text(encoding="utf-8")
    setup(
        long_description=page(readme, source=urls.get("Source")),
        long_description_content_type="text/markdown; charset=UTF-8; variant=GFM",
    )
