"""Android's published signatures: reads them, takes the part that sources need, and writes Java sources of it.

The format is metalava's (https://android.googlesource.com/platform/tools/metalava, FORMAT.md), version 2.0: a package
holds classes, nested ones as `Outer.Inner`, and a class has one member in each line. A part has the lines of members
without any change. `pin.py` makes the part that this repository has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "signatures"
ANDROID = FOLDER / "android-34.txt"
ANDROIDX = FOLDER / "androidx-core-1.16.txt"

_JDK = ("java.", "javax.", "org.w3c.", "org.xml.")  # of these packages the compiler takes the JDK's classes
_ANNOTATION = re.compile(r"@(?!interface\b)[A-Za-z_][\w.]*(\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\))?\s*")
_NULLABILITY = ("@NonNull", "@Nullable")
_KINDS = ("ctor", "method", "field", "enum_constant")
_COMMENT = re.compile(r"(\"(?:\\.|[^\"\\\n])*\")|/\*.*?\*/|//[^\n]*", re.DOTALL)  # or a string, which may look like one
_NAME = re.compile(r"[A-Za-z_$][\w$]*(?:\.[A-Za-z_$][\w$]*)*")


@dataclass
class Member:
    """A line of a class: a constructor, method, field or constant of an enum.

    `head` is what stands before the name in Java: modifiers and type. `value` is that of a constant field.
    """

    line: str
    kind: str
    head: str
    name: str
    parameters: list[str]
    value: str = ""


@dataclass
class Class:
    """A class, interface, enum or annotation.

    `name` is its name in the package, as `Build.VERSION`. `head` is its declaration up to its type parameters,
    without annotations.
    """

    package: str
    name: str
    kind: str
    head: str
    extends: list[str]
    implements: list[str]
    members: list[Member] = field(default_factory=list)

    @property
    def full_name(self) -> str:
        return f"{self.package}.{self.name}"

    @property
    def simple_name(self) -> str:
        return self.name.rpartition(".")[2]

    @property
    def supers(self) -> list[str]:
        return [*self.extends, *self.implements]

    def is_abstract(self, member: Member) -> bool:
        """Whether a method has no body."""
        words = member.head.split()
        return member.kind == "method" and (
            "abstract" in words or (self.kind == "interface" and not {"default", "static"} & set(words))
        )


def parse(text: str) -> dict[str, Class]:
    """Reads a signature file. Returns its classes by their full names.

    Raises:
        ValueError: a line is not understood.
    """
    classes: dict[str, Class] = {}
    package, current = "", None
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.strip()
        if not line or line == "}" or line.startswith("//"):
            continue
        if found := re.fullmatch(r"package (?:@\S+ )*([\w.]+) \{", line):
            package, current = found[1], None
        elif line.split(" ", 1)[0] in _KINDS and current is not None:
            current.members.append(_member(line, number))
        elif line.endswith("{"):
            current = _class(package, line, number)
            classes[current.full_name] = current
        else:
            raise ValueError(f"line {number}: {line!r}; expected a package, a class or a member")
    return classes


def _class(package: str, line: str, number: int) -> Class:
    plain = _ANNOTATION.sub("", line).removesuffix("{").strip()
    found = re.match(r"(.*?)(@interface|class|interface|enum) ([\w.]+)", plain)
    if found is None:
        raise ValueError(f"line {number}: {line!r}; expected a class")
    end = found.end() + len(_bracketed(plain[found.end() :]))
    head, rest = plain[:end], plain[end:].strip()
    parts = re.split(r"\b(extends|implements)\b(?![^<]*>)", rest)
    clauses = dict(zip(parts[1::2], parts[2::2], strict=True))
    extends = _split(clauses.get("extends", ""), " ,")
    implements = _split(clauses.get("implements", ""), " ,")
    if found[2] == "@interface":
        extends = implements = []
    return Class(package, found[3], found[2], head, extends, implements)


def _member(line: str, number: int) -> Member:
    kind, body = line.split(" ", 1)
    plain = _java_annotations(body)
    if kind in ("field", "enum_constant"):
        if found := re.match(r"(.+? )([\w$]+)(?: = (.*?))?;(?:\s*//.*)?$", plain):
            return Member(line, kind, found[1], found[2], [], found[3] or "")
    elif found := re.match(r"(.*?)([\w$.]+)\((.*)\)[^()]*;$", plain):
        return Member(line, kind, found[1], found[2].rpartition(".")[2], _split(found[3], ","))
    raise ValueError(f"line {number}: {line!r}; expected a {kind}")


def _bracketed(text: str) -> str:
    """Returns the type parameters at the start of a text, or nothing."""
    depth = 0
    for i, character in enumerate(text):
        depth += (character == "<") - (character == ">")
        if depth == 0:
            return text[: i + 1] if character == ">" else ""
    return ""


def _split(text: str, separators: str) -> list[str]:
    """Splits a list of types, but not within their type arguments."""
    pieces, depth = [""], 0
    for character in text:
        depth += (character == "<") - (character == ">")
        if character in separators and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += character
    return [piece.strip() for piece in pieces if piece.strip()]


def _types(text: str) -> set[str]:
    """Returns the names of classes in a type or a list of types."""
    return set(_NAME.findall(text))


# --- the part that sources need ---


def subset(full: dict[str, Class], sources: Iterable[str]) -> str:
    """Returns the part of a signature file that Kotlin sources need, in the same format.

    That is: the classes that the sources name; their superclasses; the classes that objects come from. Of these, the
    members whose names are in the sources, all overloads of them. Of interfaces, all abstract members as well, and of
    abstract classes that the sources extend. Classes that are only types of parameters have no members.
    """
    text = _COMMENT.sub(lambda found: found[1] or "", "\n".join(sources))
    words = _names_in(text)
    extended = set(re.findall(r"[:,]\s*(?:\w+\.)*(\w+)\s*(?:<[^<>]*>)?[({]", text))
    android = {name: c for name, c in full.items() if not name.startswith(_JDK)}
    members: dict[str, list[Member]] = {}  # of the classes that have some
    heads: set[str] = set()  # classes without
    pending = _classes_in(text, android)
    while pending:
        current = android[pending.pop()]
        if current.full_name in members:
            continue
        abstract = current.kind in ("interface", "@interface") or current.simple_name in extended
        members[current.full_name] = chosen = [
            member
            for member in current.members
            if member.name in words or member.kind == "enum_constant" or (abstract and current.is_abstract(member))
        ]
        found = {name for name in android if name.startswith(f"{current.full_name}.") and name.split(".")[-1] in words}
        found |= _types(" ".join(current.extends))
        heads |= _types(current.head) & android.keys()
        for member in chosen:
            parameters = _types(" ".join(member.parameters)) & android.keys()
            heads |= parameters
            # Kotlin converts lambdas to interfaces, and calls with the objects that an interface's methods get.
            found |= {name for name in parameters if "interface" in (current.kind, android[name].kind)}
            found |= _types(member.head)
        pending += [name for name in found if name in android and name not in members]
    kept = members.keys() | heads
    kept |= {outer for name in kept for outer in _outer_names(name) if outer in android}

    def leads_to_kept(name: str) -> bool:
        return name in kept or (name in android and any(map(leads_to_kept, _class_names(android[name].supers))))

    for name in [*kept]:
        kept |= {parent for parent in _class_names(android[name].supers) if parent in android and leads_to_kept(parent)}
    return _written([c for name, c in android.items() if name in kept], members, kept)


def _names_in(text: str) -> set[str]:
    """Returns the words of a source, and the getters and setters that a word stands for if it is a property."""
    words = set(re.findall(r"\w+", text))
    for word in list(words):
        capital = word[:1].upper() + word[1:]
        words |= {f"get{capital}", f"set{capital}"} | ({f"set{word[2:]}"} if word.startswith("is") else set())
    return words


def _classes_in(text: str, classes: dict[str, Class]) -> list[str]:
    """Returns the classes that a source imports or names."""
    dotted = {name for match in re.findall(r"\bandroid(?:\.\w+)+", text) for name in [match, *_outer_names(match)]}
    return [name for name in classes if name in dotted]


def _outer_names(name: str) -> list[str]:
    return [name[: dot.start()] for dot in re.finditer(r"\.", name)]


def _class_names(types: list[str]) -> list[str]:
    """Returns the names of types without their type arguments."""
    return [text.partition("<")[0] for text in types]


def _written(classes: list[Class], members: dict[str, list[Member]], kept: set[str]) -> str:
    lines: list[str] = []
    for package, group in groupby(classes, key=lambda c: c.package):
        lines += [f"package {package} {{", ""]
        for c in group:
            supers = ""
            for word, types in (("extends", c.extends), ("implements", c.implements)):
                known = [text for text in types if text.partition("<")[0] in kept or text.startswith(_JDK)]
                supers += f" {word} {' '.join(known)}" if known else ""
            lines += [f"  {c.head}{supers} {{", *(f"    {m.line}" for m in members.get(c.full_name, [])), "  }", ""]
        lines += ["}", ""]
    return "\n".join(lines)


# --- Java sources ---


def write_stubs(text: str, out: Path, *, compilable: bool = False) -> None:
    """Writes a Java source for every class of a signature file, for a compiler to resolve names against.

    javac compiles only `compilable` sources, in which all classes are abstract, have no constructors, and no final
    fields, and interfaces have no fields. They still say who extends whom and which methods there are, but those with
    an XmlPullParser, which Android's signature file does not declare.
    """
    classes = parse(text)
    if compilable:
        classes = {name: _compilable(c) for name, c in classes.items()}
    for c in classes.values():
        if "." not in c.name:
            source = f"package {c.package};\n\n" + "\n".join(_java(c, classes)) + "\n"
            _write(out.joinpath(*c.package.split("."), f"{c.name}.java"), source)
    for name in ("NonNull", "Nullable"):  # Kotlin knows these two
        _write(
            out / "android/annotation" / f"{name}.java",
            f"package android.annotation;\n\npublic @interface {name} {{}}\n",
        )


def _compilable(c: Class) -> Class:
    unwanted = ("ctor",) if c.kind in ("class", "enum") else ("ctor", "field")
    known = [m for m in c.members if m.kind not in unwanted and "org.xmlpull." not in m.line]
    members = [replace(m, head=re.sub(r"\bfinal ", "", m.head), value="") for m in known]
    head = re.sub(r"\b(final|abstract) ", "", c.head)
    return replace(c, members=members, head=head.replace("class ", "abstract class ", 1) if c.kind == "class" else head)


def _write(file: Path, text: str) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def _java(c: Class, classes: dict[str, Class], indent: str = "") -> list[str]:
    unwanted = {"sealed"} if c.kind == "class" else {"sealed", "abstract", "final"}
    head = " ".join(word for word in c.head.replace(c.name, c.simple_name, 1).split(" ") if word not in unwanted)
    for word, types in (("extends", c.extends), ("implements", c.implements)):
        head += f" {word} {', '.join(types)}" if types else ""
    constants = [f"{', '.join(m.name for m in c.members if m.kind == 'enum_constant')};"] if c.kind == "enum" else []
    members = [
        _java_member(c, m)
        for m in c.members
        if m.kind != "enum_constant" and not (c.kind == "enum" and m.name in ("values", "valueOf"))
    ]
    lines = [f"{indent}{head} {{", *(f"{indent}    {text}" for text in constants + members)]
    for inner in classes.values():
        if inner.full_name.rpartition(".")[0] == c.full_name:
            lines += _java(inner, classes, indent + "    ")
    return [*lines, f"{indent}}}"]


def _java_member(c: Class, member: Member) -> str:
    if member.kind == "field":
        kind = member.head.split()[-1]
        cast = f"({kind}) " if kind in ("byte", "short", "char", "float") else ""
        return f"{member.head}{member.name}{f' = {cast}{member.value}' if member.value else ''};"
    head = re.sub(r"\b(native|synchronized) ", "", member.head)
    parameters = ", ".join(f"{text} a{i}" for i, text in enumerate(member.parameters))
    return f"{head}{member.name}({parameters}){';' if c.is_abstract(member) else ' { throw new Error(); }'}"


def _java_annotations(text: str) -> str:
    """Leaves only those annotations that say whether something may be null."""
    return _ANNOTATION.sub(lambda a: f"@android.annotation.{a[0][1:]}" if a[0].strip() in _NULLABILITY else "", text)
