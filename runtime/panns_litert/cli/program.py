"""Program `panns-litert`: parses the command line, runs one command, and turns errors into exit codes.

Exit codes: 0 ok, 1 a check failed, 2 wrong usage or bad input, 130 interrupted. An error is one line on stderr.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import logging
import os
import shutil
import signal
import sys
import textwrap
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any, NoReturn

import panns_litert
from panns_litert.audio import AudioWarning, UnreadWarning
from panns_litert.cli.commands import COMMANDS
from panns_litert.cli.extensions import add_extension, add_unlisted_extensions
from panns_litert.cli.output import one_line
from panns_litert.cli.streams import end_stdout, end_stdout_soon, escaping, repair_streams
from panns_litert.errors import GpuDriverError, GpuError, PannsLitertError, ParityError, install_extra
from panns_litert.escape import escaped_lines
from panns_litert.interrupt import insisting
from panns_litert.words import did_you_mean

_COMPLETION = "--print-completion"


class _Parser(argparse.ArgumentParser):
    """A parser whose errors suggest the option that an unknown one resembles."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        known = [option for option in self._option_string_actions if option.startswith("--")]
        given = [word.partition("=")[0] for word in self._words if word.startswith("--")]
        for word in given:
            if not any(option.startswith(word) for option in known):  # argparse takes a beginning for the whole
                hint = did_you_mean(word, known)
                message += hint if word in message else hint.replace("; ", f"; {word}: ")
        # It repeats arguments, which may be names of files, or thousands of characters long.
        super().error(escaped_lines(message if len(message) <= 600 else f"{message[:300]} … {message[-300:]}"))


def build_parser(only: str | None = None) -> argparse.ArgumentParser:
    """Returns the parser of all commands, or of one command, which imports only the modules of that one.

    Args:
        only: name of a command in `COMMANDS`; all commands, and those of other packages, if None.
    """
    parser, commands = _frame()
    command = _adder(commands)
    wanted = COMMANDS if only is None else {only: COMMANDS[only]}
    modules = dict.fromkeys(entry.module for entry in wanted.values() if entry.module is not None)
    for module in modules:
        import_module(f"panns_litert.cli.{module}").add_commands(command)
    for extension in dict.fromkeys(entry.extension for entry in wanted.values() if entry.extension is not None):
        add_extension(extension, command)
    if only is None:
        add_unlisted_extensions(command)
    return parser


def _frame() -> tuple[_Parser, Any]:
    """Returns the parser of the options in front of the command, and its subparsers, of which there are none yet."""
    parser = _Parser(
        prog="panns-litert",
        description="Pretrained audio taggers as proven LiteRT bundles. "
        "Exit codes: 0 ok, 1 check failed, 2 bad input, 130 interrupted.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"panns-litert {panns_litert.__version__}")
    parser.add_argument("--verbose", action="store_true", help="log to stderr")
    shells = ("bash", "zsh", "tcsh")
    parser.add_argument(
        _COMPLETION,
        action=_PrintCompletion,
        choices=shells,
        metavar="SHELL",
        help="for bash, zsh or tcsh (needs shtab)",
    )
    return parser, parser.add_subparsers(
        dest="command", required=True, metavar="COMMAND", help="one of those below; COMMAND --help explains it"
    )


def _adder(commands: Any) -> Callable[..., argparse.ArgumentParser]:
    def command(name: str, run: Callable[[argparse.Namespace], int], text: str = "") -> argparse.ArgumentParser:
        text = text or COMMANDS[name].text
        sub: argparse.ArgumentParser = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--json", action="store_true", help="print only JSON on stdout")
        sub.set_defaults(run=run)
        return sub

    return command


def _overview() -> tuple[_Parser, dict[str, argparse.ArgumentParser]]:
    """Returns the parser for --help, whose own commands have no options, and the parsers of all commands."""
    parser, commands = _frame()
    for name in COMMANDS:
        commands.add_parser(name)
    add_unlisted_extensions(_adder(commands))
    listed = [(entry.group, name, entry.text) for name, entry in COMMANDS.items()]
    others = [(name, sub) for name, sub in commands.choices.items() if name not in COMMANDS]
    listed += [("of other packages", name, sub.description or "") for name, sub in others]
    parser.epilog = _listing(listed)
    return parser, commands.choices


def _listing(listed: Sequence[tuple[str, str, str]]) -> str:
    """Returns the commands, given by group, name and text, as lines for a terminal of any width."""
    width, column = max(shutil.get_terminal_size().columns - 2, 40), max(len(name) for _, name, _ in listed) + 4
    lines: list[str] = []
    for group, members in itertools.groupby(listed, key=lambda row: row[0]):
        lines += ["", f"{group}:"] if lines else [f"{group}:"]
        for _, name, text in members:
            start = f"  {name}".ljust(column)
            lines += textwrap.wrap(text, width, initial_indent=start, subsequent_indent=" " * column)
    return "\n".join(lines)


def _parse(words: Sequence[str]) -> argparse.Namespace:
    """Parses the words of a command line. On --help, and on an error, argparse raises SystemExit."""
    name = next((word for word in words if not word.startswith("-")), None)
    if any(word.startswith(_COMPLETION) for word in words[:1]):
        name = None  # a shell's name follows
    if name in COMMANDS:
        parser: argparse.ArgumentParser = build_parser(name)
        known = _commands(parser)
        if name not in known:
            parser.error(f"{name}: the package that has this command cannot be used; see the note above")
    else:
        parser, known = _overview()
        if name is not None and name not in known:
            parser.error(f"no command {name!r}{did_you_mean(name, known) or ';'} `panns-litert --help` lists them")
    args, unknown = parser.parse_known_args(words)
    if unknown:
        known[args.command].error(f"unrecognized arguments: {' '.join(unknown)}")
    return args


def _commands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """Returns the parsers of the commands by name."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return action.choices
    raise AssertionError("no commands")


class _PrintCompletion(argparse.Action):
    """Prints the completion of all commands for a shell, and ends the program."""

    def __call__(self, parser: argparse.ArgumentParser, _: Any, shell: Any, option: str | None = None) -> None:
        try:
            import shtab
        except ImportError:
            parser.error(f"{option} needs shtab; {install_extra('completion')}")
        print(shtab.complete(build_parser(), shell))
        parser.exit()


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Returns the exit code."""
    repair_streams()
    warnings.showwarning = _show_warning
    try:
        args = _parse(sys.argv[1:] if argv is None else list(argv))
    except SystemExit as stop:  # argparse has printed the error
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:  # while the command's modules were imported
        print("panns-litert: interrupted", file=sys.stderr)
        return 130
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
        entry = COMMANDS.get(args.command)
        # Only there: commands of the runtime write what they have when they are interrupted.
        with contextlib.nullcontext() if entry is None or entry.extension is None else insisting(kill_after=1.5):
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
        if not end_stdout_soon():
            os._exit(130)
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
