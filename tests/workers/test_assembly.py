"""However a call's chunks arrive, and however often its state is saved between them, it becomes the same call."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from errors import Permanent
from tests.workers.sending import STARTED
from workers.assembly import BREAK_MS, LONGEST_CALL_MS, MOST_RANGES, MOST_UTTERANCES, Assembly, Stretch, admit, merge

RATE, PER_MS = 8_000, 8
WINDOW = 20  # more than a drawn call has chunks: nothing is given up before the end


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    seq: int
    offset_ms: int
    length_ms: int
    decodable: bool = True

    @property
    def pcm(self) -> np.ndarray[Any, np.dtype[np.int16]]:
        """Samples that tell which chunk they are from."""
        samples = np.arange(self.length_ms * PER_MS, dtype=np.int16) + 100 * (self.seq + 1)
        return np.stack([samples, -samples], axis=1)


def new_call() -> Assembly:
    return Assembly(call_id="c", call_started_at=STARTED, channels=2, roles=("customer", "agent"), rate=RATE)


def offer(call: Assembly, chunk: Chunk, window: int = WINDOW) -> tuple[str | None, list[Stretch]]:
    """What the segmenter does with a chunk: its verdict (None: taken) and what is in order now."""
    verdict = admit(
        call,
        call_started_at=STARTED,
        channels=2,
        roles=("customer", "agent"),
        rate=RATE,
        seq=chunk.seq,
        offset_ms=chunk.offset_ms,
    )
    if verdict is not None:
        return verdict[0], []
    call.chunk_ms = 20
    return None, call.add(chunk.seq, chunk.offset_ms, chunk.pcm if chunk.decodable else None, window)


def run(order: list[Chunk], splits: set[int], last_seq: int, window: int = WINDOW) -> tuple[Assembly, list[Stretch]]:
    """The call after all chunks and its end; its state is saved and restored before the chunks numbered in `splits`."""
    call, out = new_call(), []
    for number, chunk in enumerate(order):
        if number in splits:
            call = Assembly.from_bytes(call.to_bytes())
        out += offer(call, chunk, window)[1]
    out += call.close("ended", last_seq)
    return call, merge(out)


def same(left: list[Stretch], right: list[Stretch]) -> bool:
    return [(one.start, one.breaks, one.pcm.tobytes()) for one in left] == [
        (one.start, one.breaks, one.pcm.tobytes()) for one in right
    ]


@st.composite
def calls(draw: st.DrawFn) -> tuple[list[Chunk], int]:
    """The chunks that are sent, in order, and the seq of the call's last one; some are missing, some undecodable."""
    count = draw(st.integers(1, 12))
    chunks, offset = [], 0
    for seq in range(count):
        offset += draw(st.sampled_from([0, 0, 0, 5, 20, 21, 500, BREAK_MS, BREAK_MS + 1, 9_000]))
        length = draw(st.sampled_from([20, 40, 200]))
        chunks.append(Chunk(seq=seq, offset_ms=offset, length_ms=length, decodable=draw(st.integers(0, 9)) > 0))
        offset += length
    kept = draw(st.sets(st.integers(0, count - 1)))
    return [chunk for chunk in chunks if chunk.seq in kept], count - 1


@given(st.data(), calls())
def test_order_repeats_and_batches_change_nothing(data: st.DataObject, call: tuple[list[Chunk], int]) -> None:
    sent, last_seq = call
    shuffled = data.draw(st.permutations(sent))
    repeats = data.draw(st.lists(st.sampled_from(sent), max_size=5)) if sent else []
    order = [*shuffled, *repeats]
    splits = data.draw(st.sets(st.integers(0, len(order))))
    plain, expected = run(sent, set(), last_seq)
    wild, found = run(order, splits, last_seq)
    assert same(found, expected)
    for field in ("gap_ms", "position", "received", "closed"):
        assert getattr(wild, field) == getattr(plain, field), field


