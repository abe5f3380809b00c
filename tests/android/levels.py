"""Finds what compiled classes use of Android, with its `java.*`, that its oldest level lacks, outside of a check of
`SDK_INT`.

It reads the classes as javap shows them: constants are copied there, so that only what a phone must have remains, and a
check is a comparison with a jump, however it was written. R8 has a table of the levels, made from Android's
`api-versions.xml`, and lists the newer methods that D8 replaces by code of its own.

Names are as in javap: a member is `java/io/File.<init>:(Ljava/lang/String;)V`, a class `java/io/File`.
"""

from __future__ import annotations

import re
import struct
import subprocess
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import kotlin

OLDEST = 26

Levels = dict[str, int]
"""The level of each class, and of each member in every class that has it, its own or inherited."""

_NEVER = 1000
_SDK_INT = "android/os/Build$VERSION.SDK_INT:I"
_LEAVES = ("return", "ireturn", "areturn", "freturn", "dreturn", "lreturn", "athrow", "goto")
# The jumps after `SDK_INT` and a number: whether the code after the jump or at its target has the higher levels, and
# what to add to the number for the lowest of these levels.
_JUMPS = {"if_icmplt": (True, 0), "if_icmple": (True, 1), "if_icmpge": (False, 0), "if_icmpgt": (False, 1)}

_OBJECT = "java/lang/Object"
# Members of level 1 that R8's table leaves out: those of Object, and what the builders inherit from a hidden class.
_OF_OBJECT = """
    <init>:()V clone:()Ljava/lang/Object; equals:(Ljava/lang/Object;)Z finalize:()V getClass:()Ljava/lang/Class;
    hashCode:()I notify:()V notifyAll:()V toString:()Ljava/lang/String; wait:()V wait:(J)V wait:(JI)V
"""
_BUILDERS = ("java/lang/StringBuilder", "java/lang/StringBuffer")
_OF_BUILDERS = """
    capacity:()I codePointAt:(I)I codePointBefore:(I)I codePointCount:(II)I ensureCapacity:(I)V getChars:(II[CI)V
    indexOf:(Ljava/lang/String;)I indexOf:(Ljava/lang/String;I)I lastIndexOf:(Ljava/lang/String;)I
    lastIndexOf:(Ljava/lang/String;I)I offsetByCodePoints:(II)I setCharAt:(IC)V setLength:(I)V
    substring:(I)Ljava/lang/String; substring:(II)Ljava/lang/String; trimToSize:()V
"""

COMPILED_AWAY = ("java/lang/invoke/LambdaMetafactory", "java/lang/invoke/StringConcatFactory", "java/lang/Record")
"""What D8 leaves none of in a dex: lambdas, strings that are put together, records. test_signatures.py shows it."""

_ABSENT = re.compile(r"androidx/|.*/R\$\w+$")  # no classes here: signatures alone, and what Gradle makes


@dataclass(frozen=True)
class Use:
    """A use of a class, or of a member of it, within checks for `level`."""

    place: str
    owner: str
    member: str
    level: int


@dataclass(frozen=True)
class Class:
    """What a class extends and implements, the members that it declares, and what it uses."""

    supers: list[str]
    members: set[str]
    uses: list[Use]


# --- levels ---


@cache
def known(r8: Path) -> Levels:
    """Returns the levels of all that apps may use of Android, where what D8 replaces is of level 1.

    `r8` is the JAR of D8 and R8.
    """
    return published(r8) | dict.fromkeys(replaced(r8), 1)


