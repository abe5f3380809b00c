"""Command for labelled clips: evaluate."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from panns_litert.cli.extensions import converter
from panns_litert.cli.options import (
    DEFAULT_ENGINE,
    add_bundle_options,
    add_settings_option,
    bundle_for,
    groups_of,
    prototypes_for,
    settings_of,
)
from panns_litert.cli.output import (
    DATA_HELP,
    AddCommand,
    ends,
    print_dataset,
    print_figures,
    print_json,
    print_table,
    require_writable,
    watching,
)
from panns_litert.errors import DatasetError, SettingsError
from panns_litert.escape import escaped
from panns_litert.evaluate import (
    ClassThreshold,
    Dataset,
    Evaluation,
    Figures,
    Heard,
    Rates,
    Skipped,
    evaluate,
    figures,
    plot_evaluation,
    read_dataset,
)
from panns_litert.pictures import picture_format
from panns_litert.prototypes import Prototypes
from panns_litert.settings import TaggerSettings
from panns_litert.tagger import ENGINES, Tagger
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds evaluate."""
    sub = command("evaluate", run_evaluate)
    sub.add_argument("--data", type=Path, required=True, help=DATA_HELP)
    sub.add_argument("--fold", help="use only the clips of this fold of the CSV")
    add_bundle_options(sub)
    sub.add_argument(
        "--engine",
        nargs="+",
        choices=ENGINES,
        default=[DEFAULT_ENGINE],
        help=f"one or several (default {DEFAULT_ENGINE})",
    )
    sub.add_argument("--threads", type=int, help="CPU threads (default: all cores)")
    sub.add_argument("--checkpoint", type=Path, help="checkpoint of the bundle: also print PyTorch's figures")
    sub.add_argument("--groups", type=Path, metavar="JSON", help='{"pets": ["Dog/", …], …}: the labels are group names')
    sub.add_argument(
        "--prototypes", type=Path, metavar="FILE", help="enrolled classes to evaluate, too (default: none)"
    )
    sub.add_argument("--plot", type=Path, metavar="FILE", help="write a picture: confusion, calibration, worst classes")
    sub.add_argument(
        "--wanted-precision", type=float, metavar="P", help="lowest thresholds with this precision (default: best F1)"
    )
    sub.add_argument("--calibrate", action="store_true", help="fit a temperature first, and choose thresholds after it")
    add_settings_option(sub, "measure these thresholds and this temperature on other clips, and choose none")
    sub.add_argument(
        "--write-settings", type=Path, metavar="FILE", help="write the thresholds, and with --calibrate the temperature"
    )


def run_evaluate(args: argparse.Namespace) -> int:
    """Runs `evaluate`: prints the figures of a bundle on every engine, and what follows from those of the last one."""
    if args.plot is not None:
        picture_format(args.plot)  # before the clips, which may be many, are heard
    if args.write_settings is not None:
        require_writable(args.write_settings)
    groups: Mapping[str, Sequence[str]] | None = None if args.groups is None else groups_of(args.groups)
    _require_settings_alone(args)
    if groups is not None and args.checkpoint is not None:
        raise DatasetError("--groups and --checkpoint together; expected one of them")
    if args.prototypes is not None and args.checkpoint is not None:
        raise DatasetError("--prototypes and --checkpoint together; expected one of them")
    measured: dict[str, Figures] = {}
    found: Evaluation | None = None
    chosen = bundle_for(args)
    args.no_prototypes = args.prototypes is None  # those beside the bundle only if they are named
    prototypes = prototypes_for(args, chosen)
    with watching(args) as watch:
        for engine in dict.fromkeys(args.engine):
            with Tagger(chosen, engine=engine, threads=args.threads, prototypes=prototypes) as tagger:
                if found is None:
                    given = None if args.settings is None else settings_of(args, tagger.bundle)
                    groups = groups if given is None else given.groups
                    names = tagger.labels if groups is None else tuple(groups)
                    dataset = read_dataset(args.data, classes=names, seconds=tagger.bundle.manifest.clip_seconds)
                    dataset = dataset if args.fold is None else dataset.of_fold(args.fold)
                    if prototypes is not None:
                        dataset = _with_note(dataset, prototypes)
                found = evaluate(
                    tagger,
                    dataset,
                    groups=groups if given is None else None,
                    settings=given,
                    precision=args.wanted_precision,
                    calibrated=args.calibrate,
                    whole=args.checkpoint is None,  # PyTorch scores the start only
                    watch=watch,
                )
                dataset, name = found.dataset, f"tflite {tagger.engine}"
                measured[name] = found.figures
        assert found is not None  # argparse wants at least one engine
        if args.checkpoint is not None:
            manifest = tagger.bundle.manifest
            probs, dataset = converter("checkpoint_scores")(
                dataset, model=manifest.model, checkpoint=args.checkpoint, seconds=manifest.clip_seconds, watch=watch
            )
            measured = {"torch": figures(probs, dataset.truth(), dataset.classes)} | measured
    if args.plot is not None:
        plot_evaluation(found, args.plot)
    settings: TaggerSettings | None = None
    refusal: DatasetError | None = None  # is raised when the figures have been printed
    if args.write_settings is not None:
        of_fold = "" if args.fold is None else f", fold {args.fold}"
        try:
            settings = found.settings(tagger.bundle, data=escaped(args.data.resolve().name + of_fold))
        except DatasetError as error:
            refusal = error
        else:
            settings.write(args.write_settings)
    if args.json:
        data: dict[str, Any] = {"bundle": str(tagger.bundle.path), "layout": dataset.layout}
        data["notes"] = list(dataset.notes)
        data["figures"] = {of: one.to_dict() for of, one in measured.items()}
        data |= {"report": {"of": name} | found.to_dict(), "skipped": _skipped_rows(dataset.skipped)}
        print_json(data | {"settings": settings.to_dict() if settings else None})
    else:
        print_figures(measured)
        _print_report(found, name if len(measured) > 1 else None)
        print_dataset(dataset)
        print(f"{tagger.bundle.path}: {counted(len(dataset.clips), 'clip')}{_heard(found.heard)}")
    if refusal is not None:
        raise refusal
    if settings is not None and not args.json:
        temperature = f" and temperature {settings.temperature:g}" if found.calibrated else ""
        classes = counted(len(settings.events.classes), "class", "classes")
        print(f"{args.write_settings}: thresholds of {classes}{temperature}, for --settings")
    return 0