@given(calls())
def test_the_time_line_is_the_producers(call: tuple[list[Chunk], int]) -> None:
    """Against a model of one line a rule: silence for short holes, a break for long ones, every hole counted."""
    sent, last_seq = call
    position = gap = 0
    audio: dict[int, bytes] = {}
    for chunk in sent:
        if not chunk.decodable:
            continue
        if chunk.offset_ms - position > 20:
            gap += chunk.offset_ms - position
            position = chunk.offset_ms
        audio[position * PER_MS] = chunk.pcm.tobytes()
        position += chunk.length_ms
    placed = max((chunk.seq for chunk in sent if chunk.decodable), default=-1)
    gap += (last_seq - placed) * 20 if sent else 0  # what is lost at the end counts as long as the last chunk
    made, found = run(sent, set(), last_seq)
    assert (made.gap_ms, made.duration_ms) == (gap, position)
    line = np.zeros((position * PER_MS, 2), np.int16)
    for one in found:
        line[one.start : one.start + len(one.pcm)] = one.pcm
    for start, pcm in audio.items():
        assert line[start : start + len(pcm) // 4].tobytes() == pcm
    assert [one.breaks for one in found[:-1]].count("close") == 0
    assert found[-1].breaks == "close"


@given(st.data(), st.integers(1, 5))
def test_a_small_window_gives_up_the_same_chunks_in_any_batches(data: st.DataObject, window: int) -> None:
    chunks = [Chunk(seq=seq, offset_ms=20 * seq, length_ms=20) for seq in range(20)]
    order = data.draw(st.permutations(chunks))
    splits = data.draw(st.sets(st.integers(0, 20)))
    plain, expected = run(list(order), set(), 19, window)
    wild, found = run(list(order), splits, 19, window)
    assert same(found, expected)
    assert (wild.gap_ms, wild.received) == (plain.gap_ms, plain.received)
    assert max(len(one) for one in [plain.pending, wild.pending]) == 0


def test_what_is_held_back_is_bounded() -> None:
    """4 MB of chunks that wait for a missing one, whatever `reorder_chunks` allows."""
    call = new_call()
    long = Chunk(seq=0, offset_ms=0, length_ms=5_000)
    most = 0
    for seq in range(1, 60):
        offer(call, Chunk(seq=seq, offset_ms=seq * 5_000, length_ms=5_000), window=1_000)
        most = max(most, len(call.pending))
    assert most * long.pcm.nbytes <= 4 * 1024 * 1024 + long.pcm.nbytes
    assert offer(call, long) == ("late", [])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"channels": 1}, "call_id_reused"),
        ({"roles": ("agent", "customer")}, "call_id_reused"),
        ({"rate": 16_000}, "rate_changed"),
        ({"offset_ms": 24 * 3_600_000 + 1}, "offset_out_of_range"),
    ],
)
def test_a_chunk_of_another_call_is_refused(change: dict[str, Any], reason: str) -> None:
    call = new_call()
    fields = {"channels": 2, "roles": ("customer", "agent"), "rate": RATE, "seq": 0, "offset_ms": 0, **change}
    with pytest.raises(Permanent) as refused:
        admit(call, call_started_at=STARTED, **fields)
    assert refused.value.reason == reason


def test_a_call_has_only_so_many_utterances() -> None:
    call = new_call()
    call.utterance_ids = ["x"] * MOST_UTTERANCES
    with pytest.raises(Permanent, match="call_too_long"):
        offer(call, Chunk(seq=0, offset_ms=0, length_ms=20))


def test_a_link_that_loses_every_other_chunk_costs_little() -> None:
    """Ranges received are bounded; a repeat is still a duplicate, what is lost stays late among the last."""
    call, silence = new_call(), np.zeros((160, 2), np.int16)
    for seq in range(0, 20_000, 2):
        call.add(seq, seq * 20, silence, WINDOW)
    assert len(call.received) <= MOST_RANGES
    assert offer(call, Chunk(seq=19_000, offset_ms=380_000, length_ms=20))[0] == "duplicate"
    assert offer(call, Chunk(seq=19_001, offset_ms=380_020, length_ms=20))[0] == "late"


def test_a_call_that_never_ends_is_refused_after_a_day_of_audio_whatever_its_offsets_say() -> None:
    call = new_call()
    call.position = (LONGEST_CALL_MS + 1) * PER_MS
    with pytest.raises(Permanent) as refused:
        offer(call, Chunk(seq=0, offset_ms=0, length_ms=20))
    assert refused.value.reason == "call_too_long"
