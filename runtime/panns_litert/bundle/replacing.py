"""Replaces a folder by another one, so that a reader, a crash or a second writer never meets half of it."""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path

from panns_litert.atomic import exchange, writing
from panns_litert.errors import BundleError


class Replacement:
    """A folder that is written beside a target, as `.NAME.new`, and takes its place. A lock admits one writer.

    Where two folders cannot be exchanged in one step, the old one becomes `.NAME.old` for a moment. If the process ends
    in this moment, `recover` brings it back.

    Args:
        target: the folder, resolved.

    Raises:
        BundleError: another process writes the same folder, or the folder around it cannot be written.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self._new, self._old = _beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"{target}: {reason}; expected a folder that can be written") from error
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(writing(target, error=BundleError, keep=False))
        _bring_back(target)

    def begin(self) -> Path:
        """Makes the folder to write into, and removes what a killed process left. Returns the folder."""
        try:
            _remove(self._new)
            _remove(self._old)
            self._new.mkdir()
        except OSError as error:
            raise BundleError(f"{self._new}: {error.strerror}; expected a folder that can be written") from error
        return self._new

    def finish(self) -> None:
        """Puts the new folder in the target's place, and removes the old one."""
        for path in (*self._new.iterdir(), self._new):
            _flush(path)
        if not self._target.exists():
            os.rename(self._new, self._target)
        elif not exchange(self._new, self._target):
            os.rename(self._target, self._old)
            os.rename(self._new, self._target)
        _flush(self._target.parent)
        _remove(self._new)
        _remove(self._old)

    def close(self) -> None:
        """Removes what was not put in place, and lets other processes write."""
        _bring_back(self._target)
        shutil.rmtree(self._new, ignore_errors=True)
        self._stack.close()


def recover(target: Path) -> bool:
    """Brings back a folder whose replacement was interrupted between its two steps.

    Returns:
        Whether the folder may be there now: it was brought back, or another process is replacing it at this moment.
    """
    try:
        target = target.resolve()
        _, old = _beside(target)
        if target.exists() or not old.is_dir():
            return False
        with writing(target, error=BundleError, keep=False):
            _bring_back(target)
    except BundleError:  # another process writes it
        return True
    except (OSError, ValueError, RuntimeError):  # NUL in the path, no name, a loop of links
        return False
    return target.exists()


def _beside(target: Path) -> tuple[Path, Path]:
    """Returns the hidden new folder and old folder of a target."""
    return target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")


def _bring_back(target: Path) -> None:
    _, old = _beside(target)
    if old.is_dir() and not target.exists():
        os.rename(old, target)


def _remove(path: Path) -> None:
    if path.is_symlink() or path.is_file():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _flush(path: Path) -> None:
    """Writes a file or the names in a folder to the disk, so that a power failure cannot leave a name without content.

    Only POSIX systems let a folder be opened for that.
    """
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
