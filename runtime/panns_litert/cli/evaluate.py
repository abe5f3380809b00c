"""The commands for the user's own sounds: finetune, evaluate, enroll."""

from __future__ import annotations

import argparse
import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from panns_litert.audio import audio_files
from panns_litert.bundle import PRECISIONS, file_sha256
from panns_litert.cli.convert import bundle_for, convert_package, print_checks
from panns_litert.cli.options import add_model_options, open_tagger
from panns_litert.cli.output import AddCommand, note, one_line, print_json, print_table
from panns_litert.errors import (
    AudioError,
    BundleError,
    DatasetError,
    MissingDependencyError,
    ParityError,
    PrototypeError,
)
from panns_litert.evaluate import Dataset, Figures, Skipped, Watch, evaluate, figures, plot_worst, read_dataset, score
from panns_litert.search import Prototypes, prototypes_path
from panns_litert.tagger import ENGINES, Tagger
from panns_litert.windows import tag_long

_SHOWN_SKIPPED = 5


def add_commands(command: AddCommand) -> None:
    """Adds finetune, evaluate and enroll."""
    sub = command("finetune", run_finetune, "Teach a model your own classes; ends with a proven bundle of them.")
    sub.add_argument("--data", type=Path, required=True, help="a folder for each class, or a CSV: file, labels, fold")
    sub.add_argument("--model", required=True, help="the base, as `models` lists it")
    sub.add_argument("--checkpoint", type=Path, help="weights of the base, no download")
    sub.add_argument("--out", type=Path, required=True, help="folder for everything; run again, it goes on there")
    sub.add_argument("--classes", type=Path, metavar="FILE", help="the classes in their order, one a line")
    sub.add_argument("--seconds", type=float, help="of a clip, 1 … 60 (default: the longest file's, at most 10)")
    sub.add_argument("--held-out", metavar="FOLD", help="the fold of the CSV that is kept aside (default: the last)")
    sub.add_argument("--precision", choices=PRECISIONS, help="default fp16, or fp32 where that is outside its gate")
    group = sub.add_argument_group("training")
    group.add_argument("--unfrozen", action="store_true", help="the whole network learns, not its last layers alone")
    group.add_argument("--loss", choices=("bce", "ce"), help="bce (default), or cross entropy of one class per clip")
    group.add_argument("--epochs", type=int, help="at most (default 200)")
    group.add_argument("--patience", type=int, help="epochs without progress before it stops (default 20)")
    group.add_argument("--batch", type=int, help="clips per step (default 32)")
    group.add_argument("--learning-rate", type=float, help="default 2e-3, unfrozen 1e-4")
    group.add_argument("--weight-decay", type=float, help="default 1e-3")
    group.add_argument("--mixup", type=float, metavar="ALPHA", help="default 0.2; 0 for none")
    boolean = argparse.BooleanOptionalAction
    group.add_argument("--spec-augment", action=boolean, default=None, help="unfrozen only (default yes)")
    group.add_argument("--balanced", action=boolean, default=None, help="every class equally often (default yes)")
    group.add_argument("--seed", type=int, help="the same seed gives the same weights (default 0)")

    sub = command("evaluate", run_evaluate, "Measure a bundle on labelled clips: mAP, AUC, d-prime, accuracy.")
    sub.add_argument("--data", type=Path, required=True, help="a folder for each class, or a CSV: file, labels, fold")
    sub.add_argument("--fold", help="only the clips of that fold of the CSV")
    sub.add_argument("--bundle", type=Path, help="folder of a bundle")
    sub.add_argument("--model", help="use the cached bundle of this model; convert it first if need be")
    sub.add_argument("--engine", nargs="+", choices=ENGINES, default=["cpu"], help="one or several (default cpu)")
    sub.add_argument("--threads", type=int, help="default: all cores")
    sub.add_argument("--checkpoint", type=Path, help="what the bundle was made from: PyTorch's figures beside it")
    sub.add_argument("--plot", type=Path, metavar="FILE", help="a picture of the classes that are found worst")

    sub = command("enroll", run_enroll, "Add a class to a bundle from a few clips, without training.")
    sub.add_argument("name", help="of the class; the same name again replaces it")
    sub.add_argument("clips", nargs="+", help="audio files and folders")
    add_model_options(sub)
    sub.add_argument("--prototypes", type=Path, help="file of the classes (default: BUNDLE.prototypes.json)")
    sub.add_argument("--test", type=Path, metavar="DATA", help="labelled clips that were not enrolled: the accuracy")


