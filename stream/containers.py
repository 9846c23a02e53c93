"""WAV and FLAC through libsndfile, header first: nothing is decoded that the header or a bound refuses."""

from __future__ import annotations

import io
import struct
from typing import Literal

import numpy as np
import soundfile
from numpy.typing import NDArray

from errors import Permanent

__all__ = ["read_flac", "read_wav", "write_flac"]

Pcm = NDArray[np.int16]

# Integer PCM and G.711 become 16 bits exactly; float does not without a decision about its scale.
_WAV_SUBTYPES = frozenset({"PCM_U8", "PCM_16", "PCM_24", "PCM_32", "ULAW", "ALAW"})

# What libsndfile gives for a FLAC that was written to a pipe is the largest 64-bit integer.
_UNKNOWN_LENGTH = 2**62


def read_wav(value: bytes, *, rate: int, channels: int, max_frames: int) -> Pcm:
    """A whole WAV as [frames, channels]; its header must agree with `rate` and `channels`."""
    _check_riff(value)
    return _read(value, "WAV", rate=rate, channels=channels, max_frames=max_frames)[0]


def read_flac(value: bytes, *, rate: int | None, channels: int, max_frames: int) -> tuple[Pcm, int]:
    """A whole FLAC as [frames, channels], and its rate; `rate` None takes what the header says."""
    if value[:4] != b"fLaC":
        raise Permanent("corrupt_audio", "the bytes do not begin as FLAC does")
    return _read(value, "FLAC", rate=rate, channels=channels, max_frames=max_frames)


def write_flac(samples: Pcm, rate: int) -> bytes:
    """int16 [frames] or [frames, channels] as one complete FLAC of 16 bits."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="FLAC", subtype="PCM_16")
    return out.getvalue()


def _read(
    value: bytes, kind: Literal["WAV", "FLAC"], *, rate: int | None, channels: int, max_frames: int
) -> tuple[Pcm, int]:
    try:
        with soundfile.SoundFile(io.BytesIO(value)) as file:
            _check_header(file, kind, rate, channels)
            if file.frames >= _UNKNOWN_LENGTH:
                raise Permanent("corrupt_audio", f"the {kind} does not say in its header how long it is")
            if file.frames > max_frames:
                raise Permanent("duration_mismatch", "the audio's header promises more than the record may hold")
            # libsndfile gives no more than the header promised, so hours of silence in a small FLAC cost nothing.
            out = np.empty((file.frames, channels), dtype=np.int16)
            filled = len(file.read(out=out, dtype="int16", always_2d=True))
            promised, found_rate = file.frames, file.samplerate
    except soundfile.LibsndfileError as err:
        raise Permanent("corrupt_audio", f"libsndfile cannot read the {kind}") from err
    if filled < promised:
        raise Permanent("truncated", f"the {kind} ends before its header says")
    if filled == 0:
        raise Permanent("empty_chunk", f"the {kind} holds no audio")
    return out[:filled], found_rate


def _check_header(file: soundfile.SoundFile, kind: str, rate: int | None, channels: int) -> None:
    if (file.format == "FLAC") != (kind == "FLAC") or (kind == "WAV" and file.subtype not in _WAV_SUBTYPES):
        raise Permanent("unsupported_codec", f"the {kind} holds another encoding than integer PCM or G.711")
    if file.channels != channels or (rate is not None and file.samplerate != rate):
        raise Permanent("header_mismatch", f"rate or channels of the {kind} are not those of the record")


def _check_riff(value: bytes) -> None:
    """libsndfile takes a short data chunk for a shorter recording; here it is an error."""
    if value[:4] != b"RIFF" or value[8:12] != b"WAVE":
        raise Permanent("corrupt_audio", "the bytes do not begin as WAV does")
    at = 12
    while at + 8 <= len(value):
        name, size = struct.unpack_from("<4sI", value, at)
        at += 8
        if name == b"data":
            if size > len(value) - at:
                raise Permanent("truncated", "the WAV ends before its header says")
            if size == 0:
                raise Permanent("empty_chunk", "the WAV holds no audio")
            return
        at += size + (size & 1)  # chunks are padded to an even length
    raise Permanent("truncated", "the WAV ends before its audio")
