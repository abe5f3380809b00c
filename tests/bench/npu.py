"""Checks models on NPUs that this machine does not have: `make npu`. Prints the figures of each model on every SoC."""

from __future__ import annotations

import argparse
import sys

from bundles import bundle

from panns_litert.bundle import Bundle
from panns_litert.cli.npu import print_npu_reports
from panns_litert.errors import NpuVendorError
from panns_litert.proof import demo_inputs, npu_check, npu_targets, vendor_parts
from panns_litert.words import counted

MODELS = (
    ("demo", "fp16", "logmel"),
    ("demo", "fp16", "waveform"),
    ("demo", "int8-full", "logmel"),
    ("mn04", "fp16", "logmel"),
    ("cnn14", "fp16", "logmel"),
)
SLOW = "cnn14"
"""The emulator takes about a minute for one clip of it: it hears one clip instead of two."""
TIMEOUT_SECONDS = 3600.0


def main() -> int:
    """Prints a table of every model. Returns the exit code: 1 if a check failed, 2 if a vendor's part is missing."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--soc", default="sm8350,sm8450,sm8550,sm8650,sm8850,intel-cpu")
    parser.add_argument("--model", action="append", choices=sorted({name for name, _, _ in MODELS}))
    arguments = parser.parse_args()
    targets = npu_targets(arguments.soc)
    try:
        for target in targets:
            vendor_parts(target)
    except NpuVendorError as error:
        print(
            f"npu: {error}; or `make npu QUALCOMM_LICENCE=accepted`, which installs it under build/npu", file=sys.stderr
        )
        return 2
    failed: list[str] = []
    for name, precision, graph in MODELS:
        if arguments.model and name not in arguments.model:
            continue
        found = Bundle(bundle(name, precision, graph))
        inputs = demo_inputs(found)[: 1 if name == SLOW else None]
        reports = []
        for target in targets:
            print(f"{name} {precision} {graph} on {target.soc}", file=sys.stderr, flush=True)
            reports.append(npu_check(found, soc=target.soc, inputs=inputs, timeout=TIMEOUT_SECONDS))
        print(f"\n{name} {precision} {graph}")
        print_npu_reports(reports)
        failed += [f"{name} {precision} {graph} on {report.build.soc}" for report in reports if not report.passed]
    if failed:
        print(f"npu: {counted(len(failed), 'check')} failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
