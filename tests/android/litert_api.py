"""LiteRT's Kotlin API as `signatures/litert-2.2.txt` lists it, and a Kotlin source of it for the compiler.

    python tests/android/litert_api.py check FOLDER

compares every listed declaration with LiteRT's own sources, which are in its repository in the folder
litert/kotlin/src/main/kotlin/com/google/ai/edge/litert, and writes into the list that they agree.
"""

from __future__ import annotations

import hashlib
import re
import sys
from pathlib import Path

LIST = Path(__file__).resolve().parent / "signatures" / "litert-2.2.txt"
PACKAGE = "com.google.ai.edge.litert"

_IMPORTS = ("android.content.Context", "android.content.res.AssetManager")
_MARK = "// Compared:"


def declarations(text: str) -> list[tuple[tuple[str, ...], str]]:
    """Returns every declaration of a list with the heads of the classes around it."""
    found: list[tuple[tuple[str, ...], str]] = []
    around: list[str] = []
    for line in (line.strip() for line in text.splitlines()):
        if line == "}":
            around.pop()
        elif line and not line.startswith("//"):
            found.append((tuple(around), line.removesuffix(" {")))
            if line.endswith(" {"):
                around.append(line.removesuffix(" {"))
    return found


def digest(text: str) -> str:
    """Returns the hash of the declarations of a list."""
    return hashlib.sha256(repr(declarations(text)).encode()).hexdigest()


def compared(text: str) -> str:
    """Returns the hash of the declarations that were compared with LiteRT's sources."""
    (mark,) = re.findall(rf"^{_MARK} *(\w*)$", text, re.MULTILINE)
    return str(mark)


def kotlin_source(text: str) -> str:
    """Returns a Kotlin source with the listed declarations. Its functions have bodies, which only fail."""
    lines = ['@file:Suppress("UNUSED_PARAMETER", "unused")', "", f"package {PACKAGE}", ""]
    lines += [f"import {name}" for name in _IMPORTS]
    around: list[str] = []
    for line in text.splitlines():
        if line.strip() == "}":
            around.pop()
        elif line.endswith(" {"):
            around.append(line.strip())
        found = re.fullmatch(r"\s*(?:override |final )*fun \w+\(.*\)(: .*)?", line)
        if found and not around[-1].startswith("interface "):
            line += " = TODO()" if found[1] else " { TODO() }"
        lines.append(line)
    return "\n".join([*lines, ""])


def invented(text: str, sources: str) -> list[str]:
    """Returns the declarations of a list that LiteRT's sources do not have in the same class, public."""
    plain = _plain(sources)
    return [line for around, line in declarations(text) if not _has(_inside(plain, around), line)]


def _has(body: str, line: str) -> bool:
    """Whether the body of a class has exactly this declaration, not a longer or a hidden one."""
    head, _, constants = line.partition(" { ")
    plain = _plain(head)
    end = r"(?![:?<.,(])" + (r"\b" if plain[-1].isalnum() else "")
    exact = rf"(?<!\w)(?<!private )(?<!internal )(?<!protected )(?<!suspend ){re.escape(plain)}{end}"
    entries = _inside(body, (head,)) if constants else ""
    listed = re.findall(r"\w+\(\d+\)", constants)
    return re.search(exact, _surface(body)) is not None and set(listed) <= set(re.findall(r"\w+\(\d+\)", entries))


def _inside(source: str, around: tuple[str, ...]) -> str:
    """Returns what stands between the braces of a class, given the heads of it and of the classes around it."""
    for head in around:
        start = f"{_plain(head)}{{"
        depth, opened = 0, None
        for i, character in enumerate(source):
            if opened is None and depth == 0 and source.startswith(start, i):
                opened = i + len(start)
            depth += (character == "{") - (character == "}")
            if opened is not None and i >= opened and depth == 0:
                break
        source = "" if opened is None else source[opened:i]
    return source


def _surface(body: str) -> str:
    """Returns the body of a class without the bodies in it."""
    kept, depth = "", 0
    for character in body:
        depth -= character == "}"
        kept += character if depth == 0 else ""
        depth += character == "{"
    return kept


def _plain(source: str) -> str:
    """Returns a source without comments, annotations, line breaks and words that change nothing."""
    text = re.sub(r"/\*.*?\*/|//[^\n]*", "", source, flags=re.DOTALL)
    text = re.sub(r"@\w+(\((\"[^\"]*\"|[^()\"])*\))?", "", text)
    text = re.sub(r"\s+", " ", text)
    text = re.sub(r" ?([()<>,:{}=?]) ?", r"\1", text).replace(",)", ")")
    # `class A constructor(…)` is `class A(…)`.
    return re.sub(r"(class \w+) constructor(?=\()", r"\1", text).strip()


def _check(folder: Path) -> int:
    text = LIST.read_text(encoding="utf-8")
    sources = "\n".join(file.read_text(encoding="utf-8") for file in sorted(folder.glob("*.kt")))
    wrong = invented(text, sources)
    for line in wrong:
        print(f"not in {folder}: {line}")
    if not wrong:
        LIST.write_text(re.sub(rf"^{_MARK}.*$", f"{_MARK} {digest(text)}", text, flags=re.MULTILINE), encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(_check(Path(sys.argv[2])))
