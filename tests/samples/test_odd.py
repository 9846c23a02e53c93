"""The odd calls and the manifest: what the script writes, and that each sample is what it says it is."""

from __future__ import annotations

import base64
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf

from errors import Permanent
from samples import make_odd
from speech.segment import ChannelInput, ChannelState, Segmenter
from stream.audio import decode
from stream.calls import AudioChunk, parse_audio
from stream.records import Record
from stream.reviews import parse_review
from stream.topics import Topics

SAMPLES = Path(make_odd.__file__).parent
MANIFEST: dict[str, Any] = json.loads((SAMPLES / "manifest.json").read_text("utf-8"))
CALLS: list[dict[str, Any]] = MANIFEST["calls"]
POISON: list[dict[str, Any]] = MANIFEST["poison"]


def of(call_id: str) -> dict[str, Any]:
    return next(call for call in CALLS if call["call_id"] == call_id)


def audio(call_id: str) -> make_odd.Samples:
    return make_odd.read(SAMPLES / of(call_id)["file"])


def as_record(poison: dict[str, Any]) -> Record:
    return Record(
        topic=getattr(Topics(), poison["topic"]),
        partition=0,
        offset=0,
        timestamp_ms=0,
        key=poison["key"].encode(),
        value=base64.b64decode(poison["value_base64"]),
        headers=tuple((name, value.encode()) for name, value in poison["headers"].items()),
    )


def test_the_committed_files_are_what_the_script_writes(tmp_path: Path) -> None:
    # Samples, not bytes: another release of libFLAC may pack the same audio in another way.
    make_odd.main(tmp_path)
    for path in sorted((SAMPLES / "odd").glob("*.flac")):
        assert np.array_equal(make_odd.read(path), make_odd.read(tmp_path / "odd" / path.name))
    fresh = json.loads((tmp_path / "manifest.json").read_text("utf-8"))
    for made, kept in zip(fresh.pop("poison"), POISON, strict=True):
        if made["key"] != "poison-rate":
            assert made == kept
    assert fresh == {name: value for name, value in MANIFEST.items() if name != "poison"}


def test_every_named_file_is_there_and_fits_its_roles() -> None:
    assert (SAMPLES / MANIFEST["reviews"]).is_file()
    assert len({call["call_id"] for call in CALLS}) == len(CALLS) >= 10
    for call in CALLS:
        assert audio(call["call_id"]).shape[1] == len(call["roles"])
        if call["truth"]:
            truth = json.loads((SAMPLES / call["truth"]).read_text("utf-8"))
            assert call["product"] == truth["product"]


def test_calls_start_on_several_days() -> None:
    starts = [datetime.fromisoformat(call["call_started_at"]) for call in CALLS]
    assert all(start.tzinfo is not None for start in starts)
    assert len({start.date() for start in starts}) >= 7


def test_mono_holds_both_speakers() -> None:
    mixed, call = audio("odd-mono"), make_odd.read(SAMPLES / "calls" / "internet-outage.flac")
    assert mixed.shape == (len(call), 1)
    difference = mixed[:, 0] * 2 - call.astype(np.int32).sum(axis=1)
    assert set(np.unique(difference)) <= {-1, 0}


def test_fake_stereo_has_two_equal_channels_with_sound() -> None:
    both = audio("odd-fake-stereo")
    assert np.array_equal(both[:, 0], both[:, 1])
    assert both.std() > 100


def test_no_speech_is_not_silence() -> None:
    line = audio("odd-no-speech").astype(np.float64)
    assert line.std(axis=0).min() > 10
    spectrum = np.abs(np.fft.rfft(line[:, 0]))
    loudest = int(np.argmax(spectrum)) * make_odd.RATE / len(line)
    assert loudest == pytest.approx(50, abs=1)


def test_the_gap_lies_inside_the_call() -> None:
    call = of("odd-gap")
    chunks = -(-len(audio("odd-gap")) * 1000 // (make_odd.RATE * call["chunk_ms"]))
    assert call["expect"]["gap_ms"] == len(call["drop_seq"]) * call["chunk_ms"]
    assert min(call["drop_seq"]) > 0
    assert max(call["drop_seq"]) < chunks - 1


def accept(poison: dict[str, Any]) -> None:
    """What the first stage does with a record before anything else."""
    record = as_record(poison)
    if poison["topic"] == "reviews_submitted":
        parse_review(record)
        return
    chunk = parse_audio(record)
    assert isinstance(chunk, AudioChunk)
    decode(chunk.value, codec=chunk.codec, rate=chunk.rate, channels=chunk.channels)


@pytest.mark.parametrize("poison", POISON, ids=lambda poison: poison["key"])
def test_poison_is_refused_for_its_reason(poison: dict[str, Any]) -> None:
    with pytest.raises(Permanent) as refused:
        accept(poison)
    assert refused.value.reason == poison["expect"]["reason"]


def test_the_lying_chunk_is_sound_but_for_its_header() -> None:
    poison = next(poison for poison in POISON if poison["key"] == "poison-rate")
    record = as_record(poison)
    assert record.value is not None
    path = SAMPLES / "calls" / "card-fee.flac"
    assert poison["headers"]["rate"] != str(sf.info(path).samplerate)
    assert record.value.startswith(b"fLaC")


def test_a_real_voice_detector_hears_every_sample_but_the_one_without_speech() -> None:
    segmenter = Segmenter()
    for call in CALLS:
        samples = audio(call["call_id"])[: 12 * make_odd.RATE]  # everybody has spoken by then
        states = [ChannelState(rate=make_odd.RATE) for _ in call["roles"]]
        inputs = [ChannelInput(state=one, samples=samples[:, n].copy()) for n, one in enumerate(states)]
        cuts = [first + segmenter.flush(one) for first, one in zip(segmenter.advance(inputs), states, strict=True)]
        heard = [len(one) for one in cuts]
        assert all(heard) == (call["expect"]["state"] == "analysed"), (call["call_id"], heard)
        assert any(heard) == (call["expect"]["state"] == "analysed"), (call["call_id"], heard)
