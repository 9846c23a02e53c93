"""The bad inputs, each named, with the reason for which it must be refused.

`AUDIO` and `REVIEWS` are refused when they are parsed, `SOUND` when its audio is decoded.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import soundfile

from stream.audio import encode_flac
from stream.events import AudioChunk, CallEnded, CallStarted, Record, Review, Topics
from stream.headers import instant
from tests.stream.strategies import as_record

__all__ = ["AUDIO", "REVIEWS", "SOUND", "chunk", "flac_of_silence", "wav"]

TOPICS = Topics()
STARTED = instant("2026-05-01T23:59:50Z")
NOISE = np.random.default_rng(3).integers(-9_000, 9_000, (1_600, 2)).astype(np.int16)


def chunk(**changes: Any) -> AudioChunk:
    """200 ms of two channels of mu-law, or what `changes` make of it."""
    fields: dict[str, Any] = {
        "call_id": "call-1",
        "call_started_at": STARTED,
        "codec": "pcmu",
        "rate": 8_000,
        "channels": 2,
        "roles": ("customer", "agent"),
        "seq": 0,
        "offset_ms": 0,
        "duration_ms": 200,
        "value": b"\xff" * 3_200,
    }
    return AudioChunk(**{**fields, **changes})


def wav(samples: np.ndarray[Any, Any] = NOISE, rate: int = 8_000, subtype: str = "PCM_16") -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="WAV", subtype=subtype)
    return out.getvalue()


@cache
def flac_of_silence(seconds: int) -> bytes:
    out, second = io.BytesIO(), np.zeros(8_000, np.int16)
    with soundfile.SoundFile(out, "w", samplerate=8_000, channels=1, subtype="PCM_16", format="FLAC") as file:
        for _ in range(seconds):
            file.write(second)
    return out.getvalue()


def _flac_claiming(flac: bytes, frames: int) -> bytes:
    """The same FLAC with another number of frames in its STREAMINFO (36 bits, from byte 21 on)."""
    packed = int.from_bytes(flac[18:26], "big") & ~((1 << 36) - 1) | frames
    return flac[:18] + packed.to_bytes(8, "big") + flac[26:]


def _with(record: Record, **headers: bytes | None) -> Record:
    kept = {**dict(record.headers), **headers}
    return replace(record, headers=tuple((name, value) for name, value in kept.items() if value is not None))


def _audio(**headers: bytes | None) -> Record:
    return _with(as_record(chunk().to_message(TOPICS)), **headers)


def _ended(value: bytes | None) -> Record:
    event = CallEnded(call_id="call-1", call_started_at=STARTED, last_seq=3)
    return replace(as_record(event.to_message(TOPICS)), value=value)


def _started(**fields: object) -> Record:
    event = CallStarted(call_id="call-1", call_started_at=STARTED, channels=1, roles=("agent",))
    record = as_record(event.to_message(TOPICS))
    assert record.value is not None
    return replace(record, value=json.dumps({**json.loads(record.value), **fields}).encode())


AUDIO: dict[str, tuple[str, Record]] = {
    "no call_id": ("missing_call_id", replace(_audio(), key=None)),
    "empty call_id": ("invalid_call_id", replace(_audio(), key=b"")),
    "call_id with a newline": ("invalid_call_id", replace(_audio(), key=b"call\n1")),
    "call_id in Latin-1": ("invalid_call_id", replace(_audio(), key=b"caf\xe9")),
    "call_id of 201 bytes": ("invalid_call_id", replace(_audio(), key=b"c" * 201)),
    "call_id of 200 bytes and more in UTF-8": ("invalid_call_id", replace(_audio(), key="é".encode() * 101)),
    "no ce_type": ("missing_header", _audio(ce_type=None)),
    "ce_type of another topic": ("unknown_event", _audio(ce_type=b"reviews.review.submitted.v1")),
    "ce_type without a version": ("unknown_event", _audio(ce_type=b"calls.audio.chunk")),
    "unknown major version": ("unsupported_version", _audio(ce_type=b"calls.audio.chunk.v2")),
    "unknown version of CloudEvents": ("unsupported_version", _audio(ce_specversion=b"2.0")),
    "wrong codec": ("unsupported_codec", _audio(codec=b"opus")),
    "no codec": ("missing_header", _audio(codec=None)),
    "codec that is no text": ("invalid_header", _audio(codec=b"\xff\xfe")),
    "rate of 7,999 Hz": ("unsupported_rate", _audio(rate=b"7999")),
    "rate of 12 kHz": ("unsupported_rate", _audio(rate=b"12000")),
    "rate of 96 kHz": ("unsupported_rate", _audio(rate=b"96000")),
    "rate with a unit": ("invalid_header", _audio(rate=b"8 kHz")),
    "rate with a line end": ("invalid_header", _audio(rate=b"8000\n")),
    "rate in other digits": ("invalid_header", _audio(rate="٨٠٠٠".encode())),
    "rate of 5,000 digits": ("invalid_header", _audio(rate=b"9" * 5_000)),
    "no channels": ("unsupported_channels", _audio(channels=b"0")),
    "65,535 channels": ("unsupported_channels", _audio(channels=b"65535")),
    "one role for two channels": ("roles_mismatch", _audio(channel_roles=b"customer")),
    "a role nobody knows": ("invalid_header", _audio(channel_roles=b"customer,boss")),
    "seq below 0": ("out_of_range", _audio(seq=b"-1")),
    "seq beyond any call": ("out_of_range", _audio(seq=b"30240001")),
    "no seq": ("missing_header", _audio(seq=None)),
    "offset beyond 7 days": ("out_of_range", _audio(offset_ms=b"604800001")),
    "chunk of 19 ms": ("out_of_range", _audio(duration_ms=b"19")),
    "chunk of 5,001 ms": ("out_of_range", _audio(duration_ms=b"5001")),
    "started in 1970": ("out_of_range", _audio(call_started_at=b"1970-01-01T00:00:00Z")),
    "started in 2100": ("out_of_range", _audio(call_started_at=b"2100-01-01T00:00:00Z")),
    "started in the year 1 east of Greenwich": ("invalid_header", _audio(call_started_at=b"0001-01-01T00:00:00+14:00")),
    "started without an offset": ("invalid_header", _audio(call_started_at=b"2026-05-01T12:00:00")),
    "started on 30 February": ("invalid_header", _audio(call_started_at=b"2026-02-30T12:00:00Z")),
    "started as a number": ("invalid_header", _audio(call_started_at=b"1777600000")),
    "empty chunk": ("empty_chunk", replace(_audio(), value=b"")),
    "null chunk": ("empty_chunk", replace(_audio(), value=None)),
    "chunk of 1,000,001 bytes": ("too_large", replace(_audio(), value=b"\xff" * 1_000_001)),
    "end that is no JSON": ("invalid_json", _ended(b"{last_seq: 3}")),
    "end that is a list": ("invalid_json", _ended(b"[3]")),
    "end that is nested 100,000 deep": ("invalid_json", _ended(b"[" * 100_000)),
    "end that is no UTF-8": ("invalid_utf8", _ended(b'{"last_seq": 3, "reason": "\xff"}')),
    "end without last_seq": ("missing_field", _ended(b"{}")),
    "end without anything": ("missing_field", _ended(None)),
    "end with last_seq as text": ("invalid_field", _ended(b'{"last_seq": "3"}')),
    "end with last_seq as a fraction": ("invalid_field", _ended(b'{"last_seq": 3.5}')),
    "end with last_seq of -2": ("out_of_range", _ended(b'{"last_seq": -2}')),
    "end with last_seq of 100 digits": ("out_of_range", _ended(b'{"last_seq": ' + b"9" * 100 + b"}")),
    "start with 3 channels": ("out_of_range", _started(channels=3, roles=["unknown"] * 3)),
    "start with one role too many": ("roles_mismatch", _started(roles=["agent", "customer"])),
    "start with NUL in its product": ("invalid_text", _started(product="a\x00b")),
    "start with 51 notes": ("too_long", _started(metadata={str(n): "x" for n in range(51)})),
}


def _review(**fields: object) -> Record:
    event = Review(review_id="r-1", product="kettle", text="Fast and quiet.", created_at=STARTED)
    record = as_record(event.to_message(TOPICS))
    assert record.value is not None
    content = {**json.loads(record.value), **fields}
    return replace(record, value=json.dumps({k: v for k, v in content.items() if v is not ...}).encode())


REVIEWS: dict[str, tuple[str, Record]] = {
    "no key": ("missing_review_id", replace(_review(), key=None)),
    "key in Latin-1": ("invalid_review_id", replace(_review(), key=b"caf\xe9")),
    "no review_id": ("missing_review_id", _review(review_id=...)),
    "review_id of null": ("missing_review_id", _review(review_id=None)),
    "empty review_id": ("invalid_review_id", replace(_review(review_id=""), key=b"")),
    "review_id of 201 bytes": ("invalid_review_id", replace(_review(review_id="r" * 201), key=b"r" * 201)),
    "another review_id than the key": ("key_mismatch", _review(review_id="r-2")),
    "deletion of nothing": ("invalid_review_id", replace(_review(), key=b"", value=None)),
    "invalid UTF-8": ("invalid_utf8", replace(_review(), value=b'{"text": "\xff\xfe"}')),
    "half a surrogate pair": ("invalid_json", _review(text="broken \ud83d emoji")),
    "no JSON": ("invalid_json", replace(_review(), value=b"5 stars")),
    "a list": ("invalid_json", replace(_review(), value=b"[]")),
    "no text": ("no_text", _review(text=...)),
    "text of null": ("no_text", _review(text=None)),
    "empty text": ("no_text", _review(text="")),
    "text of blanks": ("no_text", _review(text=" \n\t\u00a0")),
    "text with NUL": ("invalid_text", _review(text="a\x00b")),
    "text of 20,001 characters": ("too_long", _review(text="x" * 20_001)),
    "text of 1 MB": ("too_large", _review(text="x" * 1_048_576)),
    "no product": ("missing_field", _review(product=...)),
    "product that is a number": ("invalid_field", _review(product=7)),
    "no date": ("missing_field", _review(created_at=...)),
    "date of 1970": ("out_of_range", _review(created_at="1970-01-01T00:00:00Z")),
    "date of 2100": ("out_of_range", _review(created_at="2100-01-01T00:00:00Z")),
    "date that 2000 begins with in Tokyo only": ("out_of_range", _review(created_at="2000-01-01T00:00:00+09:00")),
    "date without an offset": ("invalid_field", _review(created_at="2026-05-01T12:00:00")),
    "date as a number": ("invalid_field", _review(created_at=1_777_600_000)),
    "date as a number in text": ("invalid_field", _review(created_at="1777600000")),
    "rating of -1": ("out_of_range", _review(rating=-1)),
    "rating that is no number": ("out_of_range", _review(rating=float("nan"))),
    "rating as text": ("invalid_field", _review(rating="5")),
    "version below 0": ("out_of_range", _review(version=-1)),
    "version that is true": ("invalid_field", _review(version=True)),
    "two versions": ("version_mismatch", _with(_review(version=1), version=b"2")),
    "version header that is no number": ("invalid_header", _with(_review(), version=b"two")),
    "language that is a sentence": ("invalid_field", _review(language="I think English")),
    "unknown major version": ("unsupported_version", _with(_review(), ce_type=b"reviews.review.submitted.v2")),
    "deletion in an unknown major version": (
        "unsupported_version",
        _with(replace(_review(), value=None), ce_type=b"reviews.review.deleted.v9"),
    ),
}

_STEREO_FLAC = encode_flac(NOISE, 8_000)

SOUND: dict[str, tuple[str, Callable[[], AudioChunk]]] = {
    "mu-law with half a frame": ("truncated", lambda: chunk(value=b"\xff" * 3_199)),
    "L16 with half a sample": ("truncated", lambda: chunk(codec="l16", value=b"\0" * 6_399)),
    "header that lies about the rate of L16": (
        "duration_mismatch",
        lambda: chunk(codec="l16", rate=16_000, value=NOISE.tobytes()),
    ),
    "header that lies about the channels of L16": (
        "duration_mismatch",
        lambda: chunk(codec="l16", channels=1, roles=("agent",), value=NOISE.tobytes()),
    ),
    "half the audio it says": ("duration_mismatch", lambda: chunk(value=b"\xff" * 1_600)),
    "header that lies about the rate of a WAV": (
        "header_mismatch",
        lambda: chunk(codec="wav", rate=16_000, value=wav()),
    ),
    "header that lies about the channels of a WAV": (
        "header_mismatch",
        lambda: chunk(codec="wav", channels=1, roles=("agent",), value=wav()),
    ),
    "header that lies about the rate of a FLAC": (
        "header_mismatch",
        lambda: chunk(codec="flac", rate=16_000, value=_STEREO_FLAC),
    ),
    "header that lies about the channels of a FLAC": (
        "header_mismatch",
        lambda: chunk(codec="flac", channels=1, roles=("agent",), value=_STEREO_FLAC),
    ),
    "WAV cut in its audio": ("truncated", lambda: chunk(codec="wav", value=wav()[:-100])),
    "WAV cut in its header": ("truncated", lambda: chunk(codec="wav", value=wav()[:40])),
    "WAV without audio": ("empty_chunk", lambda: chunk(codec="wav", value=wav(NOISE[:0]))),
    "WAV of float samples": (
        "unsupported_codec",
        lambda: chunk(codec="wav", value=wav(NOISE / 32_768, subtype="FLOAT")),
    ),
    "WAV of 65,535 channels": ("corrupt_audio", lambda: chunk(codec="wav", value=_wav_of_channels(65_535))),
    "WAV that is a FLAC": ("corrupt_audio", lambda: chunk(codec="wav", value=_STEREO_FLAC)),
    "FLAC that is a WAV": ("corrupt_audio", lambda: chunk(codec="flac", value=wav())),
    "FLAC cut in its audio": ("corrupt_audio", lambda: chunk(codec="flac", value=_STEREO_FLAC[:-100])),
    "FLAC cut in its header": ("corrupt_audio", lambda: chunk(codec="flac", value=_STEREO_FLAC[:30])),
    "FLAC that does not say its length": (
        "corrupt_audio",
        lambda: chunk(codec="flac", value=_flac_claiming(_STEREO_FLAC, 0)),
    ),
    "10 hours of FLAC silence": (
        "duration_mismatch",
        lambda: chunk(codec="flac", channels=1, roles=("agent",), value=flac_of_silence(36_000)),
    ),
    "10 hours of FLAC silence whose header says 1 s": (
        "duration_mismatch",
        lambda: chunk(codec="flac", channels=1, roles=("agent",), value=_flac_claiming(flac_of_silence(36_000), 8_000)),
    ),
}


def _wav_of_channels(channels: int) -> bytes:
    value = bytearray(wav())
    value[22:24] = channels.to_bytes(2, "little")
    return bytes(value)
