"""Audio bytes of a record to samples, and samples to FLAC.

Everything here may meet hostile bytes: sizes are checked against the record's own headers before anything is
decoded, and no more than 5 s of audio (30 s for an utterance) is ever allocated.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from errors import Permanent
from stream.calls import AudioChunk
from stream.containers import read_flac, read_wav, write_flac
from stream.g711 import ALAW, ULAW
from stream.limits import CODECS, MAX_CHANNELS, MAX_CHUNK_MS, MAX_RATE, MAX_UTTERANCE_MS, MIN_RATE

__all__ = ["Pcm", "decode", "decode_chunk", "decode_flac", "encode_flac"]

Pcm = NDArray[np.int16]

# A producer rounds duration_ms to whole milliseconds, up or down, and so may be off by one.
_SLACK_MS = 1


def decode_chunk(chunk: AudioChunk) -> Pcm:
    """The samples of a chunk, int16 [frames, channels] at the chunk's rate; they must last `duration_ms`."""
    return decode(
        chunk.value, codec=chunk.codec, rate=chunk.rate, channels=chunk.channels, duration_ms=chunk.duration_ms
    )


def decode(value: bytes, *, codec: str, rate: int, channels: int, duration_ms: int | None = None) -> Pcm:
    """The samples of `value`, int16 [frames, channels]; at most 5 s, or `duration_ms` to a millisecond where given.

    Raises errors.Permanent with unsupported_codec, unsupported_rate, unsupported_channels, empty_chunk, truncated,
    corrupt_audio, header_mismatch or duration_mismatch.
    """
    if codec not in CODECS:
        raise Permanent("unsupported_codec", f"the codec is none of {', '.join(CODECS)}")
    if not MIN_RATE <= rate <= MAX_RATE:
        raise Permanent("unsupported_rate", f"the rate is not within {MIN_RATE} and {MAX_RATE}")
    if not 1 <= channels <= MAX_CHANNELS:
        raise Permanent("unsupported_channels", f"there are not 1 to {MAX_CHANNELS} channels")
    if not value:
        raise Permanent("empty_chunk", "the chunk holds no audio")
    longest_ms = MAX_CHUNK_MS if duration_ms is None else duration_ms + _SLACK_MS
    max_frames = -(-longest_ms * rate // 1000)
    if codec == "wav":
        samples = read_wav(value, rate=rate, channels=channels, max_frames=max_frames)
    elif codec == "flac":
        samples = read_flac(value, rate=rate, channels=channels, max_frames=max_frames)[0]
    else:
        samples = _decode_raw(value, codec, channels, max_frames)
    _check_length(len(samples), rate, max_frames, duration_ms)
    return samples


def encode_flac(samples: Pcm, rate: int) -> bytes:
    """int16 [frames] or [frames, channels] at `rate` Hz as one complete FLAC, lossless."""
    if samples.dtype != np.int16:
        raise TypeError(f"samples are int16, not {samples.dtype}")
    return write_flac(samples, rate)


def decode_flac(value: bytes) -> tuple[Pcm, int]:
    """An utterance's FLAC: int16 [frames], at most 30 s, and its rate in Hz. Raises errors.Permanent."""
    samples, rate = read_flac(value, rate=None, channels=1, max_frames=MAX_UTTERANCE_MS * MAX_RATE // 1000)
    if not MIN_RATE <= rate <= MAX_RATE:
        raise Permanent("unsupported_rate", f"the rate is not within {MIN_RATE} and {MAX_RATE}")
    if len(samples) > -(-(MAX_UTTERANCE_MS + _SLACK_MS) * rate // 1000):
        raise Permanent("duration_mismatch", "the utterance is longer than 30 s")
    return samples[:, 0], rate


def _decode_raw(value: bytes, codec: str, channels: int, max_frames: int) -> Pcm:
    frame_bytes = channels * (2 if codec == "l16" else 1)
    frames, rest = divmod(len(value), frame_bytes)
    if rest:
        raise Permanent("truncated", f"the chunk is no multiple of {frame_bytes} bytes, one frame")
    if frames > max_frames:
        raise Permanent("duration_mismatch", "there is more audio than the record may hold")
    if codec == "l16":
        return np.frombuffer(value, dtype="<i2").astype(np.int16, copy=False).reshape(frames, channels)
    table = ULAW if codec == "pcmu" else ALAW
    return table[np.frombuffer(value, dtype=np.uint8)].reshape(frames, channels)


def _check_length(frames: int, rate: int, max_frames: int, duration_ms: int | None) -> None:
    if frames > max_frames:
        raise Permanent("duration_mismatch", "there is more audio than the record may hold")
    if duration_ms is not None and frames < (duration_ms - _SLACK_MS) * rate // 1000:
        raise Permanent("duration_mismatch", "there is less audio than duration_ms says")
