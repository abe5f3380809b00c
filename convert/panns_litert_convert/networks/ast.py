"""AST, the Audio Spectrogram Transformer, written for export. Its state-dict keys are those of the hub's files.

Gong, Chung, Glass: AST: Audio Spectrogram Transformer, Interspeech 2021, https://arxiv.org/abs/2104.01778,
figure 1 and section 2.1. MIT/ast-finetuned-audioset-10-10-0.4593 and the files that transformers'
ASTForAudioClassification.save_pretrained writes have these keys. Since version 5 of transformers its modules in memory
have other names.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from panns_litert.errors import CheckpointError, ModelError
from panns_litert.frontend import FrontEndSpec
from panns_litert.strict import printable, read_json, shown
from panns_litert_convert.networks.tagger import LogmelTagger

PATCH, STRIDE, TOKENS = 16, 10, 2
"""Side of a patch and distance between patches, in mel bands and frames, and number of tokens before the patches."""


class LayerNorm(nn.LayerNorm):
    """Layer norm for float16: the same result, without squares that overflow or underflow.

    A plain layer norm in float16 fails if a value is 256 or more from its token's mean, because the square exceeds
    65504, and it loses digits below 0.005. Here values are first divided by the token's largest deviation, so that the
    mean square is within [1 / hidden, 1] at any scale. The original's epsilon, 1e-12, is left out: it changes the
    result by a relative 1e-5 where a token's deviation is 2e-4, and no token of a trained network is that flat.
    """

    def forward(self, x: Tensor) -> Tensor:
        x = x - x.mean(-1, keepdim=True)  # (..., hidden)
        x = x / x.abs().amax(-1, keepdim=True)
        return x * (x * x).mean(-1, keepdim=True).rsqrt() * self.weight + self.bias


class Embeddings(nn.Module):
    """A class token, a distillation token and the patches of the log-mel as tokens, with position embeddings."""

    def __init__(self, *, hidden: int, frames: int, n_mels: int) -> None:
        super().__init__()
        self.rows, self.columns = ((n - PATCH) // STRIDE + 1 for n in (n_mels, frames))
        self.cls_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.distillation_token = nn.Parameter(torch.zeros(1, 1, hidden))
        self.position_embeddings = nn.Parameter(torch.zeros(1, TOKENS + self.rows * self.columns, hidden))
        self.patch_embeddings = nn.ModuleDict({"projection": nn.Conv2d(1, hidden, PATCH, STRIDE)})

    def forward(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames, mels) to tokens (batch, 2 + patches, hidden)."""
        projection = cast(nn.Conv2d, self.patch_embeddings["projection"])
        # Pairs of mel bands become channels, which is only a view, so that the product is a plain convolution. The
        # original's kernel has bands before frames, and its patches run along the frames first. Attention does not
        # depend on the order of tokens, so this transposes constants (kernel and positions) and no data.
        batch, _, frames, n_mels = logmel.shape
        pairs = logmel.reshape(batch, frames, n_mels // 2, 2).permute(0, 3, 1, 2)  # (batch, 2, frames, mels / 2)
        kernel = projection.weight.reshape(-1, PATCH // 2, 2, PATCH).permute(0, 2, 3, 1)  # (hidden, 2, 16, 8)
        x = F.conv2d(pairs, kernel, projection.bias, (STRIDE, STRIDE // 2))  # (batch, hidden, columns, rows)
        x = x.permute(0, 2, 3, 1).flatten(1, 2)  # (batch, patches, hidden)
        first, rest = self.position_embeddings[:, :TOKENS], self.position_embeddings[:, TOKENS:]
        rest = rest.reshape(1, self.rows, self.columns, -1).transpose(1, 2).flatten(1, 2)
        first = first + torch.cat((self.cls_token, self.distillation_token), 1)
        # Not expand(), which becomes a BROADCAST_TO, which GPUs refuse. For one clip the inner list has one element.
        return torch.cat((torch.cat([first] * batch), x + rest), 1)


class Layer(nn.Module):
    """Attention, then a perceptron on every token. Each takes normalised tokens and is added to its input."""

    def __init__(self, *, hidden: int, heads: int, intermediate: int) -> None:
        super().__init__()
        self.heads = heads
        projections = nn.ModuleDict({name: nn.Linear(hidden, hidden) for name in ("query", "key", "value")})
        self.attention = nn.ModuleDict({"attention": projections, "output": _dense(hidden, hidden)})
        self.intermediate = _dense(hidden, intermediate)
        self.output = _dense(intermediate, hidden)
        self.layernorm_before = LayerNorm(hidden)
        self.layernorm_after = LayerNorm(hidden)

    def forward(self, x: Tensor, *, wanted: int) -> Tensor:
        """Tokens (batch, tokens, hidden) to the first `wanted` tokens of the next layer, (batch, wanted, hidden)."""
        x = x[:, :wanted] + self._attend(self.layernorm_before(x), wanted)
        wide = F.gelu(self.intermediate["dense"](self.layernorm_after(x)))  # (batch, wanted, intermediate)
        return x + self.output["dense"](wide)  # type: ignore[no-any-return]

    def _attend(self, x: Tensor, wanted: int) -> Tensor:
        """Tokens (batch, tokens, hidden) to the attention's output for the first `wanted`, (batch, wanted, hidden)."""
        query = self._project("query", x[:, :wanted])  # (batch · heads, wanted, dim)
        key, value = self._project("key", x), self._project("value", x)  # (batch · heads, tokens, dim)
        # Scaled before the product, which is less work and keeps float16 values smaller.
        scores = (query * query.shape[2] ** -0.5) @ key.transpose(1, 2)  # (batch · heads, wanted, tokens)
        # The mean over the tokens is subtracted first and added afterwards, which is exact because a row of weights
        # sums to 1. A GPU sums in float16. If attention is uniform, a thousand small terms of one sign would all be
        # rounded the same way against their large sum.
        mean = value.mean(1, keepdim=True)  # (batch · heads, 1, dim)
        gathered = scores.softmax(2) @ (value - mean) + mean  # (batch · heads, wanted, dim)
        x = gathered.transpose(0, 1).reshape(wanted, *x.shape[::2]).transpose(0, 1)  # (batch, wanted, hidden)
        return self.get_submodule("attention.output.dense")(x)  # type: ignore[no-any-return]

    def _project(self, name: str, x: Tensor) -> Tensor:
        """(batch, tokens, hidden) to (batch · heads, tokens, dim).

        With rank 3, matrix products need no reshapes. For a batch of one, the first transpose is no operator.
        """
        batch, tokens, hidden = x.shape
        x = self.get_submodule(f"attention.attention.{name}")(x).transpose(0, 1)  # (tokens, batch, hidden)
        return x.reshape(tokens, batch * self.heads, hidden // self.heads).transpose(0, 1)


class Ast(LogmelTagger):
    """AST-B/16 with overlapping patches, for the log-mel of `AST_16K`. Its values fit float16's range.

    The defaults are those of the original, with 86.6 M parameters.

    Args:
        classes: number of classes, ≥ 1.
        hidden: length of a token and of the embedding, a multiple of heads.
        layers: number of layers, ≥ 1.
        heads: attention heads per layer, ≥ 1.
        intermediate: hidden units of a layer's perceptron, ≥ 1.
        frames: frames of the log-mel, ≥ 16. Other lengths are impossible, because every patch has its own position.
        n_mels: mel bands of the log-mel, ≥ 16 and even.

    Raises:
        ModelError: a size is outside its range.
    """

    def __init__(
        self,
        classes: int = 527,
        *,
        hidden: int = 768,
        layers: int = 12,
        heads: int = 12,
        intermediate: int = 3072,
        frames: int = 1024,
        n_mels: int = 128,
    ) -> None:
        super().__init__()
        counts_ok = min(hidden, layers, heads, intermediate, classes) >= 1
        if not counts_ok or hidden % heads or n_mels % 2 or min(frames, n_mels) < PATCH:
            raise ModelError(
                f"AST with hidden = {hidden}, heads = {heads}, layers = {layers}, intermediate = {intermediate}, "
                f"frames = {frames}, n_mels = {n_mels}, classes = {classes}; expected hidden a multiple of heads, "
                f"n_mels even, frames and n_mels ≥ {PATCH}, the others ≥ 1"
            )
        self.heads, self.frames, self.n_mels = heads, frames, n_mels
        blocks = (Layer(hidden=hidden, heads=heads, intermediate=intermediate) for _ in range(layers))
        self.audio_spectrogram_transformer = nn.ModuleDict(
            {
                "embeddings": Embeddings(hidden=hidden, frames=frames, n_mels=n_mels),
                "encoder": nn.ModuleDict({"layer": nn.ModuleList(blocks)}),
                "layernorm": LayerNorm(hidden),
            }
        )
        self.classifier = nn.ModuleDict({"layernorm": LayerNorm(hidden), "dense": nn.Linear(hidden, classes)})

    def embed(self, logmel: Tensor) -> Tensor:
        """Log-mel (batch, 1, frames, mels), normalised, to the embedding (batch, hidden)."""
        body = self.audio_spectrogram_transformer
        *before, last = body.get_submodule("encoder.layer").children()
        x: Tensor = body["embeddings"](logmel)
        for layer in before:
            x = layer(x, wanted=x.shape[1])  # (batch, 2 + patches, hidden)
        # Only two of the last layer's tokens are used.
        x = body["layernorm"](last(x, wanted=TOKENS))  # (batch, 2, hidden)
        return x.mean(1)

    def logits(self, embedding: Tensor) -> Tensor:
        """Embedding (batch, hidden) to logits (batch, classes)."""
        return self.classifier["dense"](self.classifier["layernorm"](embedding))  # type: ignore[no-any-return]


def _dense(inputs: int, outputs: int) -> nn.ModuleDict:
    return nn.ModuleDict({"dense": nn.Linear(inputs, outputs)})


_FIXED = {
    "model_type": "audio-spectrogram-transformer",
    "patch_size": PATCH,
    "frequency_stride": STRIDE,
    "time_stride": STRIDE,
    "hidden_act": "gelu",
    "layer_norm_eps": 1e-12,
    "qkv_bias": True,
}


def require_config(file: Path, network: Ast) -> None:
    """Checks a config.json of the hub, because a network with other settings may have the same keys and shapes.

    Args:
        file: the config.json. Settings that it does not name are those of the original.
        network: the network that the weights will be loaded into.

    Raises:
        CheckpointError: the file cannot be read, or describes another network.
    """
    sizes = {"num_attention_heads": network.heads, "max_length": network.frames, "num_mel_bins": network.n_mels}
    _require_settings(file, _FIXED | sizes)


def require_preprocessor(file: Path, network: Ast, front_end: FrontEndSpec) -> None:
    """Checks a preprocessor_config.json of the hub, because weights work only with the log-mel of their training.

    Args:
        file: the preprocessor_config.json. Settings that it does not name are those of the original.
        network: the network that the weights will be loaded into.
        front_end: its log-mel, whose affine step is (-mean, 2 · std).

    Raises:
        CheckpointError: the file cannot be read, or describes another log-mel.
    """
    offset, scale = front_end.affine or (0.0, 1.0)
    log_mel = {
        "feature_extractor_type": "ASTFeatureExtractor",
        "sampling_rate": front_end.sample_rate,
        "num_mel_bins": front_end.n_mels,
        "max_length": network.frames,
        "do_normalize": True,
        "mean": -offset,
        "std": scale / 2,
        "padding_value": 0.0,
    }
    _require_settings(file, log_mel)


def _require_settings(file: Path, wanted: Mapping[str, object]) -> None:
    found = read_json(file, error=CheckpointError, what=f"the hub's {file.name}")
    if not isinstance(found, dict):
        raise CheckpointError(f"{printable(file)}: {type(found).__name__}; expected an object with named settings")
    for name, only in wanted.items():
        if (value := found.get(name, only)) != only or isinstance(value, bool) != isinstance(only, bool):
            raise CheckpointError(
                f"{printable(file)}: {name} = {shown(value)}; expected {only!r}: the only one implemented"
            )
