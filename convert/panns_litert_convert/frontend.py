"""Front end inside the graph: waveform to log-mel with operations that a phone's GPU runs, accurate in float16.

docs/waveform-graph.md explains every step and its error budget. In short: float16 has 11 bits and a range of
6e-5 … 65504, but a log-mel needs 80 dB inside a frame and 130 dB in all. Therefore the DFT is a fast one (three short
sums instead of one of 1024 terms) of whitened frames, and the power is computed twice, at a loud and at a quiet scale.
The front end's own pre-emphasis whitens the frames. If it has none, another one does, which the mel weights undo
exactly.
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
"""Coefficient b of the pre-emphasis x[n] - b·x[n+1], for front ends without one.

The level of music and speech falls with frequency. 0.875 lifts the highest band 23 dB above the lowest, which is about
as much, and keeps white noise within 0.4 dB in the lowest band.
"""
CENTRE = 11.5
"""Offset of the graph's log-mel for a front end in dB: ln(mel / amin) - CENTRE, in nepers.

The floor is -11.5, which float16 represents exactly, and usual levels lie around zero, where float16 is finest. In
decibels its steps would be 0.06 dB at the quiet end.
"""
NEPERS_TO_DB = 10.0 / math.log(10.0)

# Scale of the samples and of the DFT's intermediate values. In every stage a full-scale sound stays below 65504, and a
# sound at the floor stays above float16's subnormal numbers, which some GPUs flush to zero.
_SCALE = 32.0
# Loud branch: the spectrum is scaled so that, by Parseval's theorem, no mel sum of samples within ±_PEAK exceeds
# _LOUDEST. Single bins may be 40 % larger before the mel weights have undone the emphasis.
_PEAK, _LOUDEST = 1.3, 47000.0
# Quiet branch: the loud spectrum is clamped at _QUIET_LIMIT, 28 dB above the magnitude whose square is subnormal, and
# scaled so that no mel sum exceeds _QUIET_SUM.
_QUIET_LIMIT, _QUIET_SUM = 0.1875, 40000.0
# Smallest argument of a logarithm: float16's smallest normal number, rounded up. In the quiet branch, every front end's
# floor is more than twice as large.
_LEAST = 6.2e-5
# Where the loud mel sum is about to underflow, the quiet one must be larger. Below _PULL_BELOW the loud logarithm is
# therefore lowered, at a sum of zero by 13 nepers (57 dB), which is below the floor of every band.
_PULL_BELOW, _PULL = 2e-4, 65504.0


class GraphLogMel(nn.Module):
    """Log-mel of a waveform of fixed length, (1, samples) to (1, 1, frames, mels), in the unit of `unit_of`.

    `to_decibels` converts the result to dB.

    Args:
        spec: the front end.
        samples: length of the waveform, at least `spec.least_samples`.

    Raises:
        SpecError: this graph cannot compute the front end, or there are too few samples.
    """

    def __init__(self, spec: FrontEndSpec, *, samples: int) -> None:
        super().__init__()
        columns = math.gcd(spec.n_fft, spec.hop_length)
        taps, step = spec.n_fft // columns, spec.hop_length // columns
        if taps % 2:
            raise SpecError(
                f"front end with n_fft {spec.n_fft}, hop {spec.hop_length}: no waveform graph; expected "
                "n_fft / gcd(n_fft, hop) even; use the logmel graph"
            )
        if samples < spec.least_samples:
            raise SpecError(f"waveform of {samples} samples; expected at least {spec.least_samples}")
        self.spec, self.samples, self.columns = spec, samples, columns
        self.frames, self.filled = spec.frames(samples), spec.filled_frames(samples)
        window, before = _window(spec)
        length = window.shape[1]
        # Padding is added in whole rows, so the first frame may start within the first row.
        self.pad = columns * math.ceil(max(before, length - 1 - before) / columns) if spec.center else 0
        self.start = self.pad - before
        if spec.center:
            self.flip_columns, self.flip_rows = _conv(_flip(columns)), _conv(_flip(2 * self.pad // columns))
        height = math.ceil(length / columns)
        self.rows = step * (self.filled - 1) + height

        self.classes = taps // 2 + 1  # of bins congruent modulo taps; the other classes mirror these
        self.inner = _inner(columns)
        self.outer = columns // self.inner
        first = _first_stage(window, spec.n_fft, height, columns, self.classes)
        channels = 2 * columns * self.classes
        self.windowed_dft = _conv(first.reshape(channels, 1, height, -1), groups=columns, stride=step)
        if spec.remove_dc:
            # Pre-emphasis leaves the same share of a frame's mean at every sample: its DFT is that of the window.
            mean_dft = (spec.pre_emphasis - 1.0) * first.sum(axis=(3, 4))
            self.mean_dft = _conv(mean_dft.reshape(channels, 1, 1, 1))
        gain = 1.0 / _emphasis(taps * (np.arange(columns) + 0.5), spec)
        energy = spec.n_fft / 2 * np.square(_hann(spec)).sum() * (_PEAK * (1.0 + spec.pre_emphasis)) ** 2
        loud = math.sqrt(_LOUDEST / energy)
        # At this scale a sound at the floor of a front end in dB would be subnormal: there the scale follows the DFT.
        early, self.late = (loud / _SCALE, 1.0) if spec.log == "ln" else (1.0, loud / _SCALE)
        inner_dft, outer_dft = _column_dft(gain * early, self.inner, self.outer)
        self.dft = nn.ModuleList([_conv(inner_dft, groups=self.outer)])
        self.dft += [_conv(part, groups=self.inner) for part in outer_dft]

        weights = _mel_weights(spec, gain, taps, self.classes, self.inner)
        units = weights.max(axis=(1, 2, 3)), weights.sum(axis=(1, 2, 3))
        largest, total = (np.maximum(unit, np.finfo(np.float32).tiny) for unit in units)
        if spec.mel_scale == "slaney":
            self.quiet_limit = math.sqrt(_QUIET_SUM / 2)
            self.loud_mel = _conv(weights / largest[:, None, None, None])
            self.quiet_mel = _conv(weights / total[:, None, None, None])
        else:
            # Every band's largest weight is near 1, and the floor is high enough for a quiet branch with less range.
            # Therefore both branches have the same weights, and the file holds them once.
            self.quiet_limit = math.sqrt(_QUIET_SUM / 2 / total.max())
            largest = total = np.ones(1)
            self.loud_mel = self.quiet_mel = _conv(weights)
        quiet = loud * self.quiet_limit / _QUIET_LIMIT
        self.offset, self.unit = unit_of(spec)
        self.loud_offset, self.quiet_offset = (
            _f32((np.log(unit / scale**2) + self.offset) / self.unit)[None, :, None, None]
            for unit, scale in ((largest, loud), (total, quiet))
        )
        self.loud_addend, self.quiet_addend = ((spec.log_offset or 0.0) * scale**2 for scale in (loud, quiet))

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (1, samples) to log-mel (1, 1, frames, mels)."""
        spec, columns = self.spec, self.columns
        waveform = waveform * _SCALE
        signals = [signal.reshape(1, self.rows, 1, columns) for signal in self._signals(waveform)]
        x = torch.cat(signals, dim=2) if len(signals) > 1 else signals[0]  # (1, rows, signals, columns)
        # Column outer·c1 + c0 becomes channel (c0, c1), so that the sums over c1 are groups of neighbouring channels.
        x = x.reshape(-1, self.inner, self.outer).permute(0, 2, 1).reshape(1, self.rows, -1, columns)
        z = self.windowed_dft(x.permute(0, 3, 1, 2))  # (1, c0 · c1 · re/im · classes, frames, 1)
        if spec.remove_dc:
            z = z + self.mean_dft(self._means(waveform))
        z = z.permute(0, 2, 3, 1).reshape(self.filled, 2 * columns, self.classes).permute(0, 2, 1)
        z = z.reshape(1, self.filled, self.classes, 2 * columns)
        z = self.dft[0](z.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (1, frames, classes, c0 · ka · re/im)
        z = z.reshape(self.filled * self.classes, self.outer, 2 * self.inner).permute(0, 2, 1)
        z = z.reshape(1, self.filled, self.classes, 2 * columns).permute(0, 3, 1, 2)
        spectrum = self.dft[1](z), self.dft[2](z)  # re and im, each (1, ka · kb, frames, classes)

        re, im = spectrum if self.late == 1.0 else (part * self.late for part in spectrum)
        loud_mel = self.loud_mel(re * re + im * im)  # (1, mels, frames, 1)
        loud_log = self._log(loud_mel, self.loud_addend) - F.relu(_PULL_BELOW - loud_mel) * _PULL
        clamped = (torch.clamp(part * (self.late / _QUIET_LIMIT), -1.0, 1.0) for part in spectrum)
        re, im = (part * self.quiet_limit for part in clamped)
        quiet_log = self._log(self.quiet_mel(re * re + im * im), self.quiet_addend)
        if self.unit != 1.0:  # before large offsets are added, which cost digits
            loud_log, quiet_log = loud_log * (1.0 / self.unit), quiet_log * (1.0 / self.unit)
        # Underflow and clamping only lower a branch, so the larger branch is the accurate one.
        logmel = torch.maximum(loud_log + self.loud_offset, quiet_log + self.quiet_offset)
        if spec.log_offset is None:
            logmel = torch.clamp(logmel, min=(math.log(spec.amin) + self.offset) / self.unit)
        logmel = logmel.permute(0, 3, 2, 1)
        if self.filled < self.frames:
            zeros = torch.full((1, 1, self.frames - self.filled, spec.n_mels), self.offset / self.unit)
            logmel = torch.cat([logmel, zeros], dim=2)
        return logmel

    def _log(self, mel: Tensor, addend: float) -> Tensor:
        return torch.log(torch.clamp(mel + addend if addend else mel, min=_LEAST))

    def _signals(self, x: Tensor) -> list[Tensor]:
        """Returns the signals, each (1, rows · columns), whose windowed sum is a frame; see `_window`."""
        spec, length = self.spec, self.rows * self.columns
        if not spec.pre_emphasis:
            x = self._padded(x)[:, self.start : self.start + length]
            # The last difference may be any number, because its weight is the window's zero.
            return [x, x - torch.cat([x[:, 1:], x[:, :1]], dim=1)]
        # x[n + 1] - a·x[n] as a sum of small terms. In float16 the difference of similar numbers is exact.
        x = (x[:, 1:] - x[:, :-1]) + x[:, :-1] * (1.0 - spec.pre_emphasis)
        if spec.center:
            x = self._padded(x)
        x = x[:, self.start :]
        missing = length - x.shape[1]  # of the last row. They may be any numbers, because their weights are zero.
        return [torch.cat([x, x[:, :missing]], dim=1) if missing > 0 else x[:, :length]]

    def _means(self, x: Tensor) -> Tensor:
        """Returns the mean of every frame, (1, 1, frames, 1)."""
        spec = self.spec
        columns = math.gcd(spec.win_length, spec.hop_length)
        height, step = spec.win_length // columns, spec.hop_length // columns
        rows = step * (self.filled - 1) + height
        means = x[:, : rows * columns].reshape(1, rows, columns).mean(dim=2)
        return F.avg_pool2d(means.reshape(1, 1, rows, 1), (height, 1), (step, 1))

    def _padded(self, x: Tensor) -> Tensor:
        """Pads by `pad` with reflection, without a gather: (1, samples) to (1, samples + 2 · pad)."""
        pad = self.pad
        # One convolution reverses the columns and another one the rows, of both ends together: exact in any arithmetic.
        ends = torch.cat([x[:, 1 : pad + 1], x[:, -pad - 1 : -1]], dim=1)
        ends = self.flip_columns(ends.reshape(1, -1, 1, self.columns).permute(0, 3, 1, 2))  # (1, columns, rows, 1)
        ends = self.flip_rows(ends.permute(0, 2, 3, 1)).reshape(1, -1)
        return torch.cat([ends[:, pad:], x, ends[:, :pad]], dim=1)


# The constants take 0.5 MB. On a CPU that computes in float32, fewer bits would add rounding noise 70 dB below the
# loudest band.
ALWAYS_FLOAT32 = r"(^|;)logmel[.;]"
"""Regular expression of the tensors of a front end inside a graph. Their constants stay float32 at every precision.

A network holds its `GraphLogMel` as the attribute `logmel`, and tensors are named by module paths
(`export.export_fp32`).
"""


class WaveformNetwork(nn.Module):
    """A log-mel network with its front end inside the graph: samples (1, samples) to the network's outputs.

    Args:
        network: takes the front end's log-mel. If that is in dB, the network begins with a batch norm `bn0` over the
            mel bands, and the new network's `bn0` includes the change of units.
        spec: the network's front end.
        samples: length of the waveform.
    """

    def __init__(self, network: nn.Module, spec: FrontEndSpec, *, samples: int) -> None:
        super().__init__()
        self.logmel = GraphLogMel(spec, samples=samples)
        # The copy shares all modules except the batch norm, because the weights may be hundreds of megabytes.
        self.network = copy.copy(network)
        self.network._modules = dict(network._modules)
        if spec.log == "10log10":
            self.network.bn0 = in_nepers(network.get_submodule("bn0"), spec)
        self.eval()

    def forward(self, waveform: Tensor) -> dict[str, Tensor]:
        """Samples (1, samples), nominally within [-1, 1], to the network's outputs."""
        return self.network(self.logmel(waveform))  # type: ignore[no-any-return]


def unit_of(spec: FrontEndSpec) -> tuple[float, float]:
    """Returns (offset, scale) of the graph's log-mel, which is (nepers + offset) / scale.

    It is the network's unit, `spec.affine`, except for front ends in dB: there it is centred nepers (`CENTRE`).
    """
    return (-math.log(spec.amin) - CENTRE, 1.0) if spec.affine is None else spec.affine


def to_decibels(logmel: NDArray[np.floating], spec: FrontEndSpec) -> NDArray[np.float64]:
    """Converts the log-mel of `GraphLogMel` to dB."""
    offset, scale = unit_of(spec)
    return NEPERS_TO_DB * (np.asarray(logmel, np.float64) * scale - offset)


def in_nepers(norm: nn.Module, spec: FrontEndSpec) -> nn.BatchNorm1d:
    """Returns a batch norm that takes centred nepers and gives the outputs that `norm` gives for dB."""
    assert isinstance(norm, nn.BatchNorm1d)
    floor = NEPERS_TO_DB * CENTRE + 10.0 * math.log10(spec.amin)
    new = copy.deepcopy(norm)
    assert new.running_mean is not None
    new.running_mean = ((new.running_mean.double() - floor) / NEPERS_TO_DB).float()
    new.weight = nn.Parameter((new.weight.double() * NEPERS_TO_DB).float())
    return new


def _hann(spec: FrontEndSpec) -> NDArray[np.float64]:
    """Returns the window, win_length values. The first is 0."""
    return hann(spec.win_length, spec.win_length, symmetric=spec.window == "hann_symmetric")


def _window(spec: FrontEndSpec) -> tuple[NDArray[np.float64], int]:
    """Returns the weights that a frame's signals have, (signals, length), and how many samples precede its centre.

    Without centring there is no centre, and the second number is 0. The power spectrum does not depend on where in a
    frame its nonzero samples are.

    - With pre-emphasis, the signal is y[n] = x[n + 1] - a·x[n], and the weights are the window without its zeros. This
      is also right if pre-emphasis is applied inside each frame, because only its first sample, which the window
      multiplies by 0, depends on that.
    - Without, the frame is filtered after the window: w[n]·x[n] - b·w[n + 1]·x[n + 1] with b = EMPHASIS. This is the
      circular filter that the DFT needs, because w[0] is 0. It is written as
      (w[n] - b·w[n + 1])·x[n] + b·w[n + 1]·(x[n] - x[n + 1]), a sum over samples and their differences, in which both
      terms are small where the sum is small.
    """
    window = _hann(spec)
    before = (len(window) + 1) // 2 if spec.center else 0
    if spec.pre_emphasis:
        return window[None, 1:-1], before - 1 if spec.center else 0
    after = EMPHASIS * np.roll(window, -1)
    return np.stack([window - after, after]), before


def _first_stage(
    window: NDArray[np.float64], n_fft: int, height: int, columns: int, classes: int
) -> NDArray[np.float64]:
    """Returns the weights of the window and of the sums over rows, (columns, 2, classes, height, signals).

    For sample n = columns·r + c of a frame and bin k = k1 + taps·k2, exp(-2πi·n·k/N) is the product of
    exp(-2πi·n·k1/N), computed here, and exp(-2πi·c·k2/columns), computed by `_column_dft`. The columns are in the order
    (c0, c1), c = outer·c1 + c0.
    """
    window = np.pad(window, ((0, 0), (0, height * columns - window.shape[1])))
    phase = np.exp(-2j * np.pi * np.outer(np.arange(classes), np.arange(height * columns)) / n_fft)  # (classes, n)
    terms = (phase[:, None] * window).reshape(classes, len(window), height, columns)
    weights = np.stack([terms.real, terms.imag]).transpose(4, 0, 1, 3, 2)  # (columns, 2, classes, height, signals)
    inner = _inner(columns)
    return weights.reshape(inner, columns // inner, *weights.shape[1:]).swapaxes(0, 1).reshape(weights.shape)


def _inner(columns: int) -> int:
    """Returns the length of the first of the two DFTs that make up the DFT over columns: 8 of 64."""
    inner = 2 ** (int(math.log2(columns)) // 2)
    return inner if columns % inner == 0 else 1


def _column_dft(
    gain: NDArray[np.float64], inner: int, outer: int
) -> tuple[NDArray[np.float64], tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Returns the weights of the DFT over columns, of its inner stage and of re and im of its outer stage.

    With c = outer·c1 + c0 and k2 = ka + inner·kb, exp(-2πi·c·k2/columns) is the product of
    exp(-2πi·ka·(c1/inner + c0/columns)) and exp(-2πi·c0·kb/outer). The inner stage sums over c1, for each c0: channels
    (c0, c1, re/im) to (c0, ka, re/im). The outer stage sums over c0, for each ka: (ka, re/im, c0) to (ka, kb). Each is
    a convolution with as many groups as c0 or ka has values. A matrix of all channels would be mostly zeros, which take
    time too.

    Args:
        gain: factor of every k2, (columns,).
        inner, outer: lengths of the two DFTs.
    """
    columns = inner * outer
    c0, ka, c1 = np.ogrid[:outer, :inner, :inner]
    turn = np.exp(-2j * np.pi * ka * (c1 / inner + c0 / columns))
    first = np.stack([turn.real, -turn.imag, turn.imag, turn.real], axis=-1).reshape(outer, inner, inner, 2, 2)
    first = first.transpose(0, 1, 3, 2, 4)  # (c0, ka, re/im, c1, re/im)
    turn = np.exp(-2j * np.pi * np.outer(np.arange(outer), np.arange(outer)) / outer)  # (kb, c0)
    turn = gain.reshape(outer, inner).T[:, :, None] * turn  # (ka, kb, c0)
    re, im = np.stack([turn.real, -turn.imag], axis=2), np.stack([turn.imag, turn.real], axis=2)  # (ka, kb, re/im, c0)
    shape = (columns, 2 * outer, 1, 1)
    return first.reshape(2 * columns, 2 * inner, 1, 1), (re.reshape(shape), im.reshape(shape))


def _emphasis(bins: NDArray[np.generic], spec: FrontEndSpec) -> NDArray[np.float64]:
    """Returns how the filter after the window changes the magnitude of every bin k: |1 - b·exp(2πi·k/N)|, or 1."""
    b = 0.0 if spec.pre_emphasis else EMPHASIS
    return np.asarray(np.abs(1.0 - b * np.exp(2j * np.pi / spec.n_fft * np.asarray(bins, np.float64))), np.float64)


def _mel_weights(
    spec: FrontEndSpec, gain: NDArray[np.float64], taps: int, classes: int, inner: int
) -> NDArray[np.float64]:
    """Returns the weights of the power, (mels, ka · kb, 1, k1): the mel basis divided by emphasis and gain.

    The gain of the DFT undoes the emphasis approximately, with one value for all bins of a k2. These weights undo the
    rest.
    """
    basis = mel_basis(spec).astype(np.float64)
    k2 = np.arange(len(gain)).reshape(-1, inner).T.reshape(-1)  # in the order (ka, kb)
    weights = np.zeros((spec.n_mels, len(gain), 1, classes))
    for k1 in range(classes):
        k = k1 + taps * k2
        power = np.square(gain[k2] * _emphasis(k, spec))
        # Bin N - k mirrors bin k. If both are in the same class, only the lower one counts.
        mirrored = k > spec.n_fft // 2
        counts = ~mirrored | (k1 not in (0, taps // 2))
        folded = np.where(mirrored, spec.n_fft - k, k)
        weights[:, :, 0, k1] = np.where(counts, basis[:, folded], 0.0) / power
    return weights


def _flip(length: int) -> NDArray[np.float64]:
    """Returns the weights of a convolution that reverses channels."""
    return np.eye(length)[:, ::-1, None, None].copy()


def _conv(weight: NDArray[np.float64], *, groups: int = 1, stride: int = 1) -> nn.Conv2d:
    """Returns a convolution with weights (outputs, inputs of a group, height, width), without bias or padding."""
    outputs, inputs, height, width = weight.shape
    conv = nn.Conv2d(inputs * groups, outputs, (height, width), (stride, 1), groups=groups, bias=False)
    conv.weight.data = _f32(weight)
    return conv


def _f32(values: NDArray[np.float64]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)
