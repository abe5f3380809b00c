"""Command serve: listens, as `listen` does, and serves a page of what is heard."""

from __future__ import annotations

import argparse
import contextlib
import os
import threading

from panns_litert.cli.listen import add_live_options, live_setup, summary
from panns_litert.cli.output import AddCommand, json_text, note
from panns_litert.live import DEFAULT_PORT, EVERYWHERE, Access, Controls, PageServer, PageSink, is_loopback, new_token
from panns_litert.prototypes import with_enrolled
from panns_litert.windows import StreamTagger

TOKEN_VARIABLE = "PANNS_LITERT_TOKEN"
"""Environment variable with the token of the page. Other users of the computer can read a command line."""


def add_commands(command: AddCommand) -> None:
    """Adds serve."""
    sub = command("serve", run_serve)
    add_live_options(sub)
    group = sub.add_argument_group("the page")
    group.add_argument(
        "--host",
        default="127.0.0.1",
        help="listen for browsers on this address of the computer; 0.0.0.0 for all of them (default %(default)s: only "
        "this computer sees the page)",
    )
    group.add_argument(
        "--port", type=int, default=DEFAULT_PORT, help="0 for any free one, which is printed (default %(default)s)"
    )
    group.add_argument(
        "--token",
        help=f"who has it sees the page; 16 or more letters and digits (default: {TOKEN_VARIABLE}; or for other hosts "
        "a new one, which is printed; or none)",
    )
    group.add_argument(
        "--name", action="append", default=[], help="one more name of this computer, such as that of a proxy"
    )


def run_serve(args: argparse.Namespace) -> int:
    """Runs `serve`: prints the address of the page, and listens. The page stays until Ctrl-C, or --seconds."""
    token = args.token or os.environ.get(TOKEN_VARIABLE) or (None if is_loopback(args.host) else new_token())
    Access(args.host, token=token, names=args.name)  # raises now, before the model is opened
    setup = live_setup(args)
    tagger, sense = setup.tagger, setup.sense
    stream = StreamTagger(tagger, hop=setup.hop)
    page = PageSink(
        sense.labels,
        model=tagger.bundle.manifest.model,
        window=stream.window,
        hop=stream.hop,
        sources=[source.name for source in setup.sources],
        clips=setup.clips,
    )
    listener = setup.listener(page)
    settings = with_enrolled(setup.settings.events, sense.labels_of(tagger.enrolled)) or setup.settings.events
    controls = Controls(sense.labels, settings, listener)
    with contextlib.ExitStack() as stack:
        for sink in setup.sinks:
            stack.callback(sink.close)  # if the page cannot be served; else the listener closes them
        server = PageServer(page, controls, host=args.host, port=args.port, token=token, names=args.name).__enter__()
        stack.pop_all()
        stack.push(server)
        _tell(args, server)
        try:
            listener.run(args.seconds)
        except BaseException:  # Ctrl-C, or an error: what was heard is told all the same
            with contextlib.suppress(OSError):
                summary(setup, listener)
            raise
        code = summary(setup, listener)
        failed = any(source.error for source in listener.listened.sources)
        if args.seconds is None and not failed:  # after an error, a service manager starts the program again
            note("the sound has ended; the page stays until Ctrl-C")
            with contextlib.suppress(KeyboardInterrupt):
                threading.Event().wait()
        return code


def _tell(args: argparse.Namespace, server: PageServer) -> None:
    """Prints the address of the page, and who can reach it."""
    print(json_text({"url": server.url}) if args.json else server.url, flush=True)
    if args.host in EVERYWHERE:
        note(f"{args.host}: on every network of this computer; who has the token sees the page")
    if not is_loopback(args.host):
        note("HTTP is not encrypted: beyond a network that you trust, put a proxy with TLS or a tunnel in front of it")
