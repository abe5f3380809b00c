"""Files that are there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file, or leaves what was there: whoever is interrupted or out of space loses nothing.

    Raises:
        OSError: it cannot be written; the message names the file.
    """
    path = Path(path)
    name = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
            name = file.name
            file.write(data)
        os.chmod(name, 0o644)  # a temporary file is private
        os.replace(name, path)
    except BaseException as error:
        if name:
            Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            reason = f"{error.strerror}; what was there before is as it was; free some space or choose another folder"
            raise OSError(error.errno, reason, str(path)) from error
        raise
