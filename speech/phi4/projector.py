"""From the audio encoder's width to the decoder's: two linear layers with a GELU between, one pair a mode."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import gelu, linear

from speech.phi4.subsample import Tensors

__all__ = ["Projector"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Projector:
    """The pair for SPEECH; `tensors` by their names below `audio_embed.`."""

    tensors: Tensors

    def __call__(self, x: Tensor) -> Tensor:
        """[n, audio hidden] to [n, hidden]."""
        t = self.tensors
        x = gelu(linear(x, t["up_proj_for_speech.weight"], t["up_proj_for_speech.bias"]))
        return linear(x, t["down_proj_for_speech.weight"], t["down_proj_for_speech.bias"])
