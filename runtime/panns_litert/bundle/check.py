"""The record of one comparison, and the stages that a bundle of each precision must have passed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

PrecisionName = Literal["fp32", "fp16", "int8", "int8-weights", "int8-full", "int4-weights"]
"""The precisions of a bundle's weights."""

QUANTIZED: tuple[PrecisionName, ...] = ("int8", "int8-weights", "int8-full", "int4-weights")
"""The precisions below float16.

- `int8`: 8-bit weights; activations are quantized at run time.
- `int8-weights`: 8-bit weights; float activations.
- `int8-full`: 8-bit weights; activations are quantized with calibrated ranges.
- `int4-weights`: 4-bit weights; activations as in `int8`.
"""

STAGES: dict[PrecisionName, tuple[str, ...]] = {
    precision: ("front_end", "network", "fp32", *(() if precision == "fp32" else (precision,)))
    for precision in get_args(PrecisionName)
}
"""The stages that a bundle of each precision must have passed."""

ENGINE = "engine"
"""The stage of a .tflite without reference: the outputs of two sets of LiteRT's kernels are compared. It proves nothing
about the model."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """The figures and the verdict for one output at one stage. A figure that cannot be computed is None.

    Attributes:
        stage, output: names of the stage and of the output.
        max_abs: largest absolute error.
        rmse: root mean square error.
        corr: correlation, the smallest of any clip.
        psnr_db: ratio of the reference's peak to the error, dB.
        top5_agree: share of clips with the same five highest classes, 0 … 1.
        threshold: the bounds of the gate by the names of figures.
        passed: the verdict.
        why: why it did not pass; empty if it did.
    """

    stage: str
    output: str
    max_abs: float | None
    rmse: float | None
    corr: float | None
    psnr_db: float | None
    top5_agree: float | None
    threshold: dict[str, float]
    passed: bool
    why: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Returns the check as JSON types."""
        return asdict(self)
