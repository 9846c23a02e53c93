"""The audio encoder on lists of blocks: 24 conformer layers over at most 500 tokens (40 s) at a time.

A clip is cut after the subsampler into blocks of 500 tokens that do not see each other; only the last may be shorter.
Blocks of any clips share a batch; keys behind a block's own end are masked with minus infinity, so a block comes out as
it would alone. transformers adds a boolean mask instead, which hides nothing; and for one clip over 40 s it attends to
the zeros that fill its last block. `stock_padding` brings the latter back, to compare with published outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import conv1d, layer_norm, linear, pad, scaled_dot_product_attention

from speech.phi4.audio import BLOCK
from speech.phi4.config import AudioConfig
from speech.phi4.subsample import ACTIVATIONS, Subsampler, Tensors

__all__ = ["Encoder"]

_MOST_BLOCKS = 32  # a batch: the attention bias of 32 x 16 heads x 500 x 500 takes 256 MB in bf16
_ALIGN = 8  # keys: attention kernels want rows of the bias at multiples of 16 bytes
_MASKED = -torch.inf
_EPS = 1e-5  # of torch's LayerNorm


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Tokens of one block [n, hidden]; the first `keep` of its outputs count."""

    clip: int
    place: int
    tokens: Tensor
    keep: int


class Encoder:
    """`tensors` are the encoder's by their names below `encoder.`, all on one device in one dtype."""

    def __init__(
        self, config: AudioConfig, tensors: Tensors, *, stock_padding: bool = False, tile_frames: int = 4096
    ) -> None:
        self._config = config
        self._t = tensors
        self._stock_padding = stock_padding
        self._subsampler = Subsampler(config, tensors, tile_frames=tile_frames)
        self._bias = _attention_bias(config, tensors["relative_attention_bias_layer.bias_values.weight"])

    def __call__(self, features: Sequence[Tensor], continued: Sequence[bool]) -> list[Tensor]:
        """Each clip's log-mel [frames, mels] to [ceil(frames / 8), hidden].

        A continued one begins at a later block of its clip, with a token's frames of what came before, which is not given.
        """
        blocks = self._blocks(self._subsampler(features, continued), continued)
        blocks.sort(key=lambda block: -len(block.tokens))
        outputs: dict[tuple[int, int], Tensor] = {}
        for batch in _batches(blocks):
            for block, tokens in zip(batch, self._run([block.tokens for block in batch]), strict=True):
                outputs[block.clip, block.place] = tokens[: block.keep]
        joined: list[list[Tensor]] = [[] for _ in features]
        for (clip, _), tokens in sorted(outputs.items(), key=lambda item: item[0]):
            joined[clip].append(tokens)
        return [torch.cat(parts) for parts in joined]

    def _blocks(self, clips: Sequence[Tensor], continued: Sequence[bool]) -> list[_Block]:
        blocks = []
        for clip, (tokens, inside) in enumerate(zip(clips, continued, strict=True)):
            for place, part in enumerate(tokens.split(BLOCK)):
                keep = len(part)
                if self._stock_padding and keep < BLOCK and (inside or len(tokens) > BLOCK):
                    part = pad(part, (0, 0, 0, BLOCK - keep))
                blocks.append(_Block(clip=clip, place=place, tokens=part, keep=keep))
        return blocks

    def _run(self, blocks: Sequence[Tensor]) -> list[Tensor]:
        lengths = [len(block) for block in blocks]
        x = torch.nn.utils.rnn.pad_sequence(list(blocks), batch_first=True)
        width = x.shape[1]
        if x.is_cuda and width % _ALIGN:
            x = pad(x, (0, 0, 0, _ALIGN - width % _ALIGN))
            width = x.shape[1]
        mask = self._bias[:, :, :width, :width]
        if min(lengths) < width:
            hidden = torch.arange(width, device=x.device) >= torch.tensor(lengths, device=x.device)[:, None]
            mask = mask.masked_fill(hidden[:, None, None, :], _MASKED)
        for layer in range(self._config.blocks):
            x = self._layer(f"encoders.{layer}.", x, mask)
        return [row[:length] for row, length in zip(x, lengths, strict=True)]

    def _layer(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        x = x + 0.5 * self._feed_forward(name + "feed_forward_in.", x)
        x = x + self._attention(name + "self_attn.", self._norm(name + "layer_norm_att", x), mask)
        x = x + self._convolution(name + "conv.", x)
        x = x + 0.5 * self._feed_forward(name + "feed_forward_out.", x)
        return self._norm(name + "layer_norm", x)

    def _feed_forward(self, name: str, x: Tensor) -> Tensor:
        up, gate = self._linear(name + "gate_up_proj", self._norm(name + "layer_norm", x)).chunk(2, dim=-1)
        return self._linear(name + "down_proj", up * ACTIVATIONS[self._config.activation](gate))

    def _attention(self, name: str, x: Tensor, mask: Tensor) -> Tensor:
        batch, width, _ = x.shape
        shape = (batch, width, self._config.heads, self._config.head_dim)
        q, k, v = (self._linear(f"{name}{part}_proj", x).view(shape).transpose(1, 2) for part in "qkv")
        y = scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self._linear(name + "o_proj", y.transpose(1, 2).reshape(batch, width, -1))

    def _convolution(self, name: str, x: Tensor) -> Tensor:
        value, gate = self._linear(name + "glu.ext_pw_conv_1d", self._norm(name + "layer_norm", x)).chunk(2, dim=-1)
        gate = ACTIVATIONS[self._config.glu_activation](gate + self._t[name + "glu.b2"].squeeze(-1))
        x = (value + self._t[name + "glu.b1"].squeeze(-1)) * gate
        # Causal: it reads a block's past only, so what lies behind the end is never read.
        weight = self._t[name + "dw_sep_conv_1d.dw_conv.weight"]
        x = pad(x.transpose(1, 2), (weight.shape[-1] - 1, 0))
        x = conv1d(x, weight, self._t[name + "dw_sep_conv_1d.dw_conv.bias"], groups=len(weight)).transpose(1, 2)
        x = ACTIVATIONS[self._config.conv_activation](self._linear(name + "dw_sep_conv_1d.pw_conv", x))
        return self._linear(name + "ext_pw_conv_1d", x)

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return layer_norm(x, (x.shape[-1],), self._t[name + ".weight"], self._t[name + ".bias"], _EPS)

    def _linear(self, name: str, x: Tensor) -> Tensor:
        """A linear layer, or a convolution of kernel 1, which is one."""
        weight = self._t[name + ".weight"]
        return linear(x, weight.squeeze(-1) if weight.ndim == 3 else weight, self._t[name + ".bias"])


def _attention_bias(config: AudioConfig, values: Tensor) -> Tensor:
    """What is added to the attention score by distance: [1, heads, width, width], width a little over a block."""
    width = BLOCK + (-BLOCK % _ALIGN)
    places = torch.arange(width, device=values.device)
    distance = (places[None, :] - places[:, None]).clamp(-config.bias_distance, config.bias_distance - 1)
    # Kept without transformers' constant 1, which a softmax ignores; in bf16 the 1 would cost the bias its precision.
    return values[distance + config.bias_distance].permute(2, 0, 1)[None].contiguous()


def _batches(blocks: Sequence[_Block]) -> list[list[_Block]]:
    """Blocks, longest first, in batches of like length: less than a quarter of a batch is padding."""
    batches: list[list[_Block]] = []
    for block in blocks:
        batch = batches[-1] if batches else []
        if batch and len(batch) < _MOST_BLOCKS and 4 * len(block.tokens) >= 3 * len(batch[0].tokens):
            batch.append(block)
        else:
            batches.append([block])
    return batches
