"""The scheduler keeps its promises whatever comes and goes: slots, order, budgets, and nobody starves."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.contract import InvalidRequest
from speech.phi4.limits import Limits
from speech.phi4.refusals import QueueFull
from speech.phi4.scheduler import Entry, Phase, Scheduler

LIMITS = Limits(
    utterance_slots=3, utterance_slot_tokens=100, summary_slots=1, summary_slot_tokens=1_000, queue=50,
    prefill_tokens=120, chunk_tokens=50, encode_clips=2, encode_seconds=60.0, encode_blocks=2,
)  # fmt: skip


def entry(prompt: int = 20, new: int = 5, seconds: float = 0.0) -> Entry:
    return Entry(prompt_tokens=prompt, new_tokens=new, seconds=seconds, blocks=-int(-seconds // 40))


def started(scheduler: Scheduler[Entry], *entries: Entry) -> None:
    for one in entries:
        scheduler.add(one)
    scheduler.admit()


def test_a_request_takes_the_smallest_slot_that_holds_prompt_and_answer() -> None:
    scheduler: Scheduler[Entry] = Scheduler(LIMITS)
    small, edge, large = entry(20, 5), entry(95, 5), entry(96, 5)
    started(scheduler, small, edge, large)
    assert [scheduler.pools[one.pool].tokens for one in (small, edge, large)] == [100, 100, 1_000]
    assert len({small.slot, edge.slot, large.slot}) == 3
    assert large.slot == 3  # numbered after the utterances' slots
    assert scheduler.reserved_tokens == 1_200
    with pytest.raises(InvalidRequest, match="may take 1001 tokens: this engine holds at most 1000"):
        scheduler.add(entry(1_000, 1))
    only: Scheduler[Entry] = Scheduler(replace(LIMITS, summary_slots=0))
    with pytest.raises(InvalidRequest, match="at most 100"):
        only.add(entry(96, 5))


def test_summaries_that_wait_do_not_hold_up_utterances() -> None:
    scheduler: Scheduler[Entry] = Scheduler(LIMITS)
    summaries = [entry(500) for _ in range(3)]
    late = entry(20)
    started(scheduler, *summaries, late)
    assert [one.phase for one in (*summaries, late)] == [Phase.PREFILL, Phase.WAITING, Phase.WAITING, Phase.PREFILL]


def test_a_freed_slot_is_filled_by_the_next_in_order() -> None:
    scheduler: Scheduler[Entry] = Scheduler(LIMITS)
    entries = [entry() for _ in range(5)]
    started(scheduler, *entries)
    slot = entries[1].slot
    scheduler.remove(entries[1])
    scheduler.remove(entries[3])  # it only waits
    assert scheduler.admit() == [entries[4]]
    assert (entries[4].slot, scheduler.waiting) == (slot, 0)


def test_the_queue_has_an_end_but_not_for_work_that_was_let_in() -> None:
    scheduler: Scheduler[Entry] = Scheduler(replace(LIMITS, queue=2))
    for _ in range(2):
        scheduler.add(entry())
    with pytest.raises(QueueFull):
        scheduler.add(entry())
    inside = entry()
    scheduler.add(inside, front=True, inside=True)
    assert scheduler.admit()[0] is inside


def test_encoder_batches_have_at_most_so_many_clips_and_seconds() -> None:
    scheduler: Scheduler[Entry] = Scheduler(LIMITS)
    clips = [entry(seconds=seconds) for seconds in (10.0, 20.0, 30.0)]
    started(scheduler, *clips)
    assert scheduler.to_encode() == [(clips[0], 1), (clips[1], 1)]
    clips[0].phase = Phase.PREFILL
    clips[1].seconds = 90.0  # longer than any batch: alone
    assert scheduler.to_encode() == [(clips[1], 1)]


def test_a_long_clip_is_encoded_in_parts_beside_the_short_ones() -> None:
    scheduler: Scheduler[Entry] = Scheduler(replace(LIMITS, encode_seconds=200.0, encode_clips=9))
    long, longer, short = entry(seconds=350.0), entry(seconds=500.0), entry(seconds=30.0)
    started(scheduler, long, longer, short)
    assert scheduler.to_encode() == [(short, 1), (long, 2)]  # of its nine; one long clip at a time
    short.phase = Phase.DECODE
    assert scheduler.to_encode() == [(long, 2)], "somebody waits for a token"
    scheduler.remove(short)
    assert scheduler.to_encode() == [(long, 5)]  # nobody waits
    long.heard = 8
    assert scheduler.to_encode() == [(long, 1)]


def test_short_prompts_go_whole_and_a_long_one_in_chunks_beside_them() -> None:
    scheduler: Scheduler[Entry] = Scheduler(LIMITS)
    long, *short = entry(500), entry(50), entry(50), entry(50)
    started(scheduler, long, *short)
    assert scheduler.to_prefill() == [(short[0], 50), (long, 50)]  # half the budget for the short ones
    for one in short:
        one.phase = Phase.DECODE
    assert scheduler.to_prefill() == [(long, 50)]
    for one in short:
        scheduler.remove(one)
    assert scheduler.to_prefill() == [(long, 120)]  # nobody waits for a token
    long.cached = 460
    assert scheduler.to_prefill() == [(long, 40)]


@given(
    sizes=st.lists(
        st.tuples(st.integers(1, 900), st.integers(1, 40), st.sampled_from((0.0, 1.0, 30.0, 50.0, 300.0))),
        min_size=1,
        max_size=40,
    ),
    arrivals=st.lists(st.integers(0, 3), min_size=40, max_size=40),
)
def test_everybody_is_served_within_the_budgets(sizes: list[tuple[int, int, float]], arrivals: list[int]) -> None:
    """A model of the engine: whatever the scheduler plans succeeds."""
    scheduler: Scheduler[Entry] = Scheduler(LIMITS)
    coming = [entry(*size) for size in sizes]
    made: dict[Entry, int] = {}
    order: list[list[Entry]] = [[], []]
    steps = 0
    while coming or not scheduler.idle:
        for _ in range(min(arrivals[steps % 40] if steps < 1_000 else 1, len(coming))):
            scheduler.add(coming.pop(0))
        for one in scheduler.admit():
            order[one.pool].append(one)
        taken = [one.slot for one in scheduler.entries if one.phase is not Phase.WAITING]
        assert len(taken) == len(set(taken)) <= 4
        batch = scheduler.to_encode()
        whole = [one for one, _ in batch if one.blocks == 1]
        assert len(whole) <= 2
        assert len(whole) <= 1 or sum(one.seconds for one in whole) <= 60
        assert sum(count for one, count in batch if one.blocks > 1) <= 2
        for one, count in batch:
            assert 0 < count <= one.unheard
            one.heard += count
            if not one.unheard:
                one.phase = Phase.PREFILL
        chunks = scheduler.to_prefill()
        assert sum(count for _, count in chunks) <= 120 + 50
        assert len({id(one) for one, _ in chunks}) == len(chunks)
        for one, count in chunks:
            assert 0 < count <= one.missing
            one.cached += count
            if not one.missing:
                one.phase = Phase.DECODE
        for one in scheduler.to_decode():
            made[one] = made.get(one, 0) + 1
            if made[one] == one.new_tokens:
                scheduler.remove(one)
        steps += 1
        assert steps < 5_000, "somebody starves"
    assert len(made) == len(sizes)
    assert scheduler.reserved_tokens == 0
    for pool in scheduler.pools:
        assert len(set(pool.free)) == pool.count
