"""Files that are there whole or not at all."""

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
    """A file to write that takes the place of `path` at the end of the block; if the block fails, `path` is as it was.

    Raises:
        ResultsError: the folder is missing or not to be written, the disk is full.

    >>> with replacing("page.html") as file:
    ...     file.write(b"whole")
    """
    path = Path(path).absolute()
    try:
        # A folder of its own: within it the file gets the permissions that any new file gets.
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".unfinished.") as folder:
            unfinished = Path(folder) / "file"
            with unfinished.open("wb") as file:
                yield file
            os.replace(unfinished, path)
    except PannsLitertError:
        raise
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; expected a file that can be written") from error
