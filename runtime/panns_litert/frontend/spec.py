"""Front-end specification: every setting that defines a log-mel, and the specifications of the known networks.

Three definitions are implemented, all of the power spectrum. The first two take centred frames of the
reflect-padded waveform. The third takes only frames that lie completely inside the waveform.

- torchlibrosa 0.1.0 (Spectrogram, LogmelFilterBank), which PANNs uses: periodic Hann window, Slaney mel bands
  (M. Slaney, Auditory Toolbox, 1998; area-normalised), 10·log10(max(mel, amin)).
- EfficientAT (models/preprocess.py, AugmentMelSTFT, outside training): pre-emphasis, symmetric Hann window, Kaldi's
  mel bands (torchaudio.compliance.kaldi.get_mel_banks), (ln(mel + log_offset) + offset) / scale.
- AST (the dataloader of Gong, Chung, Glass: AST: Audio Spectrogram Transformer, Interspeech 2021), which is Kaldi's
  compute-fbank-feats as in torchaudio.compliance.kaldi.fbank, for samples within [-1, 1]: mean removal and pre-emphasis
  inside each frame, symmetric Hann window, Kaldi's mel bands, ln(max(mel, amin)), zeros up to a fixed number of frames,
  (x + offset) / scale.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, TypeGuard

import numpy as np

from panns_litert.errors import SpecError
from panns_litert.strict import printable, read, read_json, shown

# The smallest and the largest normal number of float32. Below the smallest, the logarithm of a floor would be -inf.
_SMALLEST, _LARGEST = float(np.finfo(np.float32).tiny), float(np.finfo(np.float32).max)

_CHOICES: dict[str, tuple[object, ...]] = {
    "pad_mode": ("reflect",),
    "power": (2.0,),
    "mel_scale": ("slaney", "kaldi"),
}
"""The values that every definition implements."""
_SLANEY: dict[str, tuple[object, ...]] = {
    "center": (True,),
    "window": ("hann",),
    "mel_norm": ("slaney",),
    "log": ("10log10",),
    "log_offset": (None,),
    "pre_emphasis": (0.0,),
    "affine": (None,),
    "remove_dc": (False,),
    "padded_frames": (None,),
}
_KALDI: dict[str, tuple[object, ...]] = {
    "center": (True, False),
    "window": ("hann_symmetric",),
    "mel_norm": (None,),
    "log": ("ln",),
}
_KALDI_CENTRED: dict[str, tuple[object, ...]] = {"amin": (0.0,), "remove_dc": (False,), "padded_frames": (None,)}
_KALDI_WHOLE: dict[str, tuple[object, ...]] = {"log_offset": (None,), "remove_dc": (True,)}
"""The values that one definition implements. A mixture of two definitions is refused, because it is not tested."""


@dataclass(frozen=True, kw_only=True)
class FrontEndSpec:
    """All settings that define a log-mel. Checked on construction; round-trips through JSON.

    Args:
        sample_rate: sample rate of the waveform, Hz, ≥ 1.
        n_fft: length of the FFT, samples, even, ≥ 2.
        win_length: length of the window, samples, 1 … n_fft; centred in the FFT frame if `center`.
        hop_length: samples from one frame to the next, ≥ 1.
        n_mels: number of mel bands, ≥ 1.
        fmin, fmax: lowest and highest band edge, Hz, 0 ≤ fmin < fmax ≤ sample_rate / 2.
        window: "hann", the periodic Hann window; "hann_symmetric", the symmetric one.
        center: True: frame t is centred on sample t · hop_length of the waveform after pre-emphasis. False: frame t
            starts at that sample, and there are only frames that the waveform fills.
        pad_mode: "reflect": with centring, how both ends are padded by n_fft / 2 samples.
        power: 2.0: exponent of the magnitude.
        mel_scale, mel_norm: "slaney" and "slaney", as librosa.filters.mel(htk=False, norm="slaney"); "kaldi" and
            None, triangles of height 1 on the scale 1127·ln(1 + f / 700).
        log: "10log10", decibels; "ln", nepers.
        amin: floor of the mel power, > 0: the log-mel is at least its logarithm. 0.0 with a log_offset: no floor.
        log_offset: added to the mel power under the logarithm, > 0; None for none.
        pre_emphasis: coefficient a of x[t + 1] - a·x[t], 0 < a < 1; 0.0 for none. The result is one sample shorter than
            x. Without centring, pre-emphasis is applied inside each frame, and the frame's first sample is repeated
            before it.
        affine: (offset, scale) of (log-mel + offset) / scale, scale > 0; None for none.
        remove_dc: True: the mean of each frame is subtracted.
        padded_frames: number of frames for every length of waveform, ≥ 1: frames beyond it are cut off, and missing
            frames are zeros before the affine step. Such zeros differ from the frames of silence. None: as many frames
            as fit.

    `mel_scale` and `center` select one of the definitions above. A value of another definition is refused.

    Raises:
        SpecError: a value is out of range, or is not implemented in that definition.
    """

    sample_rate: int
    n_fft: int
    win_length: int
    hop_length: int
    n_mels: int
    fmin: float
    fmax: float
    window: str = "hann"
    center: bool = True
    pad_mode: str = "reflect"
    power: float = 2.0
    mel_scale: str = "slaney"
    mel_norm: str | None = "slaney"
    log: str = "10log10"
    amin: float = 1e-10
    log_offset: float | None = None
    pre_emphasis: float = 0.0
    affine: tuple[float, float] | None = None
    remove_dc: bool = False
    padded_frames: int | None = None

    def __post_init__(self) -> None:
        for name in ("sample_rate", "n_fft", "win_length", "hop_length", "n_mels"):
            if not _is_count(value := getattr(self, name)):
                raise SpecError(f"front end: {name} = {shown(value)}; expected a whole number ≥ 1 of at most 31 bits")
        for name in ("fmin", "fmax", "amin"):
            value = getattr(self, name)
            if not _is_finite(value):
                raise SpecError(f"front end: {name} = {shown(value)}; expected a finite number")
            object.__setattr__(self, name, float(value))  # so that 50 and 50.0 are the same spec
        if self.n_fft % 2:
            raise SpecError(f"front end: n_fft = {self.n_fft}; expected an even number")
        if self.win_length > self.n_fft:
            raise SpecError(f"front end: win_length = {self.win_length}; expected at most n_fft = {self.n_fft}")
        if not 0 <= self.fmin < self.fmax <= self.sample_rate / 2:
            raise SpecError(
                f"front end: fmin = {self.fmin}, fmax = {self.fmax}; "
                f"expected 0 ≤ fmin < fmax ≤ {self.sample_rate / 2} (half the sample rate)"
            )
        self._require(_CHOICES)
        self._require(_SLANEY if self.mel_scale == "slaney" else _KALDI, f" with mel_scale = {self.mel_scale!r}")
        if self.mel_scale == "kaldi":
            self._require(_KALDI_CENTRED if self.center else _KALDI_WHOLE, f" with center = {self.center!r}")
            self._require_kaldi_values()
        name, least = ("amin", self.amin) if self.log_offset is None else ("log_offset", self.log_offset)
        if not least >= _SMALLEST:
            raise SpecError(f"front end: {name} = {least}; expected ≥ {_SMALLEST:.3g}")

    def _require(self, allowed: Mapping[str, tuple[object, ...]], where: str = "") -> None:
        for name, choices in allowed.items():
            value = getattr(self, name)
            if value not in choices or (isinstance(value, bool) != isinstance(choices[0], bool)):  # 1 == True
                options = ", ".join(repr(c) for c in choices)
                raise SpecError(f"front end: {name} = {shown(value)} is not implemented{where}; expected {options}")

    def _require_kaldi_values(self) -> None:
        """Checks the values that only the definitions with Kaldi's mel bands have."""
        if self.center:
            if not _is_finite(self.log_offset):
                raise SpecError(f"front end: log_offset = {shown(self.log_offset)}; expected a number > 0")
            object.__setattr__(self, "log_offset", float(self.log_offset))
        if self.padded_frames is not None and not _is_count(self.padded_frames):
            raise SpecError(
                f"front end: padded_frames = {shown(self.padded_frames)}; expected a whole number ≥ 1, or none"
            )
        if not _is_finite(self.pre_emphasis) or not 0 < self.pre_emphasis < 1:
            raise SpecError(f"front end: pre_emphasis = {shown(self.pre_emphasis)}; expected a number between 0 and 1")
        pair = self.affine
        if (
            not isinstance(pair, (tuple, list))
            or len(pair) != 2
            or not all(map(_is_finite, pair))
            or pair[1] < _SMALLEST
        ):
            raise SpecError(f"front end: affine = {shown(pair)}; expected (offset, scale), two numbers, scale > 0")
        object.__setattr__(self, "affine", (float(pair[0]), float(pair[1])))  # JSON has no tuples

    @property
    def bins(self) -> int:
        """Number of frequency bins, n_fft / 2 + 1."""
        return self.n_fft // 2 + 1

    @property
    def least_samples(self) -> int:
        """Length of the shortest waveform, samples. Reflection needs n_fft / 2 + 1; pre-emphasis one more."""
        return self.n_fft // 2 + 1 + self._lost_samples if self.center else self.win_length

    @property
    def most_samples(self) -> int | None:
        """Length of the longest waveform that is not cut off, samples; None if there is no limit."""
        return None if self.padded_frames is None else self.win_length + self.padded_frames * self.hop_length - 1

    @property
    def _lost_samples(self) -> int:
        return 1 if self.pre_emphasis else 0

    def frames(self, samples: int) -> int:
        """Returns the number of frames of a waveform of `samples` ≥ least_samples samples."""
        return self.filled_frames(samples) if self.padded_frames is None else self.padded_frames

    def filled_frames(self, samples: int) -> int:
        """Returns the number of frames that a waveform of `samples` ≥ least_samples samples fills."""
        if self.center:
            return (samples - self._lost_samples) // self.hop_length + 1
        whole = (samples - self.win_length) // self.hop_length + 1
        return whole if self.padded_frames is None else min(whole, self.padded_frames)

    def samples(self, seconds: float) -> int:
        """Returns the number of samples in `seconds`."""
        return round(seconds * self.sample_rate)

    def describe(self) -> str:
        """Returns the log-mel's definition in words, on one line."""
        mel = f"mel + {self.log_offset:g}" if self.log_offset is not None else f"max(mel, {self.amin:g})"
        log = f"{'ln' if self.log == 'ln' else '10·log10'}({mel})"
        if self.padded_frames is not None:
            log += f", zeros up to {self.padded_frames} frames"
        if self.affine is not None:
            log += ", (x + {:g}) / {:g}".format(*self.affine)
        emphasis = f"pre-emphasis {self.pre_emphasis:g}" if self.pre_emphasis else ""
        before = f"{emphasis}, " if emphasis and self.center else ""
        frames = f"centred with {self.pad_mode} padding"
        if not self.center:
            frames = f"frames that lie whole within the clip, each without its mean and with {emphasis}"
        return (
            f"{self.sample_rate} Hz mono, {before}{self.window} window of {self.win_length} samples in an FFT of "
            f"{self.n_fft}, hop {self.hop_length}, {frames}, power {self.power:g}, {self.n_mels} {self.mel_scale} mels "
            f"{self.fmin:g}–{self.fmax:g} Hz, {log}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Returns the spec as JSON types."""
        data = asdict(self)
        return data if self.affine is None else data | {"affine": list(self.affine)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> FrontEndSpec:
        """Makes a spec from JSON types, strictly: every field is required, and no other is allowed.

        Raises:
            SpecError: a field is missing, unknown, of another type or out of range.
        """
        spec: FrontEndSpec = read(cls, data, "spec", error=SpecError)
        return spec


def _is_count(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value < 2**31


def _is_finite(value: object) -> TypeGuard[float]:
    """Returns whether a value is a number that float32 can hold: not NaN, not Inf, not a bool."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= _LARGEST


PANNS_32K = FrontEndSpec(
    sample_rate=32000, n_fft=1024, win_length=1024, hop_length=320, n_mels=64, fmin=50.0, fmax=14000.0
)
"""Front end of Cnn14 and of most PANNs (Kong et al. 2020, https://arxiv.org/abs/1912.10211)."""
PANNS_16K = FrontEndSpec(
    sample_rate=16000, n_fft=512, win_length=512, hop_length=160, n_mels=64, fmin=50.0, fmax=8000.0
)
"""Front end of Cnn14_16k."""
PANNS_8K = FrontEndSpec(sample_rate=8000, n_fft=256, win_length=256, hop_length=80, n_mels=64, fmin=50.0, fmax=4000.0)
"""Front end of Cnn14_8k."""
EFFICIENTAT_32K = FrontEndSpec(
    sample_rate=32000,
    n_fft=1024,
    win_length=800,
    hop_length=320,
    n_mels=128,
    fmin=0.0,
    fmax=15000.0,
    window="hann_symmetric",
    mel_scale="kaldi",
    mel_norm=None,
    log="ln",
    amin=0.0,
    log_offset=1e-5,
    pre_emphasis=0.97,
    affine=(4.5, 5.0),
)
"""Front end of EfficientAT's mn04_as … mn40_as (Schmid et al. 2023, https://arxiv.org/abs/2211.04772).

Pre-emphasis shortens the waveform by a sample: 10 s give 1000 frames, while PANNs have 1001.
"""
AST_16K = FrontEndSpec(
    sample_rate=16000,
    n_fft=512,
    win_length=400,
    hop_length=160,
    n_mels=128,
    fmin=20.0,
    fmax=8000.0,
    window="hann_symmetric",
    center=False,
    mel_scale="kaldi",
    mel_norm=None,
    log="ln",
    amin=2.0**-23,
    pre_emphasis=0.97,
    affine=(4.2677393, 2 * 4.5689974),
    remove_dc=True,
    padded_frames=1024,
)
"""Front end of AST (Gong, Chung, Glass 2021, https://arxiv.org/abs/2104.01778). `affine` normalises with the mean and
twice the deviation of AudioSet."""

FRONT_ENDS = {
    "panns_32k": PANNS_32K,
    "panns_16k": PANNS_16K,
    "panns_8k": PANNS_8K,
    "efficientat_32k": EFFICIENTAT_32K,
    "ast_16k": AST_16K,
}
"""The front ends above by name."""


def front_end_of(name: str | os.PathLike[str]) -> FrontEndSpec:
    """Returns the front end of a name in `FRONT_ENDS`, or the one that a JSON file has, as a bundle's manifest does.

    Raises:
        SpecError: there is no such name or file, or the file's content is no front end.
    """
    if isinstance(name, str) and name.casefold() in FRONT_ENDS:
        return FRONT_ENDS[name.casefold()]
    if not os.path.exists(name):
        raise SpecError(f"front end {shown(name)}; expected {', '.join(FRONT_ENDS)}, or a JSON file")
    data = read_json(name, error=SpecError, what="a front end")
    if not isinstance(data, dict):
        raise SpecError(f"{printable(name)}: expected a JSON object with the fields of a front end")
    try:
        return FrontEndSpec.from_dict(data)
    except SpecError as error:
        raise SpecError(f"{printable(name)}: {error}") from error
