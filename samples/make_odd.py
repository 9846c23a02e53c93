"""Write the odd calls (odd/) and manifest.json: how `make demo` sends every sample.

Run from anywhere: `python samples/make_odd.py`. Made from the six calls; the same calls give the
same samples. manifest.json holds, in the order of sending:

* `calls`: file (relative to samples/), call_id, roles by channel, codec, chunk_ms, product,
  call_started_at; `drop_seq`: the chunks that are never sent; `truth`: the file with the spoken
  words; `expect`: the call's terminal state and gap.
* `reviews`: the file of reviews, edits and deletions.
* `poison`: raw records that can never succeed: topic (a name of stream.topics.Topics), key,
  headers, value in base64; `expect`: the verdict and its reason.
"""

from __future__ import annotations

import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soundfile as sf

__all__ = ["fake_stereo", "main", "manifest", "mono", "no_speech"]

HERE = Path(__file__).resolve().parent
RATE = 8_000
Samples = npt.NDArray[np.int16]  # [frames, channels]


def read(path: Path) -> Samples:
    """A call's audio, int16 [frames, channels], 8 kHz."""
    audio, rate = sf.read(path, dtype="int16", always_2d=True)
    if rate != RATE:
        raise ValueError(f"{path.name}: {rate} Hz, not {RATE}")
    return np.asarray(audio)


