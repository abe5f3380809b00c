"""The model card: a bundle's README.md, made only from its manifest.

It begins with the metadata of the Hugging Face hub, in YAML between lines of `---`, so that a bundle can be uploaded as
it is, and what is downloaded is the same bundle, byte for byte.
"""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import replace
from decimal import Decimal
from typing import Any

from panns_litert.bundle.check import Check
from panns_litert.bundle.manifest import (
    ADOPTED_VERSION,
    FORMAT_VERSION,
    OWN_WEIGHTS,
    UNKNOWN,
    GpuRecord,
    Manifest,
    NpuRecord,
    Quantization,
)
from panns_litert.escape import escaped
from panns_litert.words import counted

METADATA_MARK = "---\n"
"""The first line of a card with metadata."""

# Licences by the identifiers of https://huggingface.co/docs/hub/repositories-licenses; those of SPDX in lower case.
_LICENCES = re.compile(
    r"apache-2\.0|mit|isc|unlicense|bsd-[23]-clause|mpl-2\.0|a?gpl-3\.0|gpl-2\.0|cc0-1\.0|cc-by(-sa|-nc)?-[34]\.0|"
    r"cc-by-nc-sa-4\.0|cc-by-nc-nd-4\.0"
)
_AUDIOSET_LABELS, _AUDIOSET = "audioset_labels.txt", "agkphysics/AudioSet"
_ON_THE_HUB = re.compile(r"https://huggingface\.co/([\w.-]+/[\w.-]+)/resolve/.+", re.ASCII)

_NOT_PROVEN = """
**Not proven.** This `.tflite` was made elsewhere, and nothing compared it with the network that it comes from. The
checks below and the self-test show only that it runs, and that engines agree with each other.
"""

_PARITY_HEAD = """\
| stage | output | max abs | rmse | corr | PSNR dB | top-5 | bound on max abs | passed |
|---|---|---|---|---|---|---|---|---|"""


def model_card(manifest: Manifest) -> str:
    """Returns the card as Markdown with the hub's metadata. The table of files leaves out the card itself."""
    source = manifest.source
    published = f"{source.published_map:.3f}" if source.published_map is not None else "none"
    tensors = "\n".join(
        f"| {kind} | `{tensor.name}` | {list(tensor.shape)} | {tensor.dtype} |"
        for kind, group in (("input", manifest.inputs), ("output", manifest.outputs))
        for tensor in group
    )
    files = "\n".join(
        f"| `{name}` | {record.role} | {record.bytes} | `{record.sha256}` |"
        for name, record in manifest.files.items()
        if record.role != "model_card"
    )
    rows = "\n".join(_row(check) for check in manifest.parity)
    made = "Made" if manifest.format_version == FORMAT_VERSION else "Adopted"
    probs = "sigmoid probabilities" if manifest.proven else "values within 0 … 1"
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return f"""{METADATA_MARK}{_yaml(hub_metadata(manifest))}{METADATA_MARK}
# {manifest.model} ({manifest.precision}, {manifest.clip_seconds:g} s)
{"" if manifest.proven else _NOT_PROVEN}
{manifest.description}

{made} by panns-litert. `manifest.json` holds the same facts for programs.

## Source

| | |
|---|---|
| network | {manifest.network} |
| {"checkpoint" if manifest.proven else "file"} | {source.file} |
| from | {source.url or "a local file"} |
| sha256 | `{source.sha256}` |
| licence of the weights | {source.licence} |
| attribution | {source.attribution} |
| published mAP | {published} |

## Tensors

| | name | shape | dtype |
|---|---|---|---|
{tensors}

`probs` are {probs} in the order of `{manifest.file("labels")}`.

## Front end

{_front_end(manifest)}

{_quantization(manifest.precision, manifest.quantization)}## {"Parity" if manifest.proven else "Checks"}

{_PARITY_HEAD}
{rows}

## GPU

{_gpu(manifest.gpu)}

{_npu(manifest.npu)}## Files

| file | role | bytes | sha256 |
|---|---|---|---|
{files}

Tools: {versions}. Model file: `{manifest.file("model")}`.
"""


