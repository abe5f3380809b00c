"""Front end inside the graph: waveform to log-mel with operations that a phone's GPU runs, accurate in float16.

docs/waveform-graph.md explains every step and its error budget. In short: float16 has 11 bits and a range of
6e-5 … 65504, but a log-mel needs 80 dB inside a frame and 130 dB in all. Therefore the DFT is a fast one (three short
sums instead of one of 1024 terms), a pre-emphasis whitens its frames and is undone exactly in the mel weights, and the
power is computed twice, at a loud and at a quiet scale.
"""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from panns_litert.errors import SpecError
from panns_litert.frontend import FrontEndSpec, hann, mel_basis

EMPHASIS = 0.875
"""Coefficient a of the pre-emphasis x[n] - a·x[n+1].

The level of music and speech falls with frequency. 0.875 lifts the highest band 23 dB above the lowest, which is about
as much, and keeps white noise within 0.4 dB in the lowest band.
"""
CENTRE = 11.5
"""Offset of the graph's log-mel, which is ln(mel / amin) - CENTRE, in nepers.

The floor is -11.5, which float16 represents exactly, and usual levels lie around zero, where float16 is finest. In
decibels its steps would be 0.06 dB at the quiet end.
"""
NEPERS_TO_DB = 10.0 / math.log(10.0)

_Complex = NDArray[np.complex128]

# Scale of the DFT's intermediate values. In every stage a full-scale sound stays below 65504, and a sound of -100 dB
# stays above float16's subnormal numbers, which some GPUs flush to zero.
_SCALE = 32.0
# Loud branch: scale of the spectrum before it is squared. Every band's largest mel weight is 1. By Parseval's theorem
# no mel sum of samples within ±1.3 exceeds 65504. A bin's power becomes subnormal below a magnitude of 0.02.
_LOUD = 0.375
# Quiet branch: the spectrum is clamped at _QUIET_LIMIT, 28 dB above that magnitude, and scaled so that the limit's
# square is _QUIET_SUM. Every band's mel weights add up to 1. The floor, -100 dB, is four times _LEAST in this branch.
_QUIET_LIMIT, _QUIET_SUM = 0.5, 40000.0
# Smallest argument of a logarithm: float16's smallest normal number, rounded up.
_LEAST = 6.2e-5
# Where the loud mel sum is about to underflow, the quiet one must be larger. Below _PULL_BELOW the loud logarithm is
# therefore lowered, at a sum of zero by 13 nepers (57 dB), which is below the floor of every band.
_PULL_BELOW, _PULL = 2e-4, 65504.0


