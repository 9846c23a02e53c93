"""One clip of audio: what is accepted, which front end it gets, and how many tokens it becomes.

The counts need no model: 16 kHz gives a frame of 400 samples every 160, 8 kHz one of 200 every 80, and eight frames,
begun or whole, are one audio token (80 ms). The encoder works on blocks of 500 tokens that do not see each other, so a long
clip can be encoded some blocks at a time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from math import gcd, isfinite

import numpy as np
from numpy.typing import NDArray

from speech.contract import InvalidRequest

__all__ = [
    "BLOCK",
    "BLOCK_SECONDS",
    "Clip",
    "FrontEnd",
    "Narrowband",
    "audio_blocks",
    "audio_frames",
    "audio_tokens",
    "block_frames",
    "check_clip",
    "front_end",
]

RATE = 16_000
NARROW_RATE = 8_000
FRAMES_PER_TOKEN = 8
BLOCK = 500  # tokens; the model's own limit of absolute positions
BLOCK_SECONDS = 40
_MOST_PHASES = 640  # of the resampler: 11,025 Hz has 640, no usual rate has more


class FrontEnd(StrEnum):
    """How a clip's samples became log-mel features; answers name it."""

    WIDEBAND = "16k"
    FILLZERO = "8k-fillzero"  # the original processor's telephone path: nothing above 4 kHz, short windows
    RESAMPLED = "resampled-16k"


class Narrowband(StrEnum):
    """What is done with 8 kHz audio."""

    FILLZERO = "fillzero"
    RESAMPLE = "resample"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """Audio of one channel: float32 [n], -1..1, at `rate` Hz."""

    samples: NDArray[np.float32]
    rate: int = RATE


def front_end(rate: int, narrowband: Narrowband = Narrowband.FILLZERO) -> FrontEnd:
    """The front end for `rate` Hz; raises InvalidRequest for rates that cannot be resampled."""
    if rate == RATE:
        return FrontEnd.WIDEBAND
    if rate == NARROW_RATE and narrowband is Narrowband.FILLZERO:
        return FrontEnd.FILLZERO
    if not NARROW_RATE <= rate <= 48_000:
        raise InvalidRequest("RATE must be 8000 to 48000 Hz")
    if RATE // gcd(rate, RATE) > _MOST_PHASES:
        raise InvalidRequest(
            "RATE is too odd a number to resample from: use 8000, 11025, 16000, 22050, 44100 or 48000 Hz"
        )
    return FrontEnd.RESAMPLED


def resampled_length(samples: int, rate: int) -> int:
    """Samples at 16 kHz that `samples` at `rate` Hz become."""
    return -(-samples * RATE // rate)


def audio_frames(samples: int, rate: int, narrowband: Narrowband = Narrowband.FILLZERO) -> int:
    """Feature frames of a clip, 10 ms each; 0 where it is too short for one."""
    front = front_end(rate, narrowband)
    if front is FrontEnd.FILLZERO:
        return max(0, (samples - 200) // 80 + 1)
    if front is FrontEnd.RESAMPLED:
        samples = resampled_length(samples, rate)
    return max(0, (samples - 400) // 160 + 1)


def audio_tokens(samples: int, rate: int, narrowband: Narrowband = Narrowband.FILLZERO) -> int:
    """Audio tokens that a clip of `samples` samples takes in a prompt.

    Raises InvalidRequest for a rate that is not served and for less than one frame (25 ms).
    """
    frames = audio_frames(samples, rate, narrowband)
    if frames < 1:
        raise InvalidRequest(f"audio of {samples} samples at {rate} Hz is too short: at least 25 ms")
    return -(-frames // FRAMES_PER_TOKEN)


def audio_blocks(tokens: int) -> int:
    """The encoder's blocks of a clip of so many audio tokens; the last may be shorter."""
    return -(-tokens // BLOCK)


def block_frames(blocks: range, frames: int) -> range:
    """The frames that these blocks of a clip of `frames` frames read: theirs, and one token's before them."""
    width = BLOCK * FRAMES_PER_TOKEN
    context = FRAMES_PER_TOKEN if blocks.start else 0
    return range(blocks.start * width - context, min(blocks.stop * width, frames))


def check_clip(clip: Clip) -> None:
    """Raises InvalidRequest for samples that would give wrong text instead of an error further in."""
    samples = clip.samples
    if not isinstance(samples, np.ndarray) or samples.ndim != 1 or samples.dtype != np.float32:
        raise InvalidRequest("audio must be float32 [n], one channel")
    audio_tokens(len(samples), clip.rate)
    # Both are NaN where a sample is; half an hour is looked through in a few hundredths of a second.
    low, high = float(samples.min()), float(samples.max())
    if not (isfinite(low) and isfinite(high)):
        raise InvalidRequest("audio holds NaN or infinite samples")
    if max(-low, high) > 2.0:  # resampled full-scale audio may overshoot 1 a little; int16 is far beyond
        raise InvalidRequest("audio is not scaled to -1..1")
