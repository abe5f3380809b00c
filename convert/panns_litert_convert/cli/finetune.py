"""The command for the user's own classes: finetune."""

from __future__ import annotations

import argparse
import contextlib
import io
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

from panns_litert.bundle import GRAPHS, PRECISIONS, QUANTIZED
from panns_litert.cli import (
    DATA_HELP,
    AddCommand,
    note,
    one_line,
    print_checks,
    print_dataset,
    print_figures,
    print_json,
    watching,
)
from panns_litert.errors import DatasetError, MissingDependencyError, ParityError, importing
from panns_litert.evaluate import HELD_OUT, advice
from panns_litert.proof import HELD_OUT_LOSSES
from panns_litert.strict import MOST_BYTES, read_text
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds finetune."""
    sub = command("finetune", run_finetune)
    sub.add_argument("--data", type=Path, required=True, help=DATA_HELP)
    sub.add_argument("--model", required=True, help="the base: a name that `models` lists")
    sub.add_argument("--checkpoint", type=Path, help="weights of the base, instead of a download")
    sub.add_argument("--out", type=Path, required=True, help="folder for all results; a second run resumes there")
    sub.add_argument("--classes", type=Path, metavar="FILE", help="the classes in output order, one per line")
    sub.add_argument("--seconds", type=float, help="length of a clip, 1 … 60 (default: the longest file, at most 10)")
    sub.add_argument("--held-out", metavar="FOLD", help="the fold of the CSV to evaluate on (default: the last)")
    sub.add_argument("--background", metavar="CLASS", help="class of the unannotated parts of annotated recordings")
    sub.add_argument("--move-duplicates", action="store_true", help="give the same sound in two folds one of them")
    sub.add_argument(
        "--precision",
        choices=PRECISIONS,
        nargs="+",
        help="one bundle for each (default: fp16, or fp32 if fp16 fails its gate)",
    )
    sub.add_argument("--graph", choices=GRAPHS, help="the graph's input (default: logmel where the network takes it)")
    sub.add_argument("--android", action="store_true", help="also write OUT/android, for the assets of an app")
    sub.add_argument("--licence", metavar="NAME", help="of your data and your work, beside that of the base")
    sub.add_argument("--attribution", metavar="TEXT", help="who made them; with --licence in the model card")
    group = sub.add_argument_group("training")
    group.add_argument("--unfrozen", action="store_true", help="train the whole network, not only its last layers")
    group.add_argument("--loss", choices=("bce", "ce"), help="bce, or cross entropy: one class per clip (default bce)")
    group.add_argument("--epochs", type=int, help="at most (default 200)")
    group.add_argument("--patience", type=int, help="epochs without improvement before it stops (default 20)")
    group.add_argument("--batch", type=int, help="clips per step (default 32)")
    group.add_argument("--learning-rate", type=float, help="of AdamW (default 2e-3, unfrozen 1e-4)")
    group.add_argument("--weight-decay", type=float, help="of AdamW (default 1e-3)")
    group.add_argument("--mixup", type=float, metavar="ALPHA", help="0 for no mixup (default 0.2)")
    boolean = argparse.BooleanOptionalAction
    group.add_argument("--spec-augment", action=boolean, default=None, help="only unfrozen: hide stripes (default yes)")
    group.add_argument("--balanced", action=boolean, default=None, help="draw every class equally often (default yes)")
    group.add_argument("--seed", type=int, help="the same seed gives the same weights (default 0)")


def run_finetune(args: argparse.Namespace) -> int:
    """`finetune`: trains on labelled clips and makes a proven bundle."""
    with importing("the converter", extra="convert", purpose="this needs"):
        from panns_litert_convert.training.finetune import ANDROID, METRICS, STATE, finetune
        from panns_litert_convert.training.loop import Settings
        from panns_litert_convert.training.picture import draw
    settings = Settings(**given(args, Settings))
    try:
        with resumable(args.out / STATE), watching(args) as watch:
            result = finetune(
                args.data,
                model=args.model,
                out=args.out,
                checkpoint=args.checkpoint,
                classes=_class_file(args.classes),
                seconds=args.seconds,
                held_out=args.held_out,
                precision=args.precision,
                graph=args.graph,
                licence=args.licence,
                attribution=args.attribution,
                android=args.android,
                settings=settings,
                background=args.background,
                move_duplicates=args.move_duplicates,
                watch=watch,
            )
    except ParityError as error:
        if isinstance(error.report, list) and not args.json:
            print_checks(error.report)
        raise
    drawn = None
    try:
        drawn = draw(result, args.out)
    except MissingDependencyError as error:
        note(f"no picture: {one_line(error)}")
    data = result.to_dict()
    if args.json:
        return print_json({"bundle": str(result.bundle.path), "passed": True} | data)
    for one in result.bundles:
        print_checks(one.bundle.manifest.parity)
        if one.fallback:
            note(f"float32 weights, since float16 weights fail their gate ({one.fallback})")
    print_dataset(result.dataset, advice(result.dataset))
    parts = ", ".join(f"{fold} {counted(count, 'clip')}" for fold, count in data["clips"].items())
    early = "" if result.epochs == settings.epochs else f" ({settings.patience} without improvement)"
    print(f"{parts}; {counted(result.epochs, 'epoch')} of at most {settings.epochs}{early}, best {result.best_epoch}")
    if result.torch:
        names = {one.bundle.manifest.precision: one for one in result.bundles}
        of_tflite = {f"tflite {name}" if len(names) > 1 else "tflite": one.tflite for name, one in names.items()}
        print_figures({"torch": result.torch} | {name: found for name, found in of_tflite.items() if found})
        for precision, one in names.items():
            if one.largest_difference is not None:
                print(f"largest difference of a held-out probability, {precision}: {one.largest_difference:.1e}")
            _note_coarse(precision, data["clips"][HELD_OUT])
    else:
        note("no clip was held out, so there are no figures; expected at least two clips of a class")
    files = ", ".join(str(path) for path in (args.out / METRICS, drawn) if path is not None)
    classes = counted(len(result.dataset.classes), "class", "classes")
    print(f"{', '.join(str(one.bundle.path) for one in result.bundles)}: {classes}, every stage passed; {files}")
    if args.android:
        name = result.bundle.path.name
        print(f'copy {args.out / ANDROID / name} to src/main/assets/{name}; SoundTagger.open(context, "{name}")')
    return 0


def _note_coarse(precision: str, clips: int) -> None:
    """Says what the bound of a quantized bundle's loss means if it is less than one held-out clip."""
    if precision in QUANTIZED and (loss := HELD_OUT_LOSSES[precision]) * clips < 1.0:
        note(
            f"one of {counted(clips, 'held-out clip')} is {1.0 / clips:.1%} of the accuracy: {precision}, which may "
            f"lose {loss:.1%}, may lose none"
        )


def _class_file(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    what = "a text file in UTF-8 with one class per line"
    text = read_text(path, error=DatasetError, what=what, most_bytes=MOST_BYTES)
    names = [line.strip() for line in io.StringIO(text, newline=None) if line.strip()]
    if len(names) < 2 or len(set(names)) != len(names):
        raise DatasetError(f"{path}: {counted(len(names), 'class', 'classes')}; expected at least two, each once")
    return names


def given(args: argparse.Namespace, settings: Any) -> dict[str, Any]:
    """Returns the options of the command line that are fields of the dataclass `settings` and were given."""
    values = {field.name: getattr(args, field.name) for field in fields(settings)}
    return {name: value for name, value in values.items() if value is not None}


@contextlib.contextmanager
def resumable(state: Path) -> Iterator[None]:
    """On Ctrl-C in the block, says that the file `state` keeps the training."""
    try:
        yield
    except KeyboardInterrupt:
        if state.exists():
            note(f"{state} keeps the training; the same command resumes it")
        raise
