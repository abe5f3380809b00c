"""Wavegram-CNN and Wavegram-Logmel-CNN of PANNs: Cnn14 on a learned time-frequency representation.

Kong, Cao, Iqbal, Wang, Wang, Plumbley: PANNs: Large-Scale Pretrained Audio Neural Networks for Audio
Pattern Recognition, IEEE/ACM TASLP 28 (2020), https://arxiv.org/abs/1912.10211, section III-C, figure 1 and
table VIII. State-dict keys are the original's.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert.errors import SpecError
from panns_litert.frontend import PANNS_32K, FrontEndSpec, hann, mel_basis
from panns_litert_convert.frontend import GraphLogMel, in_nepers
from panns_litert_convert.networks.blocks import ConvBlock
from panns_litert_convert.networks.wave1d import PooledTagger, TimeConv, max_pool

MEL128_32K = replace(PANNS_32K, n_mels=128)
"""Front end of Wavegram_Logmel128_Cnn14."""


class PreBlock(nn.Module):
    """Two convolutions of three taps, the second dilated by two, and a pooling by four."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = TimeConv(inputs, outputs)
        self.conv2 = TimeConv(outputs, outputs, dilation=2)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)))  # (batch, outputs, 1, time)
        x = F.relu(self.bn2(self.conv2(x)))
        return max_pool(x, 4)  # (batch, outputs, 1, time / 4)


