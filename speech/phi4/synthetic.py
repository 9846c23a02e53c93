"""A model of the published size without a checkpoint: random weights, drawn on the device. For benchmarks and checks.

Speed and memory do not depend on the weights' values, so that a GPU without the 12 GB of weights can be measured.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from speech.phi4.checkpoint import audio_shapes, decoder_linears, decoder_shapes
from speech.phi4.config import Phi4Config, parse_config
from speech.phi4.loading import Checked
from speech.phi4.lora import Adapter, AdapterConfig

__all__ = ["PUBLISHED", "PUBLISHED_RANK", "published_config", "synthetic"]

#: config.json of the published model where it differs from transformers' defaults; the factors between 1 and 47.77 that
#: LongRoPE searched for are replaced by a straight line.
PUBLISHED: dict[str, Any] = {
    "num_attention_heads": 24,
    "tie_word_embeddings": True,
    "sliding_window": 262144,
    "partial_rotary_factor": 0.75,
    "original_max_position_embeddings": 4096,
    "rope_scaling": {
        "type": "longrope",
        "short_factor": [1.0] * 48,
        "long_factor": [1 + 46.77 * i / 47 for i in range(48)],
    },
    "audio_config": {"bias_max_distance": 500},
}
PUBLISHED_RANK = 320


class _Drawn:
    """Tensors of given shapes, drawn when they are read."""

    def __init__(self, shapes: dict[str, tuple[int, ...]], std: float) -> None:
        self.shapes = shapes
        self._std = std

    def read(self, name: str, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        shape = self.shapes[name]
        if len(shape) == 1:  # norms, means and biases
            return torch.ones(shape, device=device, dtype=dtype)
        return torch.empty(shape, device=device, dtype=dtype).normal_(0.0, self._std)

    def read_all(self, names: Iterable[str], *, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        return {name: self.read(name, device=device, dtype=dtype) for name in names}


def published_config(**overrides: Any) -> Phi4Config:
    """The published model's configuration; `overrides` are keys of config.json."""
    return parse_config(PUBLISHED | overrides)


def synthetic(config: Phi4Config, *, rank: int = PUBLISHED_RANK, std: float = 0.02) -> Checked:
    """Random weights and a random speech LoRA for `Phi4Model.build`."""
    linears = decoder_linears(config)
    names = {module: (f"{module}.A", f"{module}.B") for module in linears}
    adapter_shapes: dict[str, tuple[int, ...]] = {}
    for module, (out, into) in linears.items():
        adapter_shapes[f"{module}.A"], adapter_shapes[f"{module}.B"] = (rank, into), (out, rank)
    adapter = AdapterConfig(rank=rank, alpha=2.0 * rank, rank_stabilised=False, target=".*")
    return Checked(
        config=config,
        weights=_Drawn(decoder_shapes(config) | audio_shapes(config), std),
        adapter=Adapter(config=adapter, files=_Drawn(adapter_shapes, std), names=names),
    )