def mono(call: Samples) -> Samples:
    """Both channels mixed into one, each at half its level, so that nothing clips."""
    return np.asarray(call.astype(np.int32).sum(axis=1, keepdims=True) // 2, dtype=np.int16)


def fake_stereo(call: Samples) -> Samples:
    """What a recorder writes that has one microphone and two channels: the mix, twice."""
    return np.repeat(mono(call), 2, axis=1)


def no_speech(seconds: int, seed: int = 50) -> Samples:
    """An open line: mains hum on the first channel, faint noise on both."""
    frames = seconds * RATE
    time = np.arange(frames) / RATE
    hum = 600 * np.sin(2 * np.pi * 50 * time) + 250 * np.sin(2 * np.pi * 150 * time)
    rng = random.Random(seed)  # its bytes are the same in every version of Python; numpy promises less
    noise = np.frombuffer(rng.randbytes(8 * frames), dtype=np.int8).reshape(frames, 2, 4).sum(axis=2)
    noise = noise // 4
    noise[:, 0] += hum.astype(noise.dtype)
    return np.asarray(noise, dtype=np.int16)


def _call(call_id: str, file: str, started_at: str, **other: Any) -> dict[str, Any]:
    product = json.loads((HERE / other["truth"]).read_text("utf-8"))["product"] if "truth" in other else None
    entry = {
        "call_id": call_id,
        "file": file,
        "truth": None,
        "product": product,
        "roles": ["customer", "agent"],
        "codec": "flac",
        "chunk_ms": 5_000,
        "call_started_at": started_at,
        "drop_seq": [],
        "expect": {"state": "analysed", "gap_ms": 0},
        "note": "",
    }
    return entry | other


def _calls() -> list[dict[str, Any]]:
    def true(name: str, started_at: str, **other: Any) -> dict[str, Any]:
        return _call(name, f"calls/{name}.flac", started_at, truth=f"calls/{name}.json", **other)

    return [
        true("airline-bag", "2026-11-09T17:42:10+00:00", codec="pcmu", chunk_ms=500, note="live, mu-law"),
        true("card-fee", "2026-11-10T09:05:33+00:00"),
        true("hotel-noise", "2026-11-11T14:20:00+00:00", codec="l16", chunk_ms=500, note="live, 16-bit PCM"),
        true("internet-outage", "2026-11-12T20:11:47+00:00"),
        true("laptop-battery", "2026-11-13T11:30:05+00:00"),
        true("late-delivery", "2026-11-14T23:59:40+00:00", note="spans midnight UTC"),
        _call(
            "odd-mono", "odd/mono.flac", "2026-11-15T08:15:00+00:00",
            truth="calls/internet-outage.json", roles=["unknown"], note="both speakers in one channel",
        ),
        _call(
            "odd-fake-stereo", "odd/fake-stereo.flac", "2026-11-15T16:45:20+00:00",
            truth="calls/card-fee.json", note="two identical channels: must not be transcribed twice",
        ),
        _call(
            "odd-no-speech", "odd/no-speech.flac", "2026-11-16T10:00:00+00:00",
            expect={"state": "no_speech", "gap_ms": 0}, note="hum and noise",
        ),
        _call(
            "odd-gap", "calls/late-delivery.flac", "2026-11-16T19:25:00+00:00",
            truth="calls/late-delivery.json", chunk_ms=2_000, drop_seq=[10, 11],
            expect={"state": "analysed", "gap_ms": 4_000}, note="from 20 s to 24 s nothing was sent",
        ),
    ]  # fmt: skip


def _record(name: str, topic: str, key: str, value: bytes, headers: dict[str, str], reason: str) -> dict[str, Any]:
    return {
        "name": name,
        "topic": topic,
        "key": key,
        "headers": headers,
        "value_base64": base64.b64encode(value).decode("ascii"),
        "expect": {"verdict": "dead_letter", "reason": reason},
    }


def _poison() -> list[dict[str, Any]]:
    chunk = {
        "ce_specversion": "1.0",
        "ce_type": "calls.audio.chunk.v1",
        "codec": "flac",
        "rate": "8000",
        "channels": "2",
        "channel_roles": "customer,agent",
        "seq": "0",
        "offset_ms": "0",
        "duration_ms": "100",
        "call_started_at": "2026-11-16T12:00:00Z",
    }
    flac = io.BytesIO()
    sf.write(flac, np.zeros((RATE // 10, 2), dtype=np.int16), RATE, format="FLAC")
    review = {"review_id": "poison-date", "product": "BrewMate 3", "text": "The coffee is good.", "language": "en"}
    events = {"ce_specversion": "1.0", "content-type": "application/json"}
    late = json.dumps(review | {"created_at": "1970-01-01T00:00:00Z"}).encode()
    empty = json.dumps(review | {"review_id": "poison-empty", "created_at": "2026-11-16T12:00:00Z", "text": " "})
    return [
        _record("a chunk whose header lies about the rate", "calls_audio", "poison-rate", flac.getvalue(),
                chunk | {"rate": "16000"}, "header_mismatch"),
        _record("bytes that are no FLAC", "calls_audio", "poison-bytes", b"this was never audio" * 20,
                chunk, "corrupt_audio"),
        _record("a codec nobody knows", "calls_audio", "poison-codec", b"\x00" * 160,
                chunk | {"codec": "opus"}, "unsupported_codec"),
        _record("a review that is not JSON", "reviews_submitted", "poison-json", b"{not json", events, "invalid_json"),
        _record("a review in Latin-1", "reviews_submitted", "poison-latin1", "d\u00e9j\u00e0 vu".encode("latin-1"),
                events, "invalid_utf8"),
        _record("a review without a text", "reviews_submitted", "poison-empty", empty.encode(), events, "no_text"),
        _record("a review of 1970", "reviews_submitted", "poison-date", late, events, "out_of_range"),
    ]  # fmt: skip


def manifest() -> dict[str, Any]:
    """The content of manifest.json."""
    return {"version": 1, "calls": _calls(), "reviews": "reviews.jsonl", "poison": _poison()}


def main(folder: Path = HERE) -> None:
    """Write odd/*.flac and manifest.json into `folder`."""
    odd = folder / "odd"
    odd.mkdir(exist_ok=True)
    for name, audio in (
        ("mono", mono(read(HERE / "calls" / "internet-outage.flac"))),
        ("fake-stereo", fake_stereo(read(HERE / "calls" / "card-fee.flac"))),
        ("no-speech", no_speech(12)),
    ):
        sf.write(odd / f"{name}.flac", audio, RATE, subtype="PCM_16")
    text = json.dumps(manifest(), indent=1, ensure_ascii=False) + "\n"
    (folder / "manifest.json").write_text(text, "utf-8")


if __name__ == "__main__":
    main()