class WavegramCnn14(PooledTagger):
    """Wavegram_Cnn14: a learned representation of 32 bands instead of the log-mel's first block, 81 M parameters.

    Args:
        classes: number of classes, ≥ 1.
        n_mels: mel bands of the log-mel that the wavegram replaces or complements. The wavegram has half as many bands.
        pre_channels: output channels of the stem and of the three blocks on samples. The last is a multiple of
            n_mels / 2 and is divided into bands.
        channels: output channels of the six blocks on bands, as in Cnn14.
    """

    has_log_mel = False

    def __init__(
        self,
        classes: int = 527,
        *,
        n_mels: int = 64,
        pre_channels: Sequence[int] = (64, 64, 128, 128),
        channels: Sequence[int] = (64, 128, 256, 512, 1024, 2048),
    ) -> None:
        super().__init__(channels[-1], channels[-1], classes)
        self.bands = n_mels // 2
        self.pre_conv0 = TimeConv(1, pre_channels[0], 11, stride=5)
        self.pre_bn0 = nn.BatchNorm2d(pre_channels[0])
        for i, (inputs, outputs) in enumerate(pairwise(pre_channels), start=1):
            self.add_module(f"pre_block{i}", PreBlock(inputs, outputs))
        self.pre_blocks = len(pre_channels) - 1
        self.pre_block4 = ConvBlock(pre_channels[-1] // self.bands, channels[0], pool=False)
        # These two are for the log-mel. Without one they are unused, but checkpoints have them.
        self.bn0 = nn.BatchNorm1d(n_mels)
        self.conv_block1 = ConvBlock(1, channels[0], pool=True)
        entering = (channels[0] * (1 + self.has_log_mel), *channels[1:])
        for i, (inputs, outputs) in enumerate(zip(entering, channels[1:], strict=False), start=2):
            self.add_module(f"conv_block{i}", ConvBlock(inputs, outputs, pool=i < len(channels)))
        self.blocks = len(channels)

    def wavegram(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples) to (batch, channels, samples / 640, bands)."""
        x = F.relu(self.pre_bn0(self.pre_conv0(waveform[:, None, None])))  # (batch, channels, 1, samples / 5)
        for i in range(1, self.pre_blocks + 1):
            x = self.get_submodule(f"pre_block{i}")(x)
        # Every `bands` consecutive channels become the bands of one channel. The reshape is done channels-last, as the
        # converter computes, and so needs only one transpose, of the last two axes.
        x = x.permute(0, 2, 3, 1).reshape(x.shape[0], x.shape[3], -1, self.bands)  # (batch, frames, groups, bands)
        x = self.pre_block4(x.permute(0, 2, 1, 3))  # (batch, channels, frames, bands)
        return F.avg_pool2d(x, (2, 1))

    def begin(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples) to the second block's input, (batch, channels, samples / 640, bands)."""
        return self.wavegram(waveform)

    def features(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples ≥ 10240) to features (batch, channels, samples / 10240 or so, 1)."""
        x = self.begin(waveform)
        for i in range(2, self.blocks + 1):
            x = self.get_submodule(f"conv_block{i}")(F.dropout(x, 0.2, training=self.training))
        return F.dropout(x, 0.2, training=self.training).mean(dim=3, keepdim=True)


class DecibelLogMel(nn.Module):
    """Log-mel by its definition, computed in float64: (batch, samples) to (batch, 1, frames, mels), dB, float32.

    It is for training and as a reference. On a GPU in float16, `GraphLogMel` is used instead.

    Args:
        spec: the front end.
    """

    def __init__(self, spec: FrontEndSpec) -> None:
        super().__init__()
        self.spec = spec
        # Not persistent, because the state dict has no tensors of the front end.
        self.register_buffer("window", torch.from_numpy(hann(spec.win_length, spec.n_fft)), persistent=False)
        self.register_buffer("basis", torch.from_numpy(mel_basis(spec)).double().T, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        spec, window, basis = self.spec, self.get_buffer("window").double(), self.get_buffer("basis").double()
        spectrum = torch.stft(
            waveform.double(),
            spec.n_fft,
            spec.hop_length,
            window=window,
            center=spec.center,
            pad_mode=spec.pad_mode,
            return_complex=True,
        )  # (batch, bins, frames)
        mel = spectrum.abs().square().transpose(1, 2) @ basis  # (batch, frames, mels)
        return (10.0 / math.log(10.0) * mel.clamp(min=spec.amin).log()).float()[:, None]


class WavegramLogmelCnn14(WavegramCnn14):
    """Wavegram_Logmel_Cnn14: wavegram and log-mel of the same samples side by side, 81 M parameters.

    It computes its log-mel in float64 by the definition. Do not export the network itself, but the result of
    `for_export`, whose log-mel is made for a phone.

    Args:
        classes: number of classes, ≥ 1.
        front_end: front end of the log-mel.
        widths: pre_channels and channels, as in WavegramCnn14.
    """

    has_log_mel = True

    def __init__(self, classes: int = 527, *, front_end: FrontEndSpec = PANNS_32K, **widths: Any) -> None:
        super().__init__(classes, n_mels=front_end.n_mels, **widths)
        self.front_end = front_end
        self.logmel: nn.Module = DecibelLogMel(front_end)

    def begin(self, waveform: Tensor) -> Tensor:
        """Samples (batch, samples) to log-mel and wavegram features, (batch, 2 · channels, samples / 640, bands)."""
        wavegram, logmel = self.wavegram(waveform), self.logmel(waveform)
        # As in Cnn14: on (batch · frames, mels) the batch norm needs no transpose.
        x = self.conv_block1(self.bn0(logmel.flatten(0, 2)).view_as(logmel))
        if x.shape[2] != wavegram.shape[2]:
            raise SpecError(
                f"waveform of {waveform.shape[1]} samples: {x.shape[2]} pairs of log-mel frames, {wavegram.shape[2]} "
                f"of wavegram; expected an even number of hops, such as a multiple of {2 * self.front_end.hop_length}"
            )
        return torch.cat([x, wavegram], dim=1)

    def for_export(self, *, samples: int) -> Self:
        """Returns a copy for a waveform (1, samples), with a log-mel that a GPU computes accurately in float16.

        The copy shares all modules with this network except the log-mel and the batch norm `bn0`, which includes the
        change of units from dB. This network stays unchanged.

        Args:
            samples: length of the waveform, a multiple of two hops.

        Raises:
            SpecError: there is no such graph for the front end or the length.
        """
        new = copy.copy(self)
        new._modules = dict(self._modules)
        new.logmel = GraphLogMel(self.front_end, samples=samples)
        new.bn0 = in_nepers(self.bn0, self.front_end)
        return new


class WavegramLogmel128Cnn14(WavegramLogmelCnn14):
    """Wavegram_Logmel128_Cnn14: the same with 128 mels and 64 bands of the wavegram, 81 M parameters."""

    def __init__(
        self,
        classes: int = 527,
        *,
        front_end: FrontEndSpec = MEL128_32K,
        pre_channels: Sequence[int] = (64, 64, 128, 256),
        **widths: Any,
    ) -> None:
        super().__init__(classes, front_end=front_end, pre_channels=pre_channels, **widths)
