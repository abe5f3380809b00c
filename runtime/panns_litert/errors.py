"""Errors for bad input, a broken file or a failed check.

Every error is a `PannsLitertError` and also the built-in type that fits it, so that callers can catch either. A message
says what was wrong, what was expected and what to do.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence


class PannsLitertError(Exception):
    """Base class of every error that this project raises on purpose."""


class SpecError(PannsLitertError, ValueError):
    """A front-end specification is not valid."""


class AudioError(PannsLitertError, ValueError):
    """Audio cannot be used: unreadable, empty, not finite, wrong dtype or rank."""


class StreamError(AudioError):
    """A network stream cannot be opened, or breaks off.

    Attributes:
        final: whether trying again will not help, as with a wrong password.
    """

    def __init__(self, message: str, *, final: bool = False) -> None:
        super().__init__(message)
        self.final = final


class BundleError(PannsLitertError, ValueError):
    """A bundle is incomplete, altered or of an unknown format."""


class LabelError(PannsLitertError, ValueError):
    """A class name is unknown, or scores do not fit the classes."""


class EventError(PannsLitertError, ValueError):
    """Thresholds, steps or windows of event detection are not valid."""


class WindowError(PannsLitertError, ValueError):
    """A window, its hop, or the method that joins windows is not valid."""


class ResultsError(PannsLitertError, OSError):
    """Results cannot be written, or would be mixed with results of other settings."""


class ManifestError(PannsLitertError, ValueError):
    """A manifest of recordings cannot be read, lacks required data, or cannot be divided as requested."""


class WorkerError(PannsLitertError, RuntimeError):
    """A worker process died repeatedly."""


class EmbeddingError(PannsLitertError, ValueError):
    """Embeddings cannot be compared, read or written, or an index of them is damaged."""


class MatchError(PannsLitertError, ValueError):
    """Two recordings cannot be matched: one is too short, or a setting is out of range."""


class PictureError(PannsLitertError, ValueError):
    """A picture or a page cannot be made: the file type is unknown, or there is nothing to show."""


class ModelError(PannsLitertError, ValueError):
    """A model name is unknown, or a network does not support the request."""


class DatasetError(PannsLitertError, ValueError):
    """Labelled clips cannot be used: a missing file, too few clips, labels that contradict, or a clip in two folds."""


class TrainingError(PannsLitertError, ValueError):
    """A setting of a training run is out of range, or its folder holds another training run."""


class PrototypeError(PannsLitertError, ValueError):
    """Prototypes cannot be read, or belong to another model."""


class CheckpointError(PannsLitertError, ValueError):
    """A checkpoint is truncated, altered, of another network, or not a checkpoint."""


class DownloadError(PannsLitertError, OSError):
    """A checkpoint or a bundle could not be downloaded, stored or uploaded."""


class ConversionError(PannsLitertError, RuntimeError):
    """The converter failed. The message names the log file."""


class ParityError(PannsLitertError, ArithmeticError):
    """At least one parity gate failed.

    Attributes:
        report: every figure that was measured.
        layers: the layers that cost the most accuracy, each with its cost; empty if they were not searched for.
    """

    def __init__(self, message: str, report: object = None, *, layers: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.report = report
        self.layers = tuple(layers)


class SettingsError(PannsLitertError, ValueError):
    """Settings are out of range, of another model, or chosen together with an option that says something else."""


class GpuError(PannsLitertError, RuntimeError):
    """The GPU does not run every operation of a graph, or computes wrong results."""


class GpuDriverError(GpuError):
    """The GPU delegate finds no driver that it can use. The message says what to install."""


class RecordError(PannsLitertError, ValueError):
    """A device record is missing, damaged, of another format or of another device."""


class BenchError(PannsLitertError, ValueError):
    """A setting of a measurement is out of range."""


class ServeError(PannsLitertError, OSError):
    """The local page cannot be served: its port is in use, its host is not of this computer, or it lacks a token."""


class MissingDependencyError(PannsLitertError, ImportError):
    """An optional part of the package is not installed."""


def why_failed(source: str, error: Exception) -> str:
    """Returns in one line why a recording failed, also for an exception that no code here raises on purpose.

    >>> why_failed("a.wav", MemoryError())
    'a.wav: MemoryError; expected a recording that this machine can hear'
    """
    text = " ".join(str(error).split())
    if isinstance(error, PannsLitertError) and text:
        return text
    what = f"{type(error).__name__}: {text}" if text else type(error).__name__
    return f"{source}: {what}; expected a recording that this machine can hear"


def install_extra(extra: str) -> str:
    """Returns what a message tells the user to do, for a clone as for a package of an index.

    >>> install_extra("plot")
    'install the extra plot (docs/install.md)'
    >>> install_extra("convert,train")
    'install the extras convert and train (docs/install.md)'
    """
    names = extra.split(",")
    return f"install the {'extra' if len(names) == 1 else 'extras'} {' and '.join(names)} (docs/install.md)"


@contextlib.contextmanager
def importing(package: str, *, extra: str, purpose: str, also: str = "") -> Iterator[None]:
    """Wraps the import of an optional package: if it fails, the error names the extra to install.

    Args:
        package: the package, as the message names it.
        extra: the extra of this distribution that installs it, such as "plot"; several are separated by commas.
        purpose: subject and verb in front of `package` in the message, such as "pictures need".
        also: what else to install, which no extra brings.

    Raises:
        MissingDependencyError: the package, or a library that it loads, cannot be imported.

    >>> with importing("matplotlib", extra="plot", purpose="pictures need"):
    ...     from matplotlib.figure import Figure
    """
    try:
        yield
    except (ImportError, OSError) as error:  # OSError: a shared library such as PortAudio is missing
        more = f" and {also}" if also else ""
        raise MissingDependencyError(
            f"{purpose} {package}, which cannot be imported ({error}); {install_extra(extra)}{more}"
        ) from error
