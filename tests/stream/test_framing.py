"""Recordings and live frames become chunks that fit together again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from errors import Permanent
from stream.audio import decode_chunk, encode_flac
from stream.events import AudioChunk, AudioEvent, CallEnded, CallPaused, CallResumed
from stream.fields import Codec, Role
from stream.framing import ChunkCounter, pieces
from stream.headers import instant
from stream.limits import RATES
from stream.live import LiveCall
from stream.sender import DeliveryError

STARTED = instant("2026-05-01T23:59:50Z")


class Line:
    """Keeps what a LiveCall sends; `down` makes it fail."""

    def __init__(self, codec: Codec = "l16", rate: int = 8_000, channels: int = 1, chunk_ms: int = 200) -> None:
        self.sent: list[AudioEvent] = []
        self.down = False
        agent: Role = "agent"
        self.counter = ChunkCounter(
            call_id="c", call_started_at=STARTED, codec=codec, rate=rate, channels=channels, roles=(agent,) * channels
        )
        self.call = LiveCall(self.send, self.counter, chunk_ms=chunk_ms)

    def send(self, event: AudioEvent) -> None:
        if self.down:
            raise DeliveryError("t", "c", "down")
        self.sent.append(event)

    @property
    def chunks(self) -> list[AudioChunk]:
        return [event for event in self.sent if isinstance(event, AudioChunk)]


@given(st.lists(st.integers(0, 700), max_size=12), st.integers(100, 900))
def test_pieces_are_the_same_samples(sizes: list[int], frames: int) -> None:
    samples = np.arange(sum(sizes), dtype=np.int16).reshape(-1, 1)
    blocks = np.split(samples, np.cumsum(sizes)[:-1]) if sizes else []
    found = list(pieces(blocks, frames, 50))
    assert all(len(piece) == frames for piece in found[:-1])
    assert all(50 <= len(piece) <= frames for piece in found)
    joined = np.concatenate(found) if found else samples[:0]
    assert (joined[: len(samples)] == samples).all()
    assert not joined[len(samples) :].any()
    assert len(joined) - len(samples) < 50


@settings(deadline=None)
@given(
    writes=st.lists(st.integers(0, 900), max_size=20),
    rate=st.sampled_from(RATES),
    channels=st.integers(1, 2),
    chunk_ms=st.integers(20, 5_000),
)
def test_a_live_call_loses_nothing(writes: list[int], rate: int, channels: int, chunk_ms: int) -> None:
    line = Line(rate=rate, channels=channels, chunk_ms=chunk_ms)
    samples = np.random.default_rng(0).integers(-9, 9, (sum(writes), channels)).astype("<i2")
    at = 0
    with line.call as call:
        for frames in writes:
            call.write(samples[at : at + frames].tobytes())
            at += frames
    assert [chunk.seq for chunk in line.chunks] == list(range(len(line.chunks)))
    assert isinstance(line.sent[-1], CallEnded)
    assert line.sent[-1].last_seq == len(line.chunks) - 1
    heard = [decode_chunk(chunk) for chunk in line.chunks]
    joined = np.concatenate(heard) if heard else samples[:0]
    assert (joined[: len(samples)] == samples).all()
    assert len(joined) - len(samples) <= 0.02 * rate + 1
    for chunk, start in zip(line.chunks, np.cumsum([0, *map(len, heard)]), strict=False):
        assert abs(chunk.offset_ms - start * 1000 / rate) <= 0.5


@pytest.mark.parametrize(("codec", "code"), [("pcmu", b"\xff"), ("pcma", b"\xd5"), ("l16", b"\0")])
def test_a_short_end_is_filled_with_the_codecs_silence(codec: Codec, code: bytes) -> None:
    line = Line(codec=codec, channels=2)
    frame = 4 if codec == "l16" else 2
    line.call.write(b"\x01" * frame * 5)
    line.call.end()
    (chunk,) = line.chunks
    assert chunk.duration_ms == 20
    assert chunk.value == b"\x01" * frame * 5 + code * frame * 155


def test_an_end_that_was_not_sent_is_sent_by_the_next() -> None:
    """Nobody else ends the call: it would be silent for two minutes, and then count as broken off."""
    line = Line()
    line.down = True
    with pytest.raises(DeliveryError):
        line.call.end()
    line.down = False
    line.call.end()
    line.call.end()
    assert [type(event) for event in line.sent] == [CallEnded]


def test_a_pause_and_what_follows_it() -> None:
    line = Line()
    line.call.write(b"\0\0" * 2_000)
    line.call.pause()
    line.call.resume(30_000)
    line.call.write(b"\0\0" * 1_600)
    line.call.pause()
    line.call.resume()
    line.call.write(b"\0\0" * 160)
    line.call.end("hangup")
    line.call.end()
    shape = [(type(event), getattr(event, "offset_ms", None)) for event in line.sent]
    assert shape == [
        (AudioChunk, 0),
        (AudioChunk, 200),
        (CallPaused, 250),
        (CallResumed, 30_000),
        (AudioChunk, 30_000),
        (CallPaused, 30_200),
        (CallResumed, 30_200),
        (AudioChunk, 30_200),
        (CallEnded, 30_220),
    ]


def test_time_does_not_run_back() -> None:
    line = Line()
    line.call.write(b"\0\0" * 1_600)
    line.call.pause()
    with pytest.raises(ValueError, match="200 ms or later"):
        line.call.resume(199)


def test_a_failed_delivery_leaves_no_hole() -> None:
    line = Line()
    line.down = True
    with pytest.raises(DeliveryError):
        line.call.write(b"\1\0" * 1_600)
    line.down = False
    line.call.write(b"\2\0" * 1_600)
    assert [(chunk.seq, chunk.offset_ms, chunk.value[0]) for chunk in line.chunks] == [(0, 0, 1), (1, 200, 2)]


def test_complete_files_are_chunks_of_their_own() -> None:
    line = Line(codec="flac")
    for frames in (1_600, 160):
        line.call.write(encode_flac(np.zeros(frames, np.int16), 8_000))
    assert [(chunk.offset_ms, chunk.duration_ms) for chunk in line.chunks] == [(0, 200), (200, 20)]
    with pytest.raises(ValueError, match="20 ms"):
        line.call.write(encode_flac(np.zeros(159, np.int16), 8_000))
    with pytest.raises(Permanent, match="header_mismatch"):
        line.call.write(encode_flac(np.zeros((1_600, 2), np.int16), 8_000))


def test_misuse_is_refused() -> None:
    line = Line()
    with pytest.raises(ValueError, match="2 bytes"):
        line.call.write(b"\0")
    with pytest.raises(ValueError, match="chunk_ms"):
        Line(chunk_ms=19)
    line.call.end()
    with pytest.raises(ValueError, match="over"):
        line.call.write(b"\0\0")


def test_an_error_in_the_block_ends_the_call_with_its_reason() -> None:
    line = Line()
    with pytest.raises(RuntimeError, match="mine"), line.call:
        raise RuntimeError("mine")
    assert isinstance(line.sent[-1], CallEnded)
    assert (line.sent[-1].reason, line.sent[-1].last_seq) == ("producer_error", -1)