def hub_metadata(manifest: Manifest) -> dict[str, Any]:
    """Returns the metadata of the hub: licence, library, tags, base model, data set, and figures as its `model-index`.

    The figures are the published mAP, which was measured on the checkpoint and not on this file, and the parity of this
    file's probabilities with PyTorch's.
    """
    source, audioset = manifest.source, manifest.file("labels") == _AUDIOSET_LABELS
    licence = source.licence.casefold()
    data: dict[str, Any] = {}
    if source.licence in (OWN_WEIGHTS, UNKNOWN):
        data["license"] = "unknown"
    elif _LICENCES.fullmatch(licence):
        data["license"] = licence
    else:
        data |= {"license": "other", "license_name": re.sub(r"[^a-z0-9.]+", "-", licence).strip("-.") or "unnamed"}
        data |= {"license_link": source.url} if source.url else {}
    data |= {"library_name": "litert", "pipeline_tag": "audio-classification"}
    if found := _ON_THE_HUB.fullmatch(source.url or ""):
        data["base_model"] = found[1]
    data["tags"] = ["audio-tagging", "litert", "tflite", "panns-litert", manifest.precision]
    if audioset:
        data["tags"].append("audioset")
        data["datasets"] = [_AUDIOSET]
    task = {"type": "audio-classification", "name": "Audio tagging"}
    results = []
    if source.published_map is not None:
        results.append(
            {
                "task": task,
                "dataset": {"type": _AUDIOSET if audioset else "other", "name": "AudioSet" if audioset else "other"},
                "metrics": [_metric("mAP", source.published_map, "mAP, published for the checkpoint")],
            }
        )
    parity = [
        metric
        for check in manifest.parity
        if (check.stage, check.output) == (manifest.precision, "probs")
        for metric in (
            _metric("max_abs_error", check.max_abs, "largest error of a probability"),
            _metric("correlation", check.corr, "correlation of the probabilities"),
        )
        if metric["value"] is not None
    ]
    if not manifest.proven:  # no figure to show
        return data
    dataset = {"type": "panns-litert/parity", "name": "parity clips, compared with PyTorch"}
    results.append({"task": task, "dataset": dataset, "metrics": parity})
    return data | {"model-index": [{"name": f"{manifest.model} {manifest.precision}", "results": results}]}


def _metric(kind: str, value: float | None, name: str) -> dict[str, Any]:
    return {"type": kind, "value": value, "name": name}


def _yaml(value: dict[str, Any] | list[Any], depth: int = 0) -> str:
    """Returns a value as YAML in block style: texts in quotes, numbers without exponent, which YAML 1.1 lacks."""
    pad, lines = "  " * depth, []
    for key, item in value.items() if isinstance(value, dict) else (("", item) for item in value):
        head = f"{pad}{key}:" if key else f"{pad}-"
        if isinstance(item, (dict, list)):
            inner = _yaml(item, depth + 1)
            lines.append(f"{head}\n{inner}" if key else f"{head} {inner.lstrip()}")
        else:
            lines.append(f"{head} {_scalar(item)}\n")
    return "".join(lines)


def _scalar(value: object) -> str:
    if isinstance(value, float):
        return format(Decimal(f"{value:.9g}"), "f")
    text = json.dumps(value, ensure_ascii=False)
    return "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in text)


def _front_end(manifest: Manifest) -> str:
    spec = manifest.front_end
    if manifest.log_mel == "none" and manifest.format_version == ADOPTED_VERSION:
        unused = manifest.file("mel_basis")
        return f"""The model takes samples, {spec.sample_rate} Hz mono, and `{unused}` is not used.
A clip of {manifest.clip_seconds:g} s is {manifest.clip_samples} samples."""
    if manifest.log_mel == "none":
        unused = manifest.file("mel_basis")
        return f"""The network takes samples, {spec.sample_rate} Hz mono, and has no log-mel: `{unused}` is not used.
A clip of {manifest.clip_seconds:g} s is {manifest.clip_samples} samples."""
    by = "The host computes the log-mel" if manifest.graph == "logmel" else "The graph takes samples and computes"
    return f"""{textwrap.fill(f"{by}: {spec.describe()}.", 100)}
`{manifest.file("mel_basis")}` has the weights of the mel bands: float32 little-endian, [{spec.n_mels}, {spec.bins}].
A clip of {manifest.clip_seconds:g} s is {manifest.clip_samples} samples, {manifest.frames} frames."""


_MEANING = {
    "int8": "Weights are 8-bit integers. Activations are quantized to 8 bits at run time.",
    "int8-weights": "Weights are 8-bit integers, which are converted to floats for the computation.",
    "int8-full": "Weights and activations are 8-bit integers. The latter's ranges come from {clips} of audio.",
    "int4-weights": "Weights are 4-bit integers, 8-bit in the smallest layers. Activations are quantized at run time.",
}


