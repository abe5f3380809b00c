"""Output of all commands: tables, JSON, notes, errors and progress."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from panns_litert.audio import AUDIO_SUFFIXES, MEDIA_SUFFIXES
from panns_litert.bundle import Check
from panns_litert.cli.streams import plain
from panns_litert.errors import ResultsError
from panns_litert.escape import escaped, escaped_json
from panns_litert.words import counted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

    from panns_litert.evaluate import Dataset, Figures, Skipped, Watch
    from panns_litert.proof import GpuReport
    from panns_litert.windows import LongTagging


class AddCommand(Protocol):
    """Adds a command, given its name, the function that runs it and a line of help, which `COMMANDS` has for its own.

    Returns the parser for the command's options.
    """

    def __call__(
        self, name: str, run: Callable[[argparse.Namespace], int], text: str = ""
    ) -> argparse.ArgumentParser: ...


def print_table(rows: Sequence[dict[str, str]], *, optional: Sequence[str]) -> None:
    """Prints rows as a table. On a narrow terminal, optional columns are left out, the last one first."""
    from rich import box
    from rich.cells import cell_len
    from rich.console import Console
    from rich.table import Table

    rows = [{column: escaped(text) for column, text in row.items()} for row in rows]
    columns = list(rows[0])
    width = {column: max(len(column), *(cell_len(row[column]) for row in rows)) + 3 for column in columns}
    # A pipe has no width, and a table must not be cut there.
    wide = None if sys.stdout.isatty() else max(200, sum(width.values()))
    console = Console(file=plain(sys.stdout), width=wide, markup=False, emoji=False)
    for column in reversed(optional):
        if sum(width[c] for c in columns if c != "gate") + 10 > console.width:
            columns.remove(column)
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(row[column] for column in columns))
    console.print(table)


def print_json(data: dict[str, Any]) -> int:
    """Prints an object on stdout. Returns exit code 0."""
    print(json_text(data, indent=2))
    return 0


def json_text(data: object, *, indent: int | None = None) -> str:
    """Returns data as JSON text for any reader: finite numbers, and no character that UTF-8 or stdout cannot encode."""
    text = escaped_json(json.dumps(data, indent=indent, ensure_ascii=False, allow_nan=False))
    if (sys.stdout.encoding or "utf-8").lower().replace("-", "") == "utf8":
        return text
    return json.dumps(json.loads(text), indent=indent)


def require_writable(path: Path) -> None:
    """Checks before long work that its result can be written to a file.

    Raises:
        ResultsError: the path is a folder, a device, a pipe or a recording, or its folder is missing or cannot be
            written.
    """
    if path.suffix.lower() in AUDIO_SUFFIXES | MEDIA_SUFFIXES and path.exists():
        raise ResultsError(f"{path}: a recording, which would be overwritten; expected another file")
    # These name descriptors of this process; descriptor 1 is not stdout (`repair_streams`).
    own = str(path.absolute()).startswith(("/dev/std", "/dev/fd/", "/proc/"))
    if own or (path.exists() and not path.is_file()):
        raise ResultsError(f"{path}: not a regular file; expected a file that can be written")
    try:
        with tempfile.TemporaryFile(dir=path.absolute().parent):
            pass
    except OSError as error:
        raise ResultsError(f"{path}: {error.strerror}; expected a file that can be written") from error


def note(text: str) -> None:
    """Prints a note on stderr."""
    print(f"note: {text}", file=sys.stderr)


def one_line(error: BaseException) -> str:
    """Returns the message of an error on one line."""
    lines = (line.strip() for line in str(error).splitlines())
    return escaped(" ".join(line for line in lines if line)) or type(error).__name__


def failure(source: str, error: BaseException) -> dict[str, Any]:
    """Prints the error of a recording on stderr. Returns it as a result in JSON types."""
    print(f"panns-litert: {one_line(error)}", file=sys.stderr)
    return {"source": escaped(source), "error": one_line(error)}


def progress_wanted(args: argparse.Namespace) -> bool:
    """Returns whether to show a progress bar: stderr is a terminal, and --json is not given."""
    return not args.json and sys.stderr.isatty()


def progress_bar(*columns: ProgressColumn, transient: bool = True) -> Progress:
    """Returns a progress bar on stderr. rich's default would also send stdout there; results must stay on stdout."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=plain(sys.stderr))
    return Progress(*columns, console=console, transient=transient, redirect_stdout=False)


