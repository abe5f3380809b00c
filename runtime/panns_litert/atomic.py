"""Writes files atomically, and by one process at a time: a reader sees the complete new file or the old one."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from panns_litert.errors import PannsLitertError, ResultsError


@contextlib.contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[BinaryIO]:
    """Opens a new file that replaces `path` at the end of the block. If the block fails, `path` stays as it was.

    Raises:
        ResultsError: the folder is missing or not writable, or the disk is full.

    >>> with replacing("page.html") as file:
    ...     _ = file.write(b"whole")
    """
    path = Path(path).absolute()
    try:
        # A file made by tempfile would be private; in a temporary folder it gets the permissions of any new file.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=_prefix(path)) as folder:
            unfinished = Path(folder) / "file"
            with unfinished.open("wb") as file:
                yield file
            os.replace(unfinished, path)
    except PannsLitertError:
        raise
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; expected a file that can be written") from error


def remove_unfinished(path: str | os.PathLike[str]) -> None:
    """Removes what killed runs of `replacing` left beside `path`. The caller must hold the lock of all its writers."""
    path = Path(path).absolute()
    left = re.compile(re.escape(_prefix(path)) + r"\w{8}")
    for folder in path.parent.iterdir():
        if left.fullmatch(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def _prefix(path: Path) -> str:
    """Returns how the temporary folders of `replacing` start; a very long name does not fit into theirs."""
    return f".unfinished.{path.name}." if len(os.fsencode(path.name)) <= 200 else ".unfinished_."


@contextlib.contextmanager
def writing(
    path: str | os.PathLike[str],
    *,
    wait: float = 0.0,
    error: type[PannsLitertError] = ResultsError,
    keep: bool = True,
) -> Iterator[None]:
    """Locks an output that the block reads and continues, or rewrites: no other process or thread has it meanwhile.

    The lock is on an empty file `.NAME.lock` beside the output. The system frees it if the process dies. Do not nest
    two for one output.

    Args:
        path: the output, which need not exist; its folder must. For a folder of files, one file of it that every writer
            names. A device or a pipe has no lock.
        wait: seconds to wait for another writer, ≥ 0.
        error: type of the error to raise.
        keep: whether the empty file stays. A process that waits for a file that is removed finds out and asks again.

    Raises:
        PannsLitertError: of type `error`: another process or thread writes the output, or it cannot be locked.

    >>> with writing("sounds.json"):
    ...     pass
    """
    from filelock import FileLock, Timeout  # late: only what writes needs it

    lock, file = None, Path()
    try:
        path = Path(path).resolve()  # two names of one output have one lock
        file = path.with_name(f".{path.name}.lock")
        if _is_file_or_folder(path):
            path.parent.stat()  # filelock would make a missing folder
            lock = FileLock(file, mode=0o666)
            lock.acquire(timeout=wait)
    except Timeout as taken:
        if not file.exists():  # a file system that lets nobody create it, such as /proc
            raise error(f"{path}: no lock; expected a folder that can be written") from taken
        raise error(
            f"{path}: another run is writing it; expected one at a time: wait until that ends, or choose another output"
        ) from taken
    except (OSError, ValueError, RuntimeError, NotImplementedError) as reason:  # a loop of links, no locks on this disk
        why = getattr(reason, "strerror", None) or reason
        raise error(f"{path}: cannot be locked ({why}); expected a folder that can be written") from reason
    try:
        yield
    finally:
        if lock is not None:
            if not keep:
                file.unlink(missing_ok=True)  # while it is held
            lock.release()


def _is_file_or_folder(path: Path) -> bool:
    """Whether a path is a file, a folder or nothing yet, and no device or pipe.

    One call tells: between two, another writer may make the file, and it would be taken for a device.
    """
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return True
    return stat.S_ISREG(mode) or stat.S_ISDIR(mode)


_AT_FDCWD, _RENAME_EXCHANGE = -100, 2  # linux/fcntl.h, linux/fs.h


def exchange(one: Path, other: Path) -> bool:
    """Exchanges two files or folders in one step. Returns False, without a change, where the system cannot do it.

    Linux can, on most file systems (renameat2).
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # a C library from before 2018
        return False
    return not rename(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