@cache
def published(r8: Path) -> Levels:
    """Returns the levels of all that apps may use of Android.

    R8's table is described in its AndroidApiLevelHashingDatabaseImpl.java and AndroidApiDataAccess.java: names, two
    tables of hashes, one of the names and one of the levels, and the lists that they point to.
    """
    with zipfile.ZipFile(r8) as archive:
        data = archive.read("resources/new_api_database.ser")
    (count,) = struct.unpack_from(">I", data)
    hashes_at = 4 + 6 * (count + (1 << 17))
    lists_at = hashes_at + 6 * (1 << 18)

    def span(at: int) -> tuple[int, int]:
        start, length = struct.unpack_from(">IH", data, at)
        return lists_at + start, lists_at + start + length

    names = [data[slice(*span(4 + 6 * i))].rstrip(b"\0").decode() for i in range(count)]
    found = {f"{_OBJECT}.{member}": 1 for member in _OF_OBJECT.split()}
    found |= {f"{builder}.{member}": 1 for builder in _BUILDERS for member in _OF_BUILDERS.split()}
    for i in range(1 << 18):
        at, end = span(hashes_at + 6 * i)
        while at < end:
            (length,) = struct.unpack_from(">H", data, at)
            kind, *numbers = struct.unpack_from(f">B{length // 2}H", data, at + 2)
            owner, *texts = [names[number] for number in numbers]
            if kind == 2:  # a method: its name, its parameters, its result
                texts = [texts[0], f"({''.join(texts[1:-1])}){texts[-1]}"]
            found[_key(owner[1:-1], ":".join(texts))] = data[at + 2 + length]
            at += 3 + length
    return found


def replaced(r8: Path) -> list[str]:
    """Returns the methods that D8 replaces for the oldest level, without more libraries. A later D8 replaces more."""
    command = ("java", "-cp", str(r8), "com.android.tools.r8.BackportedMethodList", "--min-api", str(OLDEST))
    return [line.replace("#", ".").replace("(", ":(") for line in kotlin.run_tool(*command).splitlines()]


def _key(owner: str, member: str) -> str:
    return f"{owner}.{member}" if member else owner


# --- uses ---


def unguarded(classes: Iterable[Path], class_path: Sequence[Path], levels: Levels) -> list[str]:
    """Returns a line for every use of something newer that is not within a check for its level.

    `classes` are folders of classes to check. `class_path` has the folders and JARs of other classes, of which only
    counts what the checked ones inherit.

    Raises:
        ValueError: no classes, or javap cannot read them all.
    """
    files = [str(file) for folder in classes for file in sorted(folder.rglob("*.class"))]
    checked = _read("-p", "-v", *files)
    if not files or len(checked) != len(files):
        raise ValueError(f"javap read {len(checked)} of {len(files)} classes; expected all, and at least one")
    uses = list(dict.fromkeys(use for c in checked.values() for use in c.uses))
    owners = {use.owner for use in uses} - checked.keys() - levels.keys()
    level = _lookup(_others(owners, class_path) | checked, levels)
    newest = max(levels.values())
    lines = []
    for use in uses:
        if (needed := level(use.owner, use.member)) > use.level:
            why = f"is of level {needed}" if needed <= newest else f"is in no level up to {newest}"
            lines.append(
                f"{use.place}: {_key(use.owner, use.member)} {why}; expected what level {OLDEST} has, "
                "or a check of SDK_INT around it"
            )
    return lines


def _lookup(classes: dict[str, Class], levels: Levels) -> Callable[[str, str], int]:
    """Returns a function that gives the level of a class or of a member of it."""

    def level(owner: str, member: str) -> int:
        if owner in COMPILED_AWAY or _ABSENT.match(owner):
            return OLDEST
        if owner not in classes:
            of_object = "" if member.startswith("<init>") else _key(_OBJECT, member)
            found = min(levels.get(name, _NEVER) for name in (_key(owner, member), of_object))
            return max(found, levels.get(owner, _NEVER))
        if not member or member in classes[owner].members:
            return OLDEST
        return min((level(parent, member) for parent in classes[owner].supers), default=_NEVER)

    return level


def _others(owners: set[str], class_path: Sequence[Path]) -> dict[str, Class]:
    """Returns those of some classes that a class path has, and of what they extend and implement."""
    found: dict[str, Class] = {}
    asked: set[str] = set()
    while new := sorted(owners - asked):
        read = _read("-cp", kotlin.joined(class_path), "-sysinfo", "-p", "-s", *new)
        found |= read
        asked |= owners
        owners = {parent for c in read.values() for parent in c.supers if not parent.startswith("java/")}
    return found


