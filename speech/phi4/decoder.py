"""The decoder (Phi-4-Mini) on packed tokens: both modes' weights over one KV cache.

A call serves rows of one mode, since the linear layers differ; norms, embeddings and cache are shared.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import embedding, linear, rms_norm, silu

from speech.phi4.attention import Rows, attend
from speech.phi4.cache import Cache
from speech.phi4.config import Phi4Config
from speech.phi4.lora import ModalLinear
from speech.phi4.modes import Mode
from speech.phi4.rope import RopeTables, rotate

__all__ = ["Decoder", "Layer"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """One layer's weights; qkv and gate_up are fused as in the checkpoint."""

    qkv: ModalLinear
    output: ModalLinear
    gate_up: ModalLinear
    down: ModalLinear
    attention_norm: Tensor
    mlp_norm: Tensor


class Decoder:
    """`head` is None where the output layer is the embedding itself."""

    def __init__(
        self,
        config: Phi4Config,
        *,
        layers: list[Layer],
        embedding: Tensor,
        norm: Tensor,
        head: Tensor | None,
        rope: RopeTables,
    ) -> None:
        self._config = config
        self._layers = layers
        self._embedding = embedding
        self._norm = norm
        self._head = embedding if head is None else head
        self._rope = rope

    def embed(self, ids: Tensor) -> Tensor:
        """Token ids int64 [...] to [..., hidden]."""
        return embedding(ids, self._embedding)

    def logits(self, hidden: Tensor) -> Tensor:
        """Hidden states [n, hidden] behind the last norm to logits [n, vocabulary]."""
        return linear(hidden, self._head)

    def __call__(
        self, x: Tensor, mode: Mode, cache: Cache, *, positions: Tensor, long: Tensor, places: Tensor, rows: Rows
    ) -> Tensor:
        """Runs packed tokens [n, hidden] and stores their keys and values; returns [n, hidden] behind the last norm.

        `positions` int64 [n] count from each sequence's start, `long` bool [n] chooses the RoPE factors, `places`
        int64 [n] are the tokens' places in the cache's pool.
        """
        cos, sin = self._rope(positions, long)
        for number, layer in enumerate(self._layers):
            x = x + self._attention(number, layer, x, mode, cache, cos, sin, places, rows)
            gate, up = layer.gate_up(self._rms_norm(x, layer.mlp_norm), mode).chunk(2, dim=-1)
            x = x + layer.down(up * silu(gate), mode)
        return self._rms_norm(x, self._norm)

    def _attention(
        self,
        number: int,
        layer: Layer,
        x: Tensor,
        mode: Mode,
        cache: Cache,
        cos: Tensor,
        sin: Tensor,
        places: Tensor,
        rows: Rows,
    ) -> Tensor:
        heads, kv_heads = self._config.heads, self._config.kv_heads
        qkv = layer.qkv(self._rms_norm(x, layer.attention_norm), mode).view(len(x), heads + 2 * kv_heads, -1)
        turned = rotate(qkv[:, : heads + kv_heads], cos, sin)
        cache.write(number, places, turned[:, heads:], qkv[:, heads + kv_heads :])
        y = attend(turned[:, :heads], cache.keys[number], cache.values[number], rows)
        return layer.output(y.flatten(1), mode)

    def _rms_norm(self, x: Tensor, weight: Tensor) -> Tensor:
        # As the reference: in float32 whatever the dtype, float64 included, rounded to it before the weight. PyTorch's own
        # takes half precision through float32 and is one kernel; only float64 it would keep.
        wide = x.to(torch.float32) if x.dtype == torch.float64 else x
        return weight * rms_norm(wide, (x.shape[-1],), None, self._config.norm_eps).to(x.dtype)
