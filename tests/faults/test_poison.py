"""Test 10: records that can never succeed, few, many, all; each is a dead letter once and costs no other record anything."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from stack.stack import Stack
from stream.audio import encode_flac
from stream.events import AudioChunk
from tests.faults.chaos import Chaos
from tests.faults.ills import asked, noting
from tests.faults.load import Item, Load
from tests.faults.results import Figures
from tests.faults.sending import arrivals, poison, reviews
from tests.workers.sending import STARTED, whole_call

SEED = 10


def mixed(p: Chaos) -> list[Item]:
    """600 good reviews with 1 % of poison among them, a hundred in a row, and one inside each good batch of sixteen."""
    good, bad = iter(reviews(p, 0, 600)), poison(p, range(10_000))
    dice = random.Random(SEED)
    out = [next(bad) if dice.random() < 0.01 else next(good) for _ in range(300)]
    out += [next(bad) for _ in range(100)]
    out += [next(bad) if number % 16 == 7 else next(good) for number in range(160)]
    return [*out, *good]


@pytest.mark.proof(10)
@pytest.mark.timeout(200)
def test_poison_few_many_and_within(stack: Stack, figures: Figures) -> None:
    """Each once in the dead letters with its reason; each good text is asked of the model once."""
    with noting(stack.home, "aspects"), Chaos(stack, partitions=2, review_batch=16) as p:
        p.expects_deaths = False
        p.start(["reviewer"])
        sent = mixed(p)
        p.send(sent)
        p.wait_until_settled(100)
        p.verify(figures, "600 reviews", f"{len(sent) - 600} poison, 100 of them in a row", seed=SEED)
        texts = {text: times for text, times in asked(stack.home, "aspects").items() if text.endswith(")")}
        assert len(texts) == 600
        assert set(texts.values()) == {1}


@pytest.mark.chaos
@pytest.mark.proof(10)
@pytest.mark.timeout(300)
def test_nothing_but_poison_for_a_minute(stack: Stack, figures: Figures) -> None:
    """A hundred a second, below the limit at which a worker stops; then all is well again."""
    with Chaos(stack, partitions=2, review_batch=64) as p:
        p.expects_deaths = False
        p.start(["reviewer"])
        for _ in arrivals(p, 100, 60, lambda p, first, count: poison(p, range(first, first + count))):
            pass
        sent = len(p.manifest.entries)
        p.send(reviews(p, 0, 50))
        p.wait_until_settled(200)
        p.verify(figures, "50 reviews behind them", f"{sent:,} poison in a row, 100 a second")


@pytest.mark.proof(10)
@pytest.mark.timeout(200)
def test_a_chunk_that_kills_the_decoder(stack: Stack, figures: Figures) -> None:
    """Its worker lives, its call goes on without it, the call beside it loses nothing."""
    load = Load(seed=SEED, reviews=0, calls=2)
    with Chaos(stack, partitions=1, decoder_memory_bytes=1 << 20) as p:
        p.expects_deaths = False
        p.start(("segmenter", "transcriber", "summarizer"))
        p.send([*load.items(p.topics), *deadly(p)])
        p.wait_until_settled(100)
        assert not p.exits
        p.verify(figures, "3 calls", "1 chunk that takes more memory than the decoder may have", seed=SEED)


def deadly(p: Chaos) -> list[Item]:
    """A call at 48 kHz whose second chunk, of 5 s, is too much for a decoder of 1 MB."""
    noise = np.random.default_rng(1).integers(-9_000, 9_000, (240_000, 2)).astype(np.int16)
    call_id, at = "call-deadly", STARTED + timedelta(hours=9)
    start, *_, end = whole_call(call_id, noise[:8_000], started_at=at)

    def chunk(seq: int, offset_ms: int, pcm: np.ndarray) -> AudioChunk:  # type: ignore[type-arg]
        return AudioChunk(
            call_id=call_id,
            call_started_at=at,
            codec="flac",
            rate=48_000,
            channels=2,
            roles=("customer", "agent"),
            seq=seq,
            offset_ms=offset_ms,
            duration_ms=len(pcm) // 48,
            value=encode_flac(pcm // 64, 48_000),
        )

    small = noise[:9_600]
    events = [start, chunk(0, 0, small), chunk(1, 200, noise), chunk(2, 5_200, small)]
    kinds = ["control", "consumed", "dead_letter", "consumed"]
    out = [
        Item(
            subject=call_id,
            message=event.to_message(p.topics),
            kinds=frozenset({kind}),
            reason="kills_decoder" if kind == "dead_letter" else None,
        )
        for event, kind in zip(events, kinds, strict=True)
    ]
    last = replace(out[0], message=end.model_copy(update={"last_seq": 2}).to_message(p.topics))
    return [*out, last]


@pytest.mark.proof(10)
@pytest.mark.timeout(200)
def test_past_the_limit_it_stops_rather_than_drops(stack: Stack, figures: Figures) -> None:
    """However often it is started again; with a higher limit it goes on where it was."""
    with Chaos(stack, partitions=1, review_batch=16, dead_letters_in_a_row=100) as p:
        p.send([*reviews(p, 0, 20), *poison(p, range(150)), *reviews(p, 20, 20)])
        worker = p.worker("reviewer", instance_id=f"{p.name}-reviewer")
        for _ in range(2):
            p.wait(lambda: worker.returncode is not None, "it stops")
            assert worker.returncode == 75
            assert "TooManyDeadLetters" in worker.tail(60)
            assert p.lag("reviewer") >= 20 + 50
            assert p.one("SELECT count(*) FROM ingest.dead_letters") <= 100
            worker.start()
        p.wait(lambda: worker.returncode is not None, "it stops")
        worker.start(EARFUL_DEAD_LETTERS_IN_A_ROW="200")
        p.disturbed()
        p.wait_until_settled(60)
        p.verify(figures, "40 reviews", "150 poison in a row, where 100 are allowed")