def _require_settings_alone(args: argparse.Namespace) -> None:
    """Refuses --settings together with the options that choose settings."""
    others = ("groups", "calibrate", "wanted_precision", "write_settings", "checkpoint")
    given = [name.replace("_", "-") for name in others if getattr(args, name) not in (None, False)]
    if args.settings is not None and given:
        raise SettingsError(f"--settings and --{given[0]} together; expected one of them")


def _with_note(dataset: Dataset, prototypes: Prototypes) -> Dataset:
    """Returns the data set with a note if clips of it were enrolled."""
    used = {digest for one in prototypes.classes for digest in one.sha256} | set(prototypes.background.sha256)
    known = sum(clip.sha256 in used for clip in dataset.clips)
    if not known:
        return dataset
    text = f"{counted(known, 'clip')} that the prototypes come from, or their background: the figures flatter"
    return replace(dataset, notes=(*dataset.notes, text))


SHOWN_MISTAKES = 8


def _print_report(found: Evaluation, name: str | None) -> None:
    """Prints what follows from the figures of one engine: mistakes, calibration, thresholds."""
    if name is not None:
        print(f"of {name}:")
    if found.mean_ap_interval is not None:
        print(f"mAP {found.figures.mean_ap:.3f} {ends(found.mean_ap_interval)}")
    mistakes, left_out = found.confusion.mistakes(), found.confusion.left_out
    if mistakes or left_out:
        without = f", without {counted(left_out, 'clip')} of no or several classes" if left_out else ""
        print(f"taken for another class{without}:{'' if mistakes else ' none'}")
    for one in mistakes[:SHOWN_MISTAKES]:
        print(f"  {escaped(one.true)} → {escaped(one.taken_for)}: {one.count} of {one.clips}")
    if len(mistakes) > SHOWN_MISTAKES:
        print(f"  and {counted(len(mistakes) - SHOWN_MISTAKES, 'other pair')}")
    calibration = found.calibration
    if calibration.after is None:
        print(f"calibration error {calibration.before.error:.3f}; no temperature: {calibration.why}")
    else:
        others = "" if calibration.across is None else f", {calibration.across.error:.3f} with those of the other folds"
        print(
            f"calibration error {calibration.before.error:.3f}; with temperature {calibration.temperature:g} "
            f"{calibration.after.error:.3f}{others}"
        )
    for title, of in (("at 0.5", found.f1_half), ("at the thresholds below", found.f1_chosen)):
        if of is not None:
            print(
                f"F1 {title}, {counted(of.classes, 'class', 'classes')}: micro {of.micro:.3f} "
                f"{ends(of.micro_interval)}, macro {of.macro:.3f} {ends(of.macro_interval)}"
            )
    chosen = [one for one in found.thresholds if one.threshold is not None]
    if chosen:
        across = any(one.across is not None for one in chosen)
        if found.measured is not None:
            data = escaped(found.measured.data or "unknown clips")
            print(f"thresholds of the settings, which were chosen on {data}, measured on these clips:")
        else:
            after = f", after temperature {calibration.temperature:g}" if found.calibrated else ""
            beside = "the clips of each fold with the thresholds of the others" if across else "folds would show that"
            print(f"thresholds ({found.rule}{after}), measured on the same clips, which flatters; {beside}:")
        print_table([_threshold_row(one, across=across) for one in chosen], optional=())
    for why in dict.fromkeys(one.why for one in found.thresholds if one.why is not None):
        names = [escaped(one.label) for one in found.thresholds if one.why == why]
        more = f" and {len(names) - SHOWN_MISTAKES} more" if len(names) > SHOWN_MISTAKES else ""
        print(f"no threshold for {', '.join(names[:SHOWN_MISTAKES])}{more}: {why}")


def _threshold_row(one: ClassThreshold, *, across: bool) -> dict[str, str]:
    row = {"class": one.label, "clips": str(one.clips), "threshold": f"{one.threshold:g}"} | _rates("", one.same)
    return row | (_rates("other folds' ", one.across) if across else {})


def _rates(prefix: str, found: Rates | None) -> dict[str, str]:
    values = (None, None, None) if found is None else (found.precision, found.recall, found.f1)
    return {
        f"{prefix}{name}": "–" if value is None else f"{value:.3f}"
        for name, value in zip(("P", "R", "F1"), values, strict=True)
    }


def _heard(heard: Heard) -> str:
    """Returns what else there is to say about how the clips were heard."""
    text = ""
    if heard.longer:
        how = "heard to the end, the scores are means over the windows" if heard.whole else "only their start was heard"
        text += f"; {heard.longer} longer than the model's clip: {how}"
    if heard.shorter:
        text += f"; {heard.shorter} shorter, padded"
    if heard.unusable:
        text += f"; {counted(heard.unusable, 'window')} left out, with samples that cannot be used"
    return text + (f"; {heard.warned} with warnings, which panns-litert tag shows" if heard.warned else "")


def _skipped_rows(skipped: Sequence[Skipped]) -> list[dict[str, str]]:
    return [{"file": str(one.path), "reason": one.reason} for one in skipped]
