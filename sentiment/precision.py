"""What training computes in: bfloat16 where the device multiplies it itself, else float32."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

__all__ = ["autocast", "precision"]


def precision(device: str) -> str:
    """`bfloat16` on a GPU and on a CPU with such instructions; elsewhere torch emulates it, 13 times slower than `float32`."""
    native = device != "cpu" or any(torch.cpu.get_capabilities().get(name) for name in ("avx512_bf16", "bf16"))
    return "bfloat16" if native else "float32"


def autocast(device: str) -> AbstractContextManager[object]:
    """The context of a forward pass in training."""
    return torch.autocast(device, dtype=torch.bfloat16) if precision(device) == "bfloat16" else nullcontext()
