"""Model card: README.md of a bundle, made from its manifest alone."""

from __future__ import annotations

from panns_litert.bundle import Manifest
from panns_litert.parity import Check


def model_card(manifest: Manifest) -> str:
    """The card as Markdown. Its own entry in the manifest's file list is not shown."""
    spec, source = manifest.front_end, manifest.source
    model_file = manifest.file("model")
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
    gpu = "not checked yet" if manifest.gpu is None else "see manifest.json"
    versions = ", ".join(f"{name} {version}" for name, version in manifest.versions.items())
    return f"""# {manifest.model} ({manifest.precision}, {manifest.clip_seconds:g} s)

{manifest.description}

Made by panns-litert. `manifest.json` holds the same facts for programs.

## Source

| | |
|---|---|
| network | {manifest.network} |
| checkpoint | {source.file} |
| from | {source.url or "a local file"} |
| sha256 | `{source.sha256}` |
| licence of the weights | {source.licence} |
| attribution | {source.attribution} |
| published mAP | {published} |

## Tensors

| | name | shape | dtype |
|---|---|---|---|
{tensors}

`probs` are sigmoid probabilities in the order of `{manifest.file("labels")}`.

## Front end

The host computes the log-mel: {spec.sample_rate} Hz mono, {spec.window} window of {spec.win_length} samples in an
FFT of {spec.n_fft}, hop {spec.hop_length}, centred with {spec.pad_mode} padding, power {spec.power:g},
{spec.n_mels} {spec.mel_scale} mels {spec.fmin:g}–{spec.fmax:g} Hz (`{manifest.file("mel_basis")}`, float32
little-endian, [{spec.n_mels}, {spec.bins}]), 10·log10(max(mel, {spec.amin:g})).
A clip of {manifest.clip_seconds:g} s is {manifest.clip_samples} samples, {manifest.frames} frames.

## Parity

| stage | output | max abs | rmse | corr | PSNR dB | top-5 | bound on max abs | passed |
|---|---|---|---|---|---|---|---|---|
{rows}

GPU: {gpu}.

## Files

| file | role | bytes | sha256 |
|---|---|---|---|
{files}

Tools: {versions}. Model file: `{model_file}`.
"""


def _row(check: Check) -> str:
    def number(value: float | None, form: str) -> str:
        return "–" if value is None else format(value, form)

    return (
        f"| {check.stage} | {check.output} | {number(check.max_abs, '.2e')} | {number(check.rmse, '.2e')} "
        f"| {number(check.corr, '.7f')} | {number(check.psnr_db, '.1f')} | {number(check.top5_agree, '.2f')} "
        f"| {check.threshold['max_abs']:.2e} | {'yes' if check.passed else 'NO: ' + check.why} |"
    )