def _read(*arguments: str) -> dict[str, Class]:
    """Returns the classes that javap finds, without the JDK's own. What it has not found is left out."""
    listing = subprocess.run(["javap", *arguments], capture_output=True, text=True, check=False).stdout
    found: dict[str, Class] = {}
    for text in re.split(r"^Classfile ", listing, flags=re.MULTILINE)[1:]:
        if text.startswith("jrt:"):
            continue
        declared = re.search(r"^[\w ]*\b(?:class|interface) (.*)$", text, re.MULTILINE)
        assert declared is not None, text[:200]
        plain = declared[1].removesuffix(" {")
        while plain != (plain := re.sub(r"<[^<>]*>", "", plain)):
            pass
        name, *supers = re.split(r" extends | implements |, ?", plain.replace(".", "/"))
        members = set()
        for title, descriptor in re.findall(r"^  (\S.*);\n    descriptor: (\S+)$", text, re.MULTILINE):
            member = title.partition("(")[0].rpartition(" ")[2]
            members.add(f"{'<init>' if member.replace('.', '/') == name else member}:{descriptor}")
        found[name] = Class([*supers, _OBJECT], members, [*_uses(name, supers, text)])
    return found


def _uses(name: str, supers: list[str], text: str) -> Iterator[Use]:
    for parent in supers:
        yield Use(name, parent, "", OLDEST)
    body, _, tables = text.partition("\n{\n")[2].partition("\nBootstrapMethods:")
    linked = _linked(tables, name)
    for method in body.split("\n\n"):
        code = _instructions(method)
        place = f"{name}, {method.strip().splitlines()[0].strip(' ;')}" if code else name
        for at, _, argument in code:
            if reference := _reference(argument, name):
                yield Use(place, *reference, _guaranteed(code, at))
            elif found := re.match(r"InvokeDynamic #(\d+):.*\)(.*)$", argument):
                for given in (*linked[int(found[1])], _reference(f"class {found[2]}", name)):
                    if given:
                        yield Use(place, *given, _guaranteed(code, at))
        for start, caught in re.findall(r"^ +(\d+) +\d+ +\d+ +Class (\S+)$", method, re.MULTILINE):
            yield Use(place, caught, "", _guaranteed(code, int(start)))


def _linked(tables: str, own: str) -> list[list[tuple[str, str] | None]]:
    """Returns, for each entry of BootstrapMethods, the method that makes the lambda or string, and what it is given."""
    entries = re.split(r"^  \d+: ", tables, flags=re.MULTILINE)[1:]
    return [
        [_reference(f"Method {text}", own) for text in re.findall(r"^ *#\d+ REF_\w+ (\S+:\S+)$", entry, re.MULTILINE)]
        for entry in entries
    ]


def _instructions(method: str) -> list[tuple[int, str, str]]:
    """Returns the instructions of a method: offset, name, and argument or what javap says of it."""
    lines = re.findall(r"^ +(\d+): ([a-z]\w*)(?: +(.*))?$", method, re.MULTILINE)
    return [(int(at), name, argument.partition("// ")[2] or argument.strip()) for at, name, argument in lines]


def _reference(argument: str, own: str) -> tuple[str, str] | None:
    """Returns the owner and the member in what javap says of an instruction; None if it refers to none."""
    kind, _, text = argument.replace('"', "").partition(" ")
    if kind == "class":
        found = re.fullmatch(r"\[*L(.+);|([^\[;]+)", text)
        return (found[1] or found[2], "") if found else None  # none: an array of numbers
    if kind not in ("Method", "InterfaceMethod", "Field"):
        return None
    member, _, descriptor = text.partition(":")
    owner, _, name = member.rpartition(".")
    return _OBJECT if owner.startswith("[") else owner or own, f"{name}:{descriptor}"


def _guaranteed(code: list[tuple[int, str, str]], at: int) -> int:
    """Returns the level that the checks of a method guarantee at an offset."""
    level = OLDEST
    for i in range(len(code) - 2):
        (_, _, what), (_, push, number), (jump_at, jump, target) = code[i : i + 3]
        if _SDK_INT not in what or push not in ("bipush", "sipush") or jump not in _JUMPS:
            continue
        follows, more = _JUMPS[jump]
        before_target = [name for offset, name, _ in code if offset < int(target)]
        if follows:
            inside = jump_at < at < int(target)
        else:
            inside = at >= int(target) and bool(before_target) and before_target[-1] in _LEAVES
        level = max(level, int(number) + more) if inside else level
    return level
