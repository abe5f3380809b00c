"""Program `panns-litert`: parses the command line, runs one command, and turns errors into exit codes.

Exit codes: 0 ok, 1 a check failed, 2 wrong usage or bad input. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import NoReturn

from panns_litert.audio import AudioWarning, UnreadWarning
from panns_litert.cli import batch, bench, evaluate, events, gpu, hub, match, picture, tag
from panns_litert.cli.extensions import add_extensions
from panns_litert.cli.output import one_line
from panns_litert.cli.streams import end_stdout, escaping, repair_streams
from panns_litert.errors import GpuDriverError, GpuError, PannsLitertError, ParityError
from panns_litert.escape import escaped_lines

GROUPS = (tag, events, picture, match, batch, evaluate, gpu, bench, hub)
"""Modules with the commands of the runtime, in the order of --help. The commands of extensions follow."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        # It repeats arguments, which may be names of files, or thousands of characters long.
        super().error(escaped_lines(message if len(message) <= 600 else f"{message[:300]} … {message[-300:]}"))


def build_parser() -> argparse.ArgumentParser:
    """Returns the parser of all commands."""
    parser = _Parser(
        prog="panns-litert",
        description="Pretrained audio taggers as proven LiteRT bundles. Exit codes: 0 ok, 1 check failed, 2 bad input.",
    )
    parser.add_argument("--verbose", action="store_true", help="log to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print only JSON on stdout")
        sub.set_defaults(run=run)
        return sub

    for group in GROUPS:
        group.add_commands(command)
    add_extensions(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    repair_streams()
    warnings.showwarning = _show_warning
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed the error
        return stop.code if isinstance(stop.code, int) else 2
    try:
        with escaping():
            return _run(args)
    except KeyboardInterrupt:  # while an error was handled, or the streams were closed
        return 130


def _run(args: argparse.Namespace) -> int:
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    logging.getLogger("huggingface_hub").propagate = False  # it has a handler of its own
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # so that unfinished files are removed
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader, such as `head`, has closed the pipe
        end_stdout()
        return 0
    except (PannsLitertError, OSError) as error:  # OSError: for example disk full, no permission
        print(f"panns-litert: {one_line(error)}", file=sys.stderr)
        end_stdout()
        failed = isinstance(error, (ParityError, GpuError)) and not isinstance(error, GpuDriverError)
        return 1 if failed else 2
    except MemoryError:
        print("panns-litert: not enough memory; expected a shorter recording or a machine with more", file=sys.stderr)
        end_stdout()
        return 2
    except KeyboardInterrupt:
        print("panns-litert: interrupted", file=sys.stderr)
        end_stdout()
        return 130


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: object = None,
) -> None:
    """Prints a warning of this package as a note; others with their place in the code."""
    ours = issubclass(category, (AudioWarning, UnreadWarning))
    print(f"note: {message}" if ours else f"{filename}:{line}: {category.__name__}: {message}", file=sys.stderr)


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt
