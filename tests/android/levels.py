"""Finds what a compiled app uses of Android that its oldest level lacks, outside of a check of `SDK_INT`.

It reads the compiled classes, as javap shows them: constants are copied there, so that only what a phone must have
remains, and a check is a comparison with a jump, however it was written.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import signatures

NEWER = signatures.FOLDER / "newer-than-26.txt"
OLDEST = 26

_SDK_INT = "android/os/Build$VERSION.SDK_INT:I"
_LEAVES = ("return", "ireturn", "areturn", "freturn", "dreturn", "lreturn", "athrow", "goto")
_PRIMITIVE = dict(zip("BCDFIJSZ", ["byte", "char", "double", "float", "int", "long", "short", "boolean"], strict=True))
# The jumps after `SDK_INT` and a number: whether the code after the jump or at its target has the higher levels, and
# what to add to the number for the lowest of these levels.
_JUMPS = {"if_icmplt": (True, 0), "if_icmple": (True, 1), "if_icmpge": (False, 0), "if_icmpgt": (False, 1)}


@dataclass(frozen=True)
class Use:
    """A use of Android in a class: `owner.name(parameters)` as in `newer-than-26.txt`, within checks for `level`."""

    method: str
    owner: str
    member: str
    level: int


def newer(text: str) -> dict[tuple[str, str], int]:
    """Reads `newer-than-26.txt`. Returns the level of each class and member; the member of a class alone is empty."""
    lines = [line.split(" ", 2) for line in text.splitlines() if not line.startswith("//")]
    return {(owner, rest[0] if rest else ""): int(level) for level, owner, *rest in lines}


def spelled(c: signatures.Class, member: signatures.Member) -> str:
    """Returns a member as `newer-than-26.txt` has it."""
    plain = [re.sub(r"<.*>", "", text).replace("...", "[]").split()[-1] for text in member.parameters]
    types = [re.sub(r"^[A-Z]\b", "Object", text.rpartition(".")[2]) for text in plain]  # a type parameter is erased
    return member.name if member.kind == "field" else f"{member.name}({', '.join(types)})"


def missing(api: dict[str, signatures.Class], older: dict[str, signatures.Class]) -> list[tuple[str, str]]:
    """Returns the classes and members of `api` that `older` lacks, without constants."""
    found: list[tuple[str, str]] = []
    for name, c in api.items():
        if name not in older:
            found.append((name, ""))
            continue
        has = {spelled(c, member) for member in older[name].members}
        found += [(name, spelled(c, m)) for m in c.members if not m.value and spelled(c, m) not in has]
    return found


def unguarded(classes: Path, api: dict[str, signatures.Class], levels: dict[tuple[str, str], int]) -> list[str]:
    """Returns a line for every use of something newer that is not within a check for its level."""
    files = sorted(map(str, classes.rglob("*.class")))
    listing = subprocess.run(["javap", "-p", "-v", *files], capture_output=True, text=True, check=True).stdout
    parents = {name: [text.partition("<")[0] for text in c.supers] for name, c in api.items()}
    parents |= {
        a: [b] for a, b in re.findall(r"^(?:\w+ )*class ([\w.$]+)(?:<.*>)? extends ([\w.$]+)", listing, re.MULTILINE)
    }

    def level(owner: str, member: str) -> int:
        own = levels.get((owner, ""), levels.get((owner, member), OLDEST))
        return max([own, *(level(parent, member) for parent in parents.get(owner, []))])

    found = [(use, level(use.owner, use.member)) for use in _uses(listing)]
    return [
        f"{use.method}: {use.owner} {use.member}".rstrip()
        + f" is of level {needed}; expected a check of SDK_INT around it"
        for use, needed in dict.fromkeys(found)
        if needed > use.level
    ]


def _uses(listing: str) -> list[Use]:
    uses: list[Use] = []
    for text in re.split(r"^Classfile ", listing, flags=re.MULTILINE)[1:]:
        name = re.search(r"(?:class|interface) ([\w.$]+)", text)
        assert name is not None, text[:200]
        pool, _, body = text.partition("\n{\n")
        in_code: set[tuple[str, str]] = set()
        for method in re.split(r"\n\n", body):
            code = _instructions(method)
            title = f"{name[1]}, {method.strip().splitlines()[0].strip(' ;')}" if code else ""
            for at, _, argument in code:
                if reference := _reference(argument, name[1]):
                    uses.append(Use(title, *reference, _guaranteed(code, at)))
                    in_code.add(reference)
        # What only the pool has is called through a method reference, outside of any check here.
        for kind, argument in re.findall(
            r"^ +#\d+ = (Fieldref|Methodref|InterfaceMethodref) .*?// (.*)$", pool, re.MULTILINE
        ):
            reference = _reference(f"{'Field' if kind == 'Fieldref' else 'Method'} {argument}", name[1])
            if reference is not None and reference not in in_code:
                uses.append(Use(name[1], *reference, OLDEST))
    return uses


def _instructions(method: str) -> list[tuple[int, str, str]]:
    """Returns the instructions of a method: offset, name, and argument or what javap says of it."""
    lines = re.findall(r"^ +(\d+): ([a-z_0-9]+)(?: +(.*))?$", method, re.MULTILINE)
    return [(int(at), name, argument.partition("// ")[2] or argument.strip()) for at, name, argument in lines]


def _reference(argument: str, own: str) -> tuple[str, str] | None:
    """Returns the owner and the member in what javap says of an instruction; None if it refers to none."""
    if found := re.match(r'class "?\[*L?([\w/$]+);?"?$', argument):
        return _dotted(found[1]), ""
    found = re.match(r'(?:Interface)?(Method|Field) (?:"?\[*L?([\w/$]+);?"?\.)?("?[\w$<>]+"?):(.*)$', argument)
    if found is None:
        return None
    owner = _dotted(found[2]) if found[2] else own
    name = owner.rpartition(".")[2] if found[3] == '"<init>"' else found[3]
    if found[1] == "Field":
        return owner, name
    return owner, f"{name}({', '.join(_parameters(found[4]))})"


def _dotted(name: str) -> str:
    return re.sub(r"[/$](?!\d)", ".", name)


def _parameters(descriptor: str) -> list[str]:
    found = re.findall(r"(\[*)(?:L([\w/$]+);|([BCDFIJSZ]))", descriptor[1 : descriptor.index(")")])
    return [
        (_dotted(name).rpartition(".")[2] if name else _PRIMITIVE[letter]) + "[]" * len(a) for a, name, letter in found
    ]


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
