"""Command npu-check."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from panns_litert.cli.gpu import add_check_options, check_inputs, check_target
from panns_litert.cli.output import AddCommand, note, one_line, print_json, print_table, steps
from panns_litert.errors import BundleError
from panns_litert.proof import DEFAULT_SOC, NpuReport, npu_check, npu_targets, record_npu, same_outputs, vendor_parts
from panns_litert.words import counted


def add_commands(command: AddCommand) -> None:
    """Adds npu-check."""
    sub = command("npu-check", run_npu_check)
    add_check_options(sub)
    sub.add_argument(
        "--soc",
        default=DEFAULT_SOC,
        help="SoCs with commas between, all (of Qualcomm's), or intel-cpu (default %(default)s)",
    )


def run_npu_check(args: argparse.Namespace) -> int:
    """Runs `npu-check`: checks residency and arithmetic of a bundle or a .tflite on one NPU or several."""
    targets = npu_targets(args.soc)
    for target in targets:  # what is missing is said before anything is converted
        vendor_parts(target)
    file, bundle = check_target(args)
    inputs = check_inputs(args, bundle)
    reports = []
    with steps(args) as step:
        for target in targets:
            step(f"npu-check {target.soc}")
            reports.append(npu_check(bundle or file, soc=target.soc, inputs=inputs, timeout=args.timeout))
    passed = all(report.passed for report in reports)
    recorded = False
    if bundle is not None and not args.no_record:
        try:
            record_npu(bundle, reports)
            recorded = True
        except BundleError as error:  # the check is still useful if the bundle cannot be written
            note(one_line(error))
    if args.json:
        print_json(
            {
                "passed": passed,
                "bundle": str(bundle.path) if bundle else None,
                "recorded": recorded,
                "reports": [report.to_dict() for report in reports],
                "same_outputs": [[report.build.soc for report in group] for group in same_outputs(reports)],
            }
        )
    else:
        print_npu_reports(reports)
    return 0 if passed else 1


def print_npu_reports(reports: Sequence[NpuReport]) -> None:
    """Prints the checks of one file on one NPU or several: a table, then who computes alike, reasons and versions."""
    print_table([_row(report) for report in reports], optional=("compiled",))
    for group in same_outputs(reports):
        if len(group) > 1:
            print(f"{_names(group)}: the same outputs, to the last bit")
    noted = {check.output: check for report in reports for check in report.checks}
    for check in noted.values():
        if "float16_input_alone" in check.threshold and "PyTorch" not in check.output:
            alone = check.threshold["float16_input_alone"]
            print(f"{check.output}: rounding the input to float16 alone gives {alone:.2e}; bound {2 * alone:.2e}")
    whys: dict[str, list[NpuReport]] = {}
    for report in reports:
        whys.setdefault(report.why, []).append(report)
    versions = dict.fromkeys(f"{name} {text}" for report in reports for name, text in report.build.versions.items())
    print(f"compared with the CPU; the emulator says nothing about speed; {', '.join(versions)}")
    for why, group in whys.items():
        print(f"{group[0].build.file}: {_names(group)}: {f'FAILED: {why}' if why else 'passed'}")


def _names(reports: Sequence[NpuReport]) -> str:
    return ", ".join(report.build.soc for report in reports)


def _row(report: NpuReport) -> dict[str, str]:
    build = report.build
    row = {
        "SoC": build.soc,
        "NPU": build.architecture or "–",
        "arithmetic": report.arithmetic or "–",
        "operators": f"{build.taken} of {build.operators} in {counted(build.partitions, 'part')}",
        "compiled": "–" if build.compiled_bytes is None else f"{build.compiled_bytes / 1e6:.2f} MB",
    }
    name = report.checks[0].output.partition(",")[0] if report.checks else "probs"
    against_cpu = [c for c in report.checks if c.output.partition(",")[0] == name and "PyTorch" not in c.output]
    errors = [check.max_abs for check in against_cpu if check.max_abs is not None]
    correlations = [check.corr for check in against_cpu if check.corr is not None]
    row[f"{name}, max abs"] = f"{max(errors):.2e}" if errors else "–"
    row["corr"] = f"{min(correlations):.5f}" if correlations else "–"
    row["whole"] = "yes" if report.resident else "NO"
    row["passed"] = "yes" if report.passed else "NO"
    return row
