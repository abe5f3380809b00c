"""The program `panns-litert`: parses the command line, runs one command, turns errors into exit codes.

Exit codes: 0 ok, 1 a check failed, 2 usage or bad input. Errors are one line on stderr.
"""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence

from panns_litert.cli import batch, bench, evaluate, events, gpu, match, picture, tag
from panns_litert.cli.extensions import command_groups
from panns_litert.cli.output import one_line
from panns_litert.errors import GpuDriverError, GpuError, PannsLitertError, ParityError

GROUPS = (tag, events, picture, match, batch, evaluate, gpu, bench)
"""Modules with the commands of the runtime, in the order in which --help lists them; extensions follow."""


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="panns-litert",
        description="Pretrained audio taggers as proven LiteRT bundles. Exit codes: 0 ok, 1 check failed, 2 bad input.",
    )
    parser.add_argument("--verbose", action="store_true", help="log what happens to stderr")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print JSON, nothing else, on stdout")
        sub.set_defaults(run=run)
        return sub

    for group in (*GROUPS, *command_groups()):
        group.add_commands(command)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):  # a name or a dash that the terminal cannot show is no crash
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        args = build_parser().parse_args(argv)
    except SystemExit as stop:  # argparse has printed why
        return stop.code if isinstance(stop.code, int) else 2
    logging.basicConfig(
        level=logging.INFO if args.verbose else logging.WARNING, format="%(levelname)s %(message)s", stream=sys.stderr
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, _terminate)  # so that what is half done is cleaned up
    try:
        code: int = args.run(args)
        sys.stdout.flush()
        return code
    except PannsLitertError as error:
        print(f"panns-litert: {one_line(error)}", file=sys.stderr)
        failed = isinstance(error, (ParityError, GpuError)) and not isinstance(error, GpuDriverError)
        return 1 if failed else 2
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # disk full, no permission: the user's to mend
        print(f"panns-litert: {one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("panns-litert: interrupted", file=sys.stderr)
        return 130


def _terminate(*_: object) -> None:
    raise KeyboardInterrupt
