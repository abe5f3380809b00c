"""Parity: measures how close a model's outputs are to their reference, and checks that against a gate.

A `Check` holds the figures and the verdict for one output at one stage. One figure alone is not enough: correlation
ignores scale, and PSNR hides a large error in one class of 527. A gate therefore always bounds the largest error too.
NaN, Inf, an output of zeros and a flat reference always fail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from panns_litert.bundle import QUANTIZED, Check
from panns_litert.errors import ParityError
from panns_litert.words import counted

_Float = TypeVar("_Float", np.float32, np.float64)

_PSNR_CAP_DB = 300.0  # for an exact match; JSON has no infinity


@dataclass(frozen=True, kw_only=True)
class Gate:
    """Bounds of one stage.

    Args:
        max_abs: largest allowed error: absolute, or, with `relative`, as a share of the spread (largest minus smallest
            value) of the clip's reference.
        corr: smallest allowed Pearson correlation of any clip; None for no bound.
        relative: see max_abs.
        top5: whether the five highest classes must be the same. Classes whose margin over the sixth is within the error
            do not count.
    """

    max_abs: float
    corr: float | None = None
    relative: bool = False
    top5: bool = False


GATES: dict[str, Gate] = {
    "network": Gate(max_abs=1e-4, relative=True),
    "fp32": Gate(max_abs=1e-4, corr=0.99999),
    "fp16": Gate(max_abs=5e-3, corr=0.9999, top5=True),
    "gpu_fp16": Gate(max_abs=0.05, corr=0.999),
    "npu": Gate(max_abs=0.05, corr=0.999, top5=True),
    "int8": Gate(max_abs=0.05, corr=0.999, top5=True),
    "int8-weights": Gate(max_abs=0.05, corr=0.999, top5=True),
    "int8-full": Gate(max_abs=0.05, corr=0.999, top5=True),
    "int4-weights": Gate(max_abs=0.15, corr=0.98, top5=True),
}
"""The gate of every stage that compares outputs of a network. The front end's gates are in decibels and depend on the
level: panns_litert_convert.stages. The bounds for an NPU are those for a GPU, and the highest classes must be the same,
too. The largest error that was measured on Qualcomm's NPUs is 0.035 (mn04, docs/npu-check.md). The bound for eight bits
equals that for float16 arithmetic on a GPU; the bound for four bits is three times that."""

TAG_THRESHOLD = 0.3
"""The lowest probability at which `compare_tags` counts a class as a tag."""

TAG_GATES = {
    **{precision: Gate(max_abs=0.1, corr=0.99) for precision in QUANTIZED[:3]},
    "int4-weights": Gate(max_abs=0.25, corr=0.95),
}
"""The gate of `compare_tags` for every quantized precision."""

HELD_OUT_LOSSES: dict[str, float] = {**dict.fromkeys(QUANTIZED[:3], 0.005), "int4-weights": 0.01}
"""For every quantized precision, how much of PyTorch's accuracy and mean average precision a file may lose on clips
that were held out from a fine-tuning."""

HELD_OUT_GATES: dict[str, Gate] = {
    **{precision: Gate(max_abs=0.25, corr=0.95) for precision in QUANTIZED[:3]},
    "int4-weights": Gate(max_abs=0.5, corr=0.8),
}
"""The gate of a quantized fine-tuned file that fails its gate in `GATES`, but loses no more than `HELD_OUT_LOSSES`."""

HELD_OUT_OUTPUTS = ("held-out accuracy", "held-out mAP")
"""Outputs of the checks with `HELD_OUT_LOSSES`: their largest error is the loss."""

FEW_CLASSES = 16
"""With fewer classes, `few_as_one` treats all clips as one."""


def few_as_one(got: NDArray[_Float], reference: NDArray[_Float]) -> tuple[NDArray[_Float], NDArray[_Float]]:
    """Reshapes probabilities (clips, classes) of fewer than `FEW_CLASSES` classes to one clip, (1, clips · classes).

    With so few classes, the correlation and the spread of a single clip mean little: with two classes the correlation
    is always 1 or -1, and two equal probabilities have no spread. The gate stays the same.
    """
    if reference.shape[1] >= FEW_CLASSES:
        return got, reference
    return got.reshape(1, -1), reference.reshape(1, -1)


def compare(
    stage: str,
    output: str,
    got: NDArray[np.floating],
    reference: NDArray[np.floating],
    *,
    gate: Gate,
) -> Check:
    """Compares an output with its reference.

    Args:
        stage, output: names for the report.
        got, reference: arrays of the same shape, (clips, …). Error and correlation are those of the worst clip.
        gate: the bounds.

    Returns:
        The check. If it failed, `why` gives the reasons.
    """
    a: NDArray[np.float64] = np.asarray(got, np.float64)
    b: NDArray[np.float64] = np.asarray(reference, np.float64)
    spread = float(np.ptp(b.reshape(len(b), -1), axis=1).max()) if b.size and np.isfinite(b).all() else 0.0
    bound = gate.max_abs * spread if gate.relative else gate.max_abs
    threshold = {"max_abs": bound} | ({"corr": gate.corr} if gate.corr is not None else {})
    blank = Check(
        stage=stage,
        output=output,
        max_abs=None,
        rmse=None,
        corr=None,
        psnr_db=None,
        top5_agree=None,
        threshold=threshold,
        passed=False,
    )
    if a.shape != b.shape or a.ndim < 2 or not a.size:
        return replace(blank, why=f"shape {a.shape}, expected {b.shape} as (clips, …)")
    a, b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    if not np.isfinite(b).all():
        return replace(blank, why="the reference holds NaN or Inf")
    if not np.isfinite(a).all():
        return replace(blank, why=f"{int((~np.isfinite(a)).sum())} values are NaN or Inf")
    flat = np.ptp(b, axis=1) == 0
    if flat.any():
        return replace(blank, why=f"the reference of {counted(int(flat.sum()), 'clip')} is flat: nothing is tested")

    error = np.abs(a - b)
    if gate.relative:  # each clip's error relative to its own spread, in units of the widest clip's spread
        error *= spread / np.ptp(b, axis=1, keepdims=True)
    max_abs, rmse = float(error.max()), float(np.sqrt(np.mean(error**2)))
    peak = float(np.abs(b).max())
    psnr = min(_PSNR_CAP_DB, 20.0 * np.log10(peak / rmse)) if rmse > 0 else _PSNR_CAP_DB
    corr = _worst_correlation(a, b)
    agree = _top5_agreement(a, b, error.max(axis=1))

    why = []
    if not np.any(a, axis=1).all():
        why.append("an output is all zero")
    if max_abs > bound:
        why.append(f"max abs error {max_abs:.3g} > {bound:.3g}")
    if gate.corr is not None and not corr >= gate.corr:
        why.append(f"correlation {corr:.7f} < {gate.corr}")
    if gate.top5 and agree < 1.0:
        why.append("another class is among the five highest, by more than the error")
    return replace(
        blank,
        max_abs=max_abs,
        rmse=rmse,
        corr=corr,
        psnr_db=float(psnr),
        top5_agree=agree,
        passed=not why,
        why="; ".join(why),
    )


def compare_tags(stage: str, got: NDArray[np.floating], reference: NDArray[np.floating], *, gate: Gate) -> Check:
    """Checks that two sets of probabilities give the same tags, which is what a user sees.

    Args:
        stage: name for the report.
        got, reference: probabilities (clips, classes).
        gate: `max_abs` bounds the Jaccard distance of the tags of all clips: the number of tags that are in only one of
            the two sets, divided by the number in either. One such tag is always allowed. `corr` bounds the mean of the
            clips' Spearman rank correlations. It is the mean because the order of classes near zero says little in
            a single clip. The stage's own gate bounds the largest error of every clip.

    Returns:
        A check of the output "tags".
    """
    check = compare(stage, "tags", got, reference, gate=Gate(max_abs=1.0))
    threshold = {"max_abs": gate.max_abs} | ({"corr": gate.corr} if gate.corr is not None else {})
    if not check.passed:  # wrong shapes, NaN, a flat reference
        return replace(check, threshold=threshold)
    from scipy.stats import rankdata  # slow to import; only a quantized bundle's proof needs it

    a, b = np.asarray(got, np.float64), np.asarray(reference, np.float64)
    tags_a, tags_b = a >= TAG_THRESHOLD, b >= TAG_THRESHOLD
    either = int((tags_a | tags_b).sum())
    differ = int((tags_a ^ tags_b).sum())
    share = differ / either if either else 0.0
    rank_pairs = zip(rankdata(a, axis=1)[:, None], rankdata(b, axis=1)[:, None], strict=True)
    ranks = float(np.mean([_worst_correlation(*pair) for pair in rank_pairs]))
    why = []
    if differ > 1 and share > gate.max_abs:  # one tag alone may exceed the share if there are few tags
        why.append(f"{differ} of {either} tags (probability ≥ {TAG_THRESHOLD:g}) are in only one of the two")
    if gate.corr is not None and not ranks >= gate.corr:
        why.append(f"rank correlation {ranks:.4f} < {gate.corr}")
    return replace(
        check,
        threshold=threshold,
        max_abs=share,
        rmse=None,
        corr=ranks,
        psnr_db=None,
        top5_agree=None,
        passed=not why,
        why="; ".join(why),
    )


def _worst_correlation(got: NDArray[np.float64], reference: NDArray[np.float64]) -> float:
    """Returns the smallest Pearson correlation of any clip; -1 if an output is flat, where it is not defined."""
    a = got - got.mean(axis=1, keepdims=True)
    b = reference - reference.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    if not norms.all():
        return -1.0
    return float((np.sum(a * b, axis=1) / norms).min())


def _top5_agreement(got: NDArray[np.float64], reference: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Returns the share of the reference's five highest classes that are also among the five highest of `got`.

    Only classes whose margin over the sixth is larger than the error count.
    """
    if reference.shape[1] <= 5:
        return 1.0
    decided = kept = 0
    for g, r, e in zip(got, reference, error, strict=True):
        order = np.argsort(-r, kind="stable")
        top = order[:5][r[order[:5]] - r[order[5]] > e]
        decided += len(top)
        kept += len(np.intersect1d(top, np.argsort(-g, kind="stable")[:5]))
    return kept / decided if decided else 1.0


def require(checks: Iterable[Check]) -> None:
    """Checks that at least one check was made and that all passed.

    Raises:
        ParityError: otherwise. The message names every failed check; `report` is the list of checks.
    """
    checks = list(checks)
    if not checks:
        raise ParityError("no parity check was made; expected at least one", checks)
    failed = [f"{c.stage}/{c.output}: {c.why}" for c in checks if not c.passed]
    if failed:
        raise ParityError(f"{len(failed)} of {len(checks)} parity checks failed: " + "; ".join(failed), checks)