def _quantization(precision: str, quantization: Quantization | None) -> str:
    if quantization is None:
        return ""
    text = _MEANING[precision].format(clips=counted(quantization.calibration_clips, "clip"))
    if not quantization.kept:
        return f"## Quantization\n\n{text} No layer keeps a finer type.\n\n"
    rows = "\n".join(
        f"| {layer.name} | {layer.op} | {layer.weights} | {layer.precision} | {layer.error:.1e} |"
        for layer in quantization.kept
    )
    return f"""## Quantization

{text}
These layers keep a finer type. The error is that of quantizing this layer alone: mean squared error of logits and
embedding over their variance.

| layer | operator | weights | kept as | error |
|---|---|---|---|---|
{rows}

"""


def _gpu(gpu: GpuRecord | None) -> str:
    if gpu is None:
        return "Not checked: `panns-litert gpu-check` does it."
    verdict = "passed" if gpu.passed else "FAILED"
    resident = "all" if gpu.resident else "not all"
    rows = "\n".join(_row(check) for check in gpu.checks)
    table = f"\n\n{_PARITY_HEAD}\n{rows}" if rows else ""
    problems = "".join(f"\n- {problem}" for problem in (*(f"refused: {r}" for r in gpu.refused), *gpu.errors))
    return f"""\
{verdict}: {resident} of {gpu.operators} operators compiled for the GPU alone, {gpu.arithmetic} arithmetic,
compared with {gpu.reference}. Adapter: {gpu.adapter}. Driver: {gpu.driver}.
ai-edge-litert {gpu.litert}.{problems}{table}"""


def _npu(records: tuple[NpuRecord, ...]) -> str:
    """Returns the section of the NPUs; an empty text if none was checked. SoCs with the same outputs share a row."""
    if not records:
        return ""
    alike: dict[str, list[NpuRecord]] = {}
    for record in records:  # alike in everything but what differs from file to file
        same = replace(record, soc="any", architecture=None, compiled_bytes=None, versions={})
        alike.setdefault(str(same), []).append(record)
    rows, problems = [], []
    for group in alike.values():
        first = group[0]
        socs = ", ".join(f"{r.soc} ({r.architecture})" if r.architecture else r.soc for r in group)
        # "probs", and "probs, input beyond float16" for recordings whose samples float16 cannot hold
        probs = [c for c in first.checks if c.output.startswith("probs") and "PyTorch" not in c.output]
        errors = [check.max_abs for check in probs if check.max_abs is not None]
        correlations = [check.corr for check in probs if check.corr is not None]
        worst = f"{max(errors):.2e}" if errors else "–"
        corr = f"{min(correlations):.7f}" if correlations else "–"
        whole = f"{first.taken} of {first.operators} in {counted(first.partitions, 'part')}"
        rows.append(
            f"| {socs} | {whole} | {first.arithmetic or '–'} | {worst} | {corr} | {'yes' if first.passed else 'NO'} |"
        )
        said = [f"refused {refused}" for refused in first.refused] + list(first.errors)
        said += [f"{check.output}: {check.why}" for check in first.checks if not check.passed]
        problems += [f"- {first.soc}: {escaped(text)}" for text in said]  # the vendor's words, one line each
    versions = dict.fromkeys(escaped(f"{name} {text}") for r in records for name, text in r.versions.items())
    return f"""## NPU

LiteRT's compiler plugin compiled the file ahead of time, and the vendor's emulator ran the bytecode. The error is that
of the probabilities against the CPU. An emulator shows what an NPU computes, not how fast.

| SoC | operators taken | arithmetic | max abs | corr | passed |
|---|---|---|---|---|---|
{chr(10).join(rows)}

{chr(10).join([*problems, ""]) + chr(10) if problems else ""}Tools: {", ".join(versions)}.

"""


def _row(check: Check) -> str:
    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (
        f"| {check.stage} | {check.output} | {number(check.max_abs, '.2e')} | {number(check.rmse, '.2e')} "
        f"| {number(check.corr, '.7f')} | {number(check.psnr_db, '.1f')} | {number(check.top5_agree, '.2f')} "
        f"| {check.threshold['max_abs']:.2e} | {'yes' if check.passed else 'NO: ' + check.why} |"
    )