class GraphLogMel(nn.Module):
    """Log-mel of a waveform of fixed length, (1, samples) to (1, 1, frames, mels), in centred nepers.

    `to_decibels` converts the result to dB.

    Args:
        spec: the front end. Its window's first value must be 0, as that of a periodic Hann window is.
        samples: length of the waveform, ≥ n_fft / 2 + 1.

    Raises:
        SpecError: this graph cannot compute the front end, or there are too few samples for reflect padding.
    """

    def __init__(self, spec: FrontEndSpec, *, samples: int) -> None:
        super().__init__()
        window = hann(spec.win_length, spec.n_fft)
        columns = math.gcd(spec.n_fft, spec.hop_length)
        taps = spec.n_fft // columns
        if window[0] != 0.0 or taps % 2 or spec.log != "10log10" or spec.pre_emphasis:
            raise SpecError(
                f"front end with n_fft {spec.n_fft}, hop {spec.hop_length}: no waveform graph; expected PANNs' "
                "log-mel, a window that starts at 0 and n_fft / gcd(n_fft, hop) even; use the logmel graph"
            )
        if samples < spec.n_fft // 2 + 1:
            raise SpecError(f"waveform of {samples} samples; expected at least {spec.n_fft // 2 + 1}")
        self.spec, self.samples, self.columns = spec, samples, columns
        self.frames = spec.frames(samples)
        self.rows = spec.hop_length // columns * (self.frames - 1) + taps
        self.classes = taps // 2 + 1  # of bins congruent modulo taps; the other classes mirror these
        self.flip = _conv(torch.eye(columns).flip(0)[:, :, None, None])
        stride = (spec.hop_length // columns, 1)
        outputs = 2 * self.classes * columns
        self.windowed_dft = nn.Conv2d(columns, outputs, (taps, 2), stride=stride, groups=columns, bias=False)
        self.windowed_dft.weight.data = _f32(_first_stage(window, columns, self.classes))
        first, second, gain = _column_dft(columns, taps, spec.n_fft)
        self.dft = nn.Sequential(*(_conv(_f32(_real(stage))[..., None, None]) for stage in (first, second)))
        weights = _mel_weights(spec, gain, taps, self.classes)
        bands = (1, 2, 3)
        self.loud_mel, self.loud_offset = self._mel(weights, weights.max(axis=bands), _LOUD)
        self.quiet_scale = math.sqrt(_QUIET_SUM) / _QUIET_LIMIT
        self.quiet_mel, self.quiet_offset = self._mel(weights, weights.sum(axis=bands), self.quiet_scale)

    def _mel(self, weights: NDArray[np.float64], unit: NDArray[np.float64], scale: float) -> tuple[nn.Conv2d, Tensor]:
        """Returns the mel sums, each band's weights divided by its unit, and the offset that corrects the logarithm."""
        unit = np.maximum(unit, np.finfo(np.float32).tiny)
        offset = np.log(unit / scale**2 / self.spec.amin) - CENTRE
        return _conv(_f32(weights / unit[:, None, None, None])), _f32(offset)[None, :, None, None]

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (1, samples) to log-mel (1, 1, frames, mels), in centred nepers, ≥ -CENTRE."""
        x = self._padded(waveform)[:, : self.rows * self.columns]
        # The last difference may be any number, because its weight is the window's zero.
        difference = x - torch.cat([x[:, 1:], x[:, :1]], dim=1)
        shape = (1, self.rows, 1, self.columns)
        both = torch.cat([x.reshape(shape), difference.reshape(shape)], dim=2)  # (1, rows, 2, columns)
        z = self.windowed_dft(both.permute(0, 3, 1, 2))  # (1, columns · classes · re/im, frames, 1)
        z = z.permute(0, 2, 3, 1).reshape(self.frames, self.columns, self.classes, 2)
        z = z.permute(0, 2, 1, 3).reshape(1, self.frames, self.classes, 2 * self.columns)
        z = self.dft(z.permute(0, 3, 1, 2))  # (1, bin · re/im, frames, classes)

        loud = z * (_LOUD / _SCALE)
        limit = _QUIET_LIMIT * _SCALE
        quiet = torch.clamp(z, -limit, limit) * (self.quiet_scale / _SCALE)
        loud_mel, quiet_mel = self.loud_mel(loud * loud), self.quiet_mel(quiet * quiet)  # (1, mels, frames, 1)
        loud_log = torch.log(torch.clamp(loud_mel, min=_LEAST)) + self.loud_offset
        quiet_log = torch.log(torch.clamp(quiet_mel, min=_LEAST)) + self.quiet_offset
        loud_log = loud_log - F.relu(_PULL_BELOW - loud_mel) * _PULL
        # Underflow and clamping only lower a branch, so the larger branch is the accurate one.
        logmel = torch.clamp(torch.maximum(loud_log, quiet_log), min=-CENTRE)
        return logmel.permute(0, 3, 2, 1)

    def _padded(self, x: Tensor) -> Tensor:
        """Pads by n_fft / 2 with reflection, without a gather: (1, samples) to (1, samples + n_fft)."""
        pad = self.spec.n_fft // 2
        return torch.cat([self._reversed(x[:, 1 : pad + 1]), x, self._reversed(x[:, -pad - 1 : -1])], dim=1)

    def _reversed(self, x: Tensor) -> Tensor:
        """Reverses (1, n_fft / 2) exactly: a convolution reverses the columns, a concatenation the rows."""
        rows = x.shape[1] // self.columns
        x = self.flip(x.reshape(1, rows, 1, self.columns).permute(0, 3, 1, 2))  # (1, columns, rows, 1)
        x = torch.cat([x[:, :, row : row + 1] for row in reversed(range(rows))], dim=2)
        return x.permute(0, 2, 3, 1).reshape(1, -1)


# The DFT's constants take 0.9 MB. On a CPU that computes in float32, fewer bits would add rounding noise 70 dB below
# the loudest band.
ALWAYS_FLOAT32 = r"(^|;)logmel[.;]"
"""Regular expression of the tensors of a front end inside a graph. Their constants stay float32 at every precision.

A network holds its `GraphLogMel` as the attribute `logmel`, and tensors are named by module paths
(`export.export_fp32`).
"""


class WaveformNetwork(nn.Module):
    """A log-mel network with its front end inside the graph: samples (1, samples) to the network's outputs.

    Args:
        network: takes log-mel in dB and begins with a batch norm `bn0` over the mel bands. The new network's `bn0`
            includes the change of units.
        spec: the network's front end.
        samples: length of the waveform.
    """

    def __init__(self, network: nn.Module, spec: FrontEndSpec, *, samples: int) -> None:
        super().__init__()
        self.logmel = GraphLogMel(spec, samples=samples)
        # The copy shares all modules except the batch norm, because the weights may be hundreds of megabytes.
        self.network = copy.copy(network)
        self.network._modules = dict(network._modules)
        self.network.bn0 = in_nepers(network.get_submodule("bn0"), spec)
        self.eval()

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Samples (1, samples), nominally within [-1, 1], to the network's outputs."""
        return self.network(self.logmel(waveform))  # type: ignore[no-any-return]


def to_decibels(logmel: NDArray[np.floating], spec: FrontEndSpec) -> NDArray[np.float64]:
    """Converts the centred nepers of `GraphLogMel` to dB."""
    return NEPERS_TO_DB * (np.asarray(logmel, np.float64) + CENTRE) + 10.0 * math.log10(spec.amin)


def in_nepers(norm: nn.Module, spec: FrontEndSpec) -> nn.BatchNorm1d:
    """Returns a batch norm that takes centred nepers and gives the outputs that `norm` gives for dB."""
    assert isinstance(norm, nn.BatchNorm1d)
    floor = NEPERS_TO_DB * CENTRE + 10.0 * math.log10(spec.amin)
    new = copy.deepcopy(norm)
    assert new.running_mean is not None
    new.running_mean = ((new.running_mean.double() - floor) / NEPERS_TO_DB).float()
    new.weight = nn.Parameter((new.weight.double() * NEPERS_TO_DB).float())
    return new


def _first_stage(window: NDArray[np.float64], columns: int, classes: int) -> NDArray[np.float64]:
    """Returns the weights of the window, the emphasis and the sums over rows, (columns · classes · 2, 1, taps, 2).

    For sample n = columns·r + c of a frame and bin k = k1 + taps·k2, exp(-2πi·n·k/N) is the product of
    exp(-2πi·n·k1/N), computed here, and exp(-2πi·c·k2/columns), computed by `_column_dft`. The windowed, whitened
    signal w[n]·x[n] - a·w[n+1]·x[n+1] is written as (w[n] - a·w[n+1])·x[n] + a·w[n+1]·(x[n] - x[n+1]). This is a sum
    over samples and their differences, in which both terms are small where the sum is small.
    """
    n_fft = len(window)
    phase = np.exp(-2j * np.pi * np.outer(np.arange(classes), np.arange(n_fft)) / n_fft)  # (classes, n)
    after = EMPHASIS * np.roll(window, -1)
    weights = np.empty((columns, classes, 2, n_fft // columns, 2))
    for kind, values in enumerate((window - after, after)):
        terms = (_SCALE * phase * values).reshape(classes, -1, columns).transpose(2, 0, 1)  # (c, k1, r)
        weights[:, :, 0, :, kind], weights[:, :, 1, :, kind] = terms.real, terms.imag
    return weights.reshape(columns * classes * 2, 1, -1, 2)


def _column_dft(columns: int, taps: int, n_fft: int) -> tuple[_Complex, _Complex, NDArray[np.float64]]:
    """Returns the DFT over columns as two sparse matrices, and the gain (columns,) that the second one includes.

    The gain undoes the emphasis approximately, with one value for all bins of a k2. The mel weights undo the rest.
    """
    inner = 2 ** (int(math.log2(columns)) // 2)  # 8 of 64
    inner = inner if columns % inner == 0 else 1
    outer = columns // inner
    first = np.zeros((outer, inner, columns), np.complex128)  # (c0, ka), c = outer·c1 + c0
    for c0 in range(outer):
        for c1 in range(inner):
            first[c0, :, outer * c1 + c0] = np.exp(-2j * np.pi * np.arange(inner) * (c1 / inner + c0 / columns))
    second = np.zeros((outer, inner, outer, inner), np.complex128)  # (kb, ka), k2 = ka + inner·kb
    for ka in range(inner):
        second[:, ka, :, ka] = np.exp(-2j * np.pi * np.outer(np.arange(outer), np.arange(outer)) / outer)
    gain = 1.0 / _emphasis(taps * (np.arange(columns) + 0.5), n_fft)
    square = (columns, columns)
    return np.asarray(first.reshape(square)), np.asarray(gain[:, None] * second.reshape(square)), gain


def _emphasis(bins: NDArray[np.generic], n_fft: int) -> NDArray[np.float64]:
    """Returns the magnitude of 1 - a·exp(2πi·k/N) for every bin k."""
    return np.asarray(np.abs(1.0 - EMPHASIS * np.exp(2j * np.pi / n_fft * np.asarray(bins, np.float64))), np.float64)


def _mel_weights(spec: FrontEndSpec, gain: NDArray[np.float64], taps: int, classes: int) -> NDArray[np.float64]:
    """Returns the weights of the squares, (mels, k2 · re/im, 1, k1): the mel basis divided by emphasis and gain."""
    basis = mel_basis(spec).astype(np.float64)
    weights = np.zeros((spec.n_mels, len(gain), 2, classes))
    for k1 in range(classes):
        k = k1 + taps * np.arange(len(gain))
        power = np.square(gain * _emphasis(k, spec.n_fft))
        # Bin N - k mirrors bin k. If both are in the same class, only the lower one counts.
        mirrored = k > spec.n_fft // 2
        counts = ~mirrored | (k1 not in (0, taps // 2))
        folded = np.where(mirrored, spec.n_fft - k, k)
        weights[:, :, :, k1] = (np.where(counts, basis[:, folded], 0.0) / power)[:, :, None]
    return weights.reshape(spec.n_mels, -1, 1, classes)


def _real(matrix: _Complex) -> NDArray[np.float64]:
    """Returns a complex matrix (out, in) as a real one with interleaved re and im, (2·out, 2·in)."""
    rows, columns = matrix.shape
    real = np.empty((rows, 2, columns, 2))
    real[:, 0, :, 0], real[:, 0, :, 1] = matrix.real, -matrix.imag
    real[:, 1, :, 0], real[:, 1, :, 1] = matrix.imag, matrix.real
    return real.reshape(2 * rows, 2 * columns)


def _conv(weight: Tensor) -> nn.Conv2d:
    """Returns a convolution with the weights (outputs, inputs, height, width), without bias or padding."""
    conv = nn.Conv2d(weight.shape[1], weight.shape[0], (weight.shape[2], weight.shape[3]), bias=False)
    conv.weight.data = weight
    return conv


def _f32(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