def run_finetune(args: argparse.Namespace) -> int:
    """`finetune`: labelled clips to a proven bundle."""
    with convert_package():
        from panns_litert_convert.training.finetune import METRICS, STATE, finetune
        from panns_litert_convert.training.loop import Settings
        from panns_litert_convert.training.picture import draw
    names = ("unfrozen", "loss", "epochs", "patience", "batch", "learning_rate", "weight_decay", "mixup")
    given = {name: getattr(args, name) for name in (*names, "spec_augment", "balanced", "seed")}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})
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
                settings=settings,
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
    print_checks(result.bundle.manifest.parity)
    _print_skipped(result.dataset)
    if result.fallback:
        note(f"float32 weights, since float16 ones are outside their gate ({result.fallback})")
    parts = ", ".join(f"{count} {fold}" for fold, count in data["clips"].items())
    print(f"{parts}; {result.epochs} epochs, the best was {result.best_epoch}")
    if result.torch and result.tflite and result.largest_difference is not None:
        _print_figures({"torch": result.torch, "tflite": result.tflite})
        print(f"largest difference of a held-out probability: {result.largest_difference:.1e}")
    else:
        note("no clip was held out, so there are no figures; expected at least two clips of a class")
    files = ", ".join(str(path) for path in (args.out / METRICS, drawn) if path is not None)
    print(f"{result.bundle.path}: {len(result.dataset.classes)} classes, every stage passed; {files}")
    return 0


def run_evaluate(args: argparse.Namespace) -> int:
    """`evaluate`: figures of a bundle, an engine after the other."""
    measured: dict[str, Figures] = {}
    dataset: Dataset | None = None
    if args.bundle is not None and args.model is not None:
        raise BundleError("--bundle and --model together; expected one of them")
    chosen = bundle_for(args)
    with watching(args) as watch:
        for engine in dict.fromkeys(args.engine):
            with Tagger(chosen, engine=engine, threads=args.threads) as tagger:
                if dataset is None:
                    dataset = read_dataset(args.data, classes=tagger.labels)
                    dataset = dataset if args.fold is None else dataset.of_fold(args.fold)
                measured[f"tflite {tagger.engine}"], dataset = evaluate(tagger, dataset, watch=watch)
        if dataset is None:
            raise DatasetError("no engine; expected at least one")
        if args.checkpoint is not None:
            with convert_package():
                from panns_litert_convert.training.finetune import checkpoint_scores
            manifest = tagger.bundle.manifest
            probs, dataset = checkpoint_scores(
                dataset, model=manifest.model, checkpoint=args.checkpoint, seconds=manifest.clip_seconds, watch=watch
            )
            measured = {"torch": figures(probs, dataset.truth(), dataset.classes)} | measured
    if args.plot is not None:
        plot_worst(next(reversed(measured.values())), args.plot)
    if args.json:
        rows = {name: found.to_dict() for name, found in measured.items()}
        return print_json({"bundle": str(tagger.bundle.path), "figures": rows, "skipped": _skipped_rows(dataset)})
    _print_figures(measured)
    _print_skipped(dataset)
    print(f"{tagger.bundle.path}: {len(dataset.clips)} clips")
    return 0


def run_enroll(args: argparse.Namespace) -> int:
    """`enroll`: clips to a prototype beside the bundle."""
    if args.prototypes is None and args.bundle is None and args.model is None:
        raise PrototypeError("the demo bundle belongs to the package; expected --bundle, --model or --prototypes FILE")
    tagger = open_tagger(args)
    path = args.prototypes or prototypes_path(tagger.bundle)
    known = Prototypes.read(path) if path.exists() else Prototypes.of_bundle(tagger.bundle)
    known.require_model(tagger.bundle)
    files = [file for name in args.clips for file in (audio_files(name) if Path(name).is_dir() else [Path(name)])]
    embeddings, skipped = [], []
    for file in files:
        try:
            embeddings.append(_embedding(tagger, file))
        except AudioError as error:
            skipped.append(Skipped(path=file, reason=str(error)))
    if not embeddings:
        raise AudioError(f"none of {len(files)} clips can be used; {skipped[0].reason}")
    known = known.enroll(args.name, np.stack(embeddings))
    accuracy, tested = None, None
    if args.test is not None:
        tested = read_dataset(args.test, classes=known.labels)
        accuracy, tested = _accuracy(tagger, known, tested, enrolled=files)
    known.write(path)
    new = known.classes[-1]
    if args.json:
        data: dict[str, Any] = {"prototypes": str(path), "name": new.name, "count": new.count}
        data |= {"threshold": new.threshold, "classes": list(known.labels), "accuracy": accuracy}
        data["skipped"] = [{"file": str(one.path), "reason": one.reason} for one in skipped]
        return print_json(data | {"tested": len(tested.clips) if tested else 0})
    for one in skipped[:_SHOWN_SKIPPED]:
        note(f"skipped {one.path}: {one.reason}")
    print(f"{path}: {new.name!r} from {new.count} clips ({len(skipped)} skipped), threshold {new.threshold:.3f}; "
          f"{len(known.classes)} classes")  # fmt: skip
    if accuracy is not None and tested is not None:
        print(f"nearest class right for {accuracy:.1%} of {len(tested.clips)} clips that were not enrolled")
    return 0