@contextlib.contextmanager
def counting(args: argparse.Namespace, what: str, *, keep: bool = False) -> Iterator[Callable[[int, int], object]]:
    """Yields a function that takes how many are done and how many there are. On a terminal, it shows a progress bar.

    Args:
        args: options of the command.
        what: text beside the bar.
        keep: whether the bar stays on the terminal at the end.
    """
    if not progress_wanted(args):
        yield lambda done, total: None
        return
    with progress_bar(transient=not keep) as progress:
        task = progress.add_task(escaped(what), total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


@contextlib.contextmanager
def _console() -> Iterator[Console]:
    """Yields a console on a copy of stderr. Conversion redirects stderr itself, and progress must still be seen."""
    from rich.console import Console

    with os.fdopen(os.dup(2), "w", encoding="utf-8") as stream:
        yield Console(file=stream)


@contextlib.contextmanager
def steps(args: argparse.Namespace) -> Iterator[Callable[[str], None]]:
    """Yields a function that shows a step and its time on stderr; on a terminal, with a spinner."""
    if args.json:
        yield lambda _: None
        return
    with _console() as console:
        start = time.perf_counter()
        if not console.is_terminal:
            yield lambda step: console.print(f"[{time.perf_counter() - start:5.1f} s] {escaped(step)}", markup=False)
            return
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        with Progress(
            SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn(), console=console,
            redirect_stdout=False, redirect_stderr=False,
        ) as progress:  # fmt: skip
            running: list[Any] = []

            def report(step: str) -> None:
                if running:
                    progress.update(running[-1], total=1, completed=1)
                running.append(progress.add_task(escaped(step), total=None))

            yield report
            if running:
                progress.update(running[-1], total=1, completed=1)


def print_checks(checks: Sequence[Check]) -> None:
    """Prints a table of parity checks."""

    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    rows = [
        {
            "stage": check.stage,
            "output": check.output,
            "max abs": number(check.max_abs, ".1e"),
            "bound": f"{check.threshold['max_abs']:.1e}",
            "rmse": number(check.rmse, ".1e"),
            "corr": number(check.corr, ".7f"),
            "PSNR dB": number(check.psnr_db, ".1f"),
            "top-5": number(check.top5_agree, ".2f"),
            "gate": "passed" if check.passed else f"FAILED: {check.why}",
        }
        for check in checks
    ]
    print_table(rows, optional=("rmse", "PSNR dB", "top-5"))


@contextlib.contextmanager
def watching(args: argparse.Namespace) -> Iterator[Watch]:
    """Yields a function that shows progress on stderr: bars on a terminal, else a line per step.

    The name of a task may be followed by a colon and a text that changes: "training: epoch 12".
    """
    if args.json:
        yield lambda what, done, total: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    with _console() as console:
        start, tasks = time.perf_counter(), dict[str, Any]()
        if not console.is_terminal:

            def line(what: str, done: int, total: int) -> None:
                # Of a task whose text changes, only the first and the last are printed, but every step.
                task = what.split(": ")[0]
                if what not in tasks and (task not in tasks or not total or done == total):
                    tasks[what] = tasks[task] = True
                    of = f", {total}" if total and what == task else ""
                    console.print(
                        f"[{time.perf_counter() - start:5.1f} s] {escaped(what)}{of}", markup=False, soft_wrap=True
                    )

            yield line
            return
        text = TextColumn("{task.description}", markup=False)
        columns = (SpinnerColumn(), text, BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, TimeElapsedColumn(), console=console, redirect_stdout=False, redirect_stderr=False
        ) as progress:

            def end_steps() -> None:
                for task in progress.tasks:
                    if task.total is None:  # its spinner would turn for ever
                        progress.update(task.id, total=1, completed=1)
                    progress.stop_task(task.id)

            def bar(what: str, done: int, total: int) -> None:
                name = what.split(": ")[0]
                if name not in tasks:
                    end_steps()
                    tasks[name] = progress.add_task(escaped(what), total=total or None)
                progress.update(tasks[name], description=escaped(what), completed=done, total=total or None)

            yield bar
            end_steps()


DATA_HELP = "folder of class folders, or table: file, labels, fold; or another layout (docs/data.md)"
SHOWN_SKIPPED = 5


def print_skipped(skipped: Sequence[Skipped], *, repeated: int = 0) -> None:
    """Prints the first skipped files, the number of all if there are more, and how many files were repeated."""
    if repeated:
        note(f"{counted(repeated, 'file')} with the same bytes as another; each recording counts once")
    for one in skipped[:SHOWN_SKIPPED]:
        note(f"skipped {one.path}: {one.reason}")
    if len(skipped) > SHOWN_SKIPPED:
        note(f"skipped {counted(len(skipped), 'file')} in all")


def print_dataset(dataset: Dataset, advice: Sequence[str] = ()) -> None:
    """Prints what the data was taken for, what may be wrong with it, advice, and which files were skipped."""
    note(f"data: {dataset.layout}")
    for line in (*dataset.notes, *advice):
        note(escaped(line))
    print_skipped(dataset.skipped, repeated=dataset.repeated)


def print_figures(measured: Mapping[str, Figures]) -> None:
    """Prints a table with a row for every class that has clips and one for their mean, and columns for every engine."""
    rows = []
    first = next(iter(measured.values()))
    for k, one in enumerate(first.classes):
        if not one.clips:
            continue
        row = {"class": one.label, "clips": str(one.clips)}
        for name, found in measured.items():
            of = found.classes[k]
            row |= _columns(name, of.average_precision, of.auc, of.d_prime)
        rows.append(row)
    rows.append({"class": f"mean of {counted(first.heard_classes, 'class', 'classes')}", "clips": str(first.clips)})
    for name, found in measured.items():
        rows[-1] |= _columns(name, found.mean_ap, found.auc, found.d_prime)
    print_table(rows, optional=())
    accuracies = (
        f"{name} {_number(found.accuracy)} {ends(found.accuracy_interval)}" for name, found in measured.items()
    )
    print("accuracy " + ", ".join(text.strip() for text in accuracies))


def _columns(name: str, precision: float | None, auc: float | None, distance: float | None) -> dict[str, str]:
    return {f"{name} AP": _number(precision), f"{name} AUC": _number(auc), f"{name} d'": _number(distance)}


def ends(interval: tuple[float, float] | None) -> str:
    """Returns a 95 % confidence interval as text; an empty text without one.

    A bootstrap of clips that are all right, or all wrong, gives one number: it cannot tell how sure that is.
    """
    if interval is None:
        return ""
    return "(no interval)" if interval[0] == interval[1] else f"({interval[0]:.3f} – {interval[1]:.3f})"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def print_tagging(tagging: LongTagging) -> None:
    """Prints the tags of one recording."""
    times = f"front end {tagging.front_end_ms:.1f} ms, model {tagging.model_ms:.1f} ms, {tagging.engine}"
    count = f"{counted(tagging.windows, 'window')}; " if tagging.windows > 1 else ""
    print(f"{escaped(tagging.source)}  ({tagging.seconds:.1f} s; {count}{times})")
    for tag in tagging.tags:
        print(f"  {tag.score:6.3f}  {escaped(tag.label)}")
    print()


def residency(report: GpuReport) -> str:
    """Returns one line: whether all operators are on the GPU, and the names of the GPU and its driver."""
    where = f"{report.adapter or 'no adapter'}; driver: {report.driver or 'unknown'}"
    operators = counted(report.operators, "operator")
    if report.resident:
        return f"GPU: all {operators} resident, {report.arithmetic or 'nothing run'}, on {where}"
    return f"GPU: NOT resident, {operators}, on {where}"
