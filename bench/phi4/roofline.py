"""How fast it could be: the card's own matrix and copy rates, measured, and the work that a clip takes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

from speech.phi4.config import Phi4Config

__all__ = ["Rates", "Work", "measured_rates", "synchronize"]

_AUDIO_TOKENS_PER_SECOND = 12.5
_PROMPT_TOKENS = 11


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Floating-point operations a second of a large matrix product, bytes a second read and written by a large copy."""

    matrix: float
    copy: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A model's parameters by part, and bytes of KV cache a token; two bytes an element."""

    audio: int
    decoder: int
    head: int
    kv_bytes: int

    @classmethod
    def of(cls, config: Phi4Config, audio: int) -> Work:
        """From a configuration; `audio` counts the parameters of encoder and projector."""
        heads = (config.heads + 2 * config.kv_heads) * config.head_dim
        layer = config.hidden * (heads + config.heads * config.head_dim + 3 * config.ffn)
        return cls(
            audio=audio,
            decoder=config.layers * layer,
            head=config.vocab * config.hidden,
            kv_bytes=config.kv_bytes_per_token(2),
        )

    def weight_bytes(self) -> int:
        """What one decode step reads of the weights."""
        return 2 * (self.decoder + self.head)

    def ideal_rtfx(self, rates: Rates, *, seconds: float, new_tokens: int, flight: int) -> float:
        """Times real time at best: products at the matrix rate, or weights (shared by all in flight) and KV cache read."""
        audio_tokens = seconds * _AUDIO_TOKENS_PER_SECOND
        prompt = audio_tokens + _PROMPT_TOKENS
        before = 2 * (self.audio * audio_tokens + self.decoder * prompt) / rates.matrix
        products = 2 * new_tokens * (self.decoder + self.head) / rates.matrix
        reads = self.weight_bytes() / flight + (prompt + new_tokens / 2) * self.kv_bytes
        return seconds / (before + max(products, new_tokens * reads / rates.copy))


def measured_rates(device: str, dtype: torch.dtype) -> Rates:
    """Of this device, now."""
    side = 8_192 if device == "cuda" else 512
    left = torch.randn(side, side, device=device).to(dtype)
    matrix = 2 * side**3 / _best(lambda: left @ left, device)
    source = torch.empty((1 << 31) if device == "cuda" else (1 << 24), dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return Rates(matrix=matrix, copy=2 * source.numel() / _best(lambda: target.copy_(source), device))


def synchronize(device: str) -> None:
    """Wait for the device."""
    if device == "cuda":
        torch.cuda.synchronize()


def _best(work: Callable[[], object], device: str) -> float:
    seconds = []
    for _ in range(12):
        synchronize(device)
        begun = time.perf_counter()
        work()
        synchronize(device)
        seconds.append(time.perf_counter() - begun)
    return min(seconds[2:])
