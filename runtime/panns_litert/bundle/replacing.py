"""Replaces a folder by another one, so that a reader, a crash or a second writer never meets half of it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import filelock

from panns_litert.atomic import exchange
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
        self._new, self._old, lock = _beside(target)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            self._lock = filelock.FileLock(lock, timeout=0, mode=0o666)
            self._lock.acquire()
        except filelock.Timeout as error:
            if not lock.exists():  # a file system that lets nobody create it, such as /proc
                raise BundleError(f"{target}: no lock; expected a folder that can be written") from error
            raise BundleError(
                f"{target} is being written by another process; wait until it is done, or choose another folder"
            ) from error
        except (OSError, NotImplementedError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BundleError(f"{target}: {reason}; expected a folder that can be written") from error
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
        # Removed while it is held: a process that waits for the removed file finds out and asks again.
        Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()


def recover(target: Path) -> bool:
    """Brings back a folder whose replacement was interrupted between its two steps.

    Returns:
        Whether the folder may be there now: it was brought back, or another process is replacing it at this moment.
    """
    try:
        target = target.resolve()
        _, old, lock = _beside(target)
        if target.exists() or not old.is_dir():
            return False
        with filelock.FileLock(lock, timeout=0, mode=0o666):
            _bring_back(target)
            lock.unlink(missing_ok=True)
    except filelock.Timeout:
        return True
    except (
        OSError,
        ValueError,
        RuntimeError,
    ):  # NUL in the path, no name, a loop of links
        return False
    return target.exists()


def _beside(target: Path) -> tuple[Path, Path, Path]:
    """Returns the hidden new folder, old folder and lock of a target."""
    new, old, lock = (target.with_name(f".{target.name}.{kind}") for kind in ("new", "old", "lock"))
    return new, old, lock


def _bring_back(target: Path) -> None:
    _, old, _ = _beside(target)
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
