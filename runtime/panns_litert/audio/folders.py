"""Finds the recordings in a folder."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import NamedTuple

import soundfile

from panns_litert.audio.media import MEDIA_SUFFIXES, has_media
from panns_litert.errors import AudioError, install_extra

AUDIO_SUFFIXES = frozenset(
    {f".{name.lower()}" for name in soundfile.available_formats()}
    | {".8svx", ".aif", ".aifc", ".amb", ".bwf", ".fap", ".iff", ".mp2", ".mpga", ".oga", ".opus", ".snd", ".sph"}
    | {".wave"}
) - {".raw"}
"""Suffixes of the files in a folder that libsndfile reads, in lower case. `.raw` is left out: such a file does not
state its format."""

# Suffixes of sound that is not read: raw samples, notes, and formats that nothing here decodes.
_OTHER = frozenset({".raw", ".pcm", ".mid", ".midi", ".aax", ".aa", ".dss", ".m4p", ".rx2", ".vox", ".gsm"})
_NAMED = 3  # files that a message names


class UnreadWarning(UserWarning):
    """A folder has files that look like audio and are not read."""


class Folder(NamedTuple):
    """The files of a folder and its subfolders, sorted by path.

    Attributes:
        audio: files that count as audio by their suffix.
        unread: files that look like audio and are not read, and folders that cannot be read.
    """

    audio: list[Path]
    unread: list[Path]

    @property
    def note(self) -> str | None:
        """A sentence about the files that are not read; None if there are none."""
        if not self.unread:
            return None
        names = ", ".join(str(path) for path in self.unread[:_NAMED])
        more = ", …" if len(self.unread) > _NAMED else ""
        remedy = ""
        if not has_media() and any(path.suffix.lower() in MEDIA_SUFFIXES for path in self.unread):
            remedy = f"; for AAC, M4A, MP4, WebM, WMA and AMR {install_extra('media')}"
        return f"not read, but looks like audio ({len(self.unread)}): {names}{more}{remedy}"


def scan_folder(folder: str | os.PathLike[str]) -> Folder:
    """Lists a folder and its subfolders. Hidden files and folders are left out; a linked folder is followed once."""
    found, seen = Folder([], []), set[tuple[int, int]]()

    suffixes = AUDIO_SUFFIXES | MEDIA_SUFFIXES if has_media() else AUDIO_SUFFIXES

    def failed(error: OSError) -> None:
        found.unread.append(Path(error.filename))

    for base, folders, files in os.walk(folder, followlinks=True, onerror=failed):
        status = os.stat(base)
        if (status.st_dev, status.st_ino) in seen:
            folders.clear()
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(base, name) for name in files if not name.startswith(".")):
            suffix = path.suffix.lower()
            if suffix in suffixes and path.is_file():
                found.audio.append(path)
            elif suffix in AUDIO_SUFFIXES | MEDIA_SUFFIXES | _OTHER:
                found.unread.append(path)
    found.audio.sort()
    found.unread.sort()
    return found


def audio_files(folder: str | os.PathLike[str]) -> list[Path]:
    """Returns the audio files of a folder and its subfolders, chosen by their suffix and sorted by path.

    Hidden files and folders are left out. Warns with `UnreadWarning` of files that look like audio and are not read.

    Raises:
        AudioError: the folder has no audio file.
    """
    found = scan_folder(folder)
    if not found.audio:
        raise no_audio(folder, found)
    if found.note:
        warnings.warn(f"{os.fspath(folder)}: {found.note}", UnreadWarning, stacklevel=2)
    return found.audio


def no_audio(folder: str | os.PathLike[str], found: Folder) -> AudioError:
    """Returns the error of a folder without audio."""
    note = f" ({found.note})" if found.note else ""
    return AudioError(f"{folder}: no audio file in this folder{note}; expected some (.wav, .flac, .ogg, .mp3, …)")
