"""Writes files atomically: a reader sees the complete new file or the old one."""

from __future__ import annotations

import contextlib
import os
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
    ...     file.write(b"whole")
    """
    path = Path(path).absolute()
    try:
        # A file made by tempfile would be private; in a temporary folder it gets the permissions of any new file.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished.") as folder:
            unfinished = Path(folder) / "file"
            with unfinished.open("wb") as file:
                yield file
            os.replace(unfinished, path)
    except PannsLitertError:
        raise
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; expected a file that can be written") from error
