"""What is asked for: clips of noise with answers of a set length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "AFTER",
    "AUDIO_TOKEN",
    "BEFORE",
    "FULL",
    "SIZES",
    "TINY",
    "TOKENS_PER_SECOND",
    "Clip",
    "clips",
    "tokens_for",
]

RATE = 16_000
TOKENS_PER_SECOND = 110 / 30
#: As many ids as the trained prompt has before and after the audio; which ones makes no difference.
BEFORE, AFTER = (5,), tuple(range(10, 20))
AUDIO_TOKEN = 200_011

#: Keys of config.json beside those of the published model. `tiny` is for trying the benchmark itself.
FULL: dict[str, Any] = {}
TINY: dict[str, Any] = {
    "hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 3,
    "num_key_value_heads": 1, "vocab_size": 512, "pad_token_id": 1, "bos_token_id": 1, "eos_token_id": 2,
    "rope_scaling": {"type": "longrope", "short_factor": [1.0] * 6, "long_factor": [2.0] * 6},
    "audio_config": {
        "hidden_size": 32, "intermediate_size": 48, "num_blocks": 2, "num_attention_heads": 2, "nemo_conv_channels": 16,
        "ext_pw_out_channel": 32, "depthwise_separable_out_channel": 32, "bias_max_distance": 500, "audio_token_id": 500,
    },
}  # fmt: skip
SIZES = {"full": (FULL, 320), "tiny": (TINY, 4)}


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Float32 [n] at 16 kHz, and how many tokens its answer has."""

    audio: NDArray[np.float32]
    tokens: int

    @property
    def seconds(self) -> float:
        return len(self.audio) / RATE


def tokens_for(seconds: float) -> int:
    """Tokens of the answer to a clip."""
    return max(2, round(seconds * TOKENS_PER_SECOND))


def clips(count: int, *, mix: bool, seed: int = 0) -> list[Clip]:
    """So many clips of 30 s; or mixed as in calls, where six of ten take 5 s, three 10 s and one 30 s."""
    drawn = np.random.default_rng(seed)
    lengths: Sequence[float] = (
        drawn.choice([5.0, 10.0, 30.0], count, p=[0.6, 0.3, 0.1]).tolist() if mix else [30.0] * count
    )
    noise = drawn.normal(0, 0.1, 31 * RATE).astype(np.float32)
    made = []
    for seconds in lengths:
        start = int(drawn.integers(0, RATE))
        made.append(Clip(audio=noise[start : start + round(seconds * RATE)], tokens=tokens_for(seconds)))
    return made