def _embedding(tagger: Tagger, file: Path) -> np.ndarray[Any, np.dtype[np.float32]]:
    return tag_long(tagger, file, top=1).embedding


def _accuracy(
    tagger: Tagger, prototypes: Prototypes, dataset: Dataset, *, enrolled: Sequence[Path]
) -> tuple[float, Dataset]:
    """Share of labelled clips whose nearest prototype is one of their classes, and the clips that could be read."""
    used = {file_sha256(file) for file in enrolled if file.is_file()}
    if both := [clip.path for clip in dataset.clips if clip.sha256 in used]:
        raise DatasetError(f"{both[0]} is enrolled and tested; expected other clips to test with")
    scores, dataset = score(dataset, lambda clip: prototypes.scores(_embedding(tagger, clip.path)))
    right = [dataset.classes[row.argmax()] in clip.labels for row, clip in zip(scores, dataset.clips, strict=True)]
    return float(np.mean(right)), dataset


def _class_file(path: Path | None) -> list[str] | None:
    if path is None:
        return None
    try:
        names = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: {error}; expected a text file, a class a line") from error
    if len(names) < 2 or len(set(names)) != len(names):
        raise DatasetError(f"{path}: {len(names)} classes; expected at least two, each once")
    return names


def _print_figures(measured: Mapping[str, Figures]) -> None:
    """Every class and their mean, for every engine side by side."""
    rows = []
    first = next(iter(measured.values()))
    for k, one in enumerate(first.classes):
        row = {"class": one.label, "clips": str(one.clips)}
        for name, found in measured.items():
            of = found.classes[k]
            row |= _columns(name, of.average_precision, of.auc, of.d_prime)
        rows.append(row)
    rows.append({"class": "all", "clips": str(first.clips)})
    for name, found in measured.items():
        rows[-1] |= _columns(name, found.mean_ap, found.auc, found.d_prime)
    print_table(rows, optional=())
    print("accuracy " + ", ".join(f"{name} {_number(found.accuracy)}" for name, found in measured.items()))


def _columns(name: str, precision: float | None, auc: float | None, distance: float | None) -> dict[str, str]:
    return {f"{name} AP": _number(precision), f"{name} AUC": _number(auc), f"{name} d'": _number(distance)}


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _skipped_rows(dataset: Dataset) -> list[dict[str, str]]:
    return [{"file": str(one.path), "reason": one.reason} for one in dataset.skipped]


def _print_skipped(dataset: Dataset) -> None:
    if dataset.repeated:
        note(f"{dataset.repeated} files have the same bytes as another; each recording counts once")
    print_skipped(dataset.skipped)


def print_skipped(skipped: Sequence[Skipped]) -> None:
    """Says which files were left out, the first ones of many."""
    for one in skipped[:_SHOWN_SKIPPED]:
        note(f"skipped {one.path}: {one.reason}")
    if len(skipped) > _SHOWN_SKIPPED:
        note(f"{len(skipped)} files were skipped in all")


@contextlib.contextmanager
def resumable(state: Path) -> Iterator[None]:
    """Says, where it is interrupted, that a training's state is kept."""
    try:
        yield
    except KeyboardInterrupt:
        if state.exists():
            note(f"{state} keeps what was learnt; the same command goes on from there")
        raise


@contextlib.contextmanager
def watching(args: argparse.Namespace) -> Iterator[Watch]:
    """Shows on stderr what is being done: bars on a terminal, a line per step elsewhere."""
    if args.json:
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    # The converter's own output is kept from stderr; the progress must still get there.
    with os.fdopen(os.dup(2), "w", encoding="utf-8") as stream:
        console = Console(file=stream)
        start, tasks = time.perf_counter(), dict[str, Any]()
        if not console.is_terminal:

            def line(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    tasks[what] = True
                    of = f", {total}" if total else ""
                    console.print(f"[{time.perf_counter() - start:5.1f} s] {what}{of}", markup=False, soft_wrap=True)

            yield line
            return
        columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
        with Progress(
            *columns, TimeElapsedColumn(), console=console, redirect_stdout=False, redirect_stderr=False
        ) as progress:

            def bar(what: str, done: int, total: int) -> None:
                if what not in tasks:
                    for task in tasks.values():
                        progress.stop_task(task)
                    tasks[what] = progress.add_task(what, total=total or None)
                progress.update(tasks[what], completed=done)

            yield bar
