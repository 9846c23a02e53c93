"""The segmenter on a real Postgres, without Kafka: calls that leave memory, lose their topic, or begin twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from speech.segment import Segmenter
from store import calls, dead_letters, ledger
from store.calls import Call
from store.ledger import LedgerKey
from store.runs import CUT_RUN
from stream.audio import decode_chunk
from stream.events import AudioChunk, CallTimedOut, Message, Record, Topics
from tests.workers.sending import STARTED, chunks, ended, messages, sample, whole_call
from workers.cutting import Cutter
from workers.deadline import Deadline
from workers.ownership import Ownership
from workers.replay import replay_headers
from workers.segmenter import LARGEST_AUDIO, SegmenterStage, audio_bytes
from workers.stage import Batch

TOPICS = Topics("")
BOUNDS = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))
TALK = sample("calls/card-fee", 0, 8_000)
PLENTY = 1 << 26
FIRST_TOPIC, SECOND_TOPIC = UUID(int=5), UUID(int=6)


class Desk:
    """One segmenter with its partition; what it produced is in `kafka`. `on_produce` comes before a message
    is taken, `on_decode` once before the first chunk is decoded."""

    def __init__(
        self,
        engine: AsyncEngine,
        *,
        partition: int = 0,
        topic_id: UUID = FIRST_TOPIC,
        batch_bytes: int = PLENTY,
        open_calls_bytes: int = PLENTY,
    ) -> None:
        self.engine = engine
        self.kafka: list[Message] = []
        self.on_produce: Callable[[], Any] | None = None
        self.on_decode: Callable[[], Any] | None = None
        self.key = LedgerKey(
            stage="segmenter", run_id=CUT_RUN, topic=TOPICS.calls_audio, topic_id=topic_id, partition=partition
        )
        self.next_offset = 0
        self.stage = SegmenterStage(
            topics=TOPICS,
            cutter=Cutter(Segmenter(), TOPICS),
            engine=engine,
            produce=self._produce,
            decode=self._decode,
            reorder_chunks=20,
            month_bounds=lambda: BOUNDS,
            batch_bytes=batch_bytes,
            open_calls_bytes=open_calls_bytes,
        )

    async def _produce(self, sent: Sequence[Message]) -> None:
        if sent and self.on_produce is not None:
            await self.on_produce()
        self.kafka += sent

    async def _decode(self, chunk: AudioChunk) -> Any:
        if self.on_decode is not None:
            begun, self.on_decode = self.on_decode, None
            await begun()
        return decode_chunk(chunk)

    async def own(self) -> None:
        async with self.engine.begin() as connection:
            await ledger.acquire(connection, self.key, 0)
            await self.stage.assigned(connection, [self.key])

    def records(self, sent: Sequence[Message]) -> list[Record]:
        return [
            Record(
                topic=one.topic,
                partition=self.key.partition,
                offset=offset,
                timestamp_ms=0,
                key=one.key,
                value=one.value,
                headers=one.headers,
            )
            for offset, one in enumerate(sent, self.next_offset)
        ]

    async def lose(self) -> None:
        async with self.engine.begin() as connection:
            await self.stage.assigned(connection, [])

    async def take(self, events: Sequence[Any], *, lost: bool = False) -> list[str]:
        """Steps 3 to 5. Returns the verdicts' kinds. `lost`: the partition is taken away right after the commit."""
        sent = [one if isinstance(one, Message) else one.to_message(TOPICS) for one in events]
        batch = Batch(key=self.key, records=self.records(sent))
        work = await self.stage.work(batch, Deadline.after(60))
        async with self.engine.begin() as connection:
            await self.stage.write(connection, batch, work)
            await dead_letters.insert(connection, work.dead_letters)
        if lost:
            await self.lose()
        self.stage.committed(batch, work)
        self.next_offset += len(sent)
        return [work.verdicts[record.offset][0] for record in batch.records]

    async def row(self, call_id: str) -> Call:
        async with self.engine.connect() as connection:
            return (await calls.get_many(connection, [call_id]))[call_id]

    def ids(self) -> list[bytes]:
        return [dict(one.headers).get("utterance_id", b"end") for one in self.kafka]


async def test_a_call_that_left_memory_goes_on_as_if_it_had_not(engine: AsyncEngine) -> None:
    """Two calls side by side, in small batches; nothing open stays in memory."""
    roomy, tight = Desk(engine), Desk(engine, partition=1, open_calls_bytes=0)
    for desk, names in ((roomy, ("a", "b")), (tight, ("c", "d"))):
        await desk.own()
        events = [one for pair in zip(*(whole_call(name, TALK) for name in names), strict=True) for one in pair]
        for first in range(0, len(events), 5):
            await desk.take(events[first : first + 5])
            if desk is tight:
                assert tight.stage._open._bytes == 0
    assert len(roomy.kafka) > 4
    assert spoken(tight.kafka) == spoken(roomy.kafka)


def spoken(sent: Sequence[Message]) -> list[tuple[Any, ...]]:
    """Audio, channel and time of the utterances."""
    return [
        (one.value, dict(one.headers)["channel"], dict(one.headers)["start_ms"])
        for one in sent
        if "utterance_id" in dict(one.headers)
    ]


async def test_nothing_is_kept_of_a_partition_that_is_gone(engine: AsyncEngine) -> None:
    desk = Desk(engine)
    await desk.own()
    await desk.take(whole_call("a", TALK)[:9], lost=True)
    assert (desk.stage._open.partitions, desk.stage._open._bytes) == (0, 0)


@pytest.mark.parametrize("revoked", [False, True])
async def test_who_has_no_partition_any_more_keeps_no_call(engine: AsyncEngine, revoked: bool) -> None:
    """Revoked, or others have them all; records in hand then begin no call anew, and so say nothing."""
    desk = Desk(engine)
    ownership = Ownership(engine, desk.stage)  # type: ignore[arg-type]

    async def log_ends() -> dict[int, int]:
        return {0: 100}

    await ownership.take_over(FIRST_TOPIC, {0: 0}, log_ends)
    events = whole_call("a", TALK)
    await desk.take(events[:9])
    assert (desk.stage._open.partitions, len(desk.stage._known)) == (1, 1)
    assert desk.stage._open._bytes > 1_000
    await ownership.release() if revoked else ownership.stand_by()
    assert (desk.stage._open.partitions, desk.stage._open._bytes, len(desk.stage._known)) == (0, 0, 0)
    said = list(desk.kafka)
    with pytest.raises(Transient, match="taken away"):
        await desk.take(events[9:])
    assert desk.kafka == said


async def test_a_new_owner_loads_no_call_before_its_next_record(engine: AsyncEngine) -> None:
    former, owner = Desk(engine), Desk(engine)
    events = whole_call("a", TALK)
    await former.own()
    await former.take(events[:9])
    await owner.own()
    assert owner.stage._open._bytes == 0
    assert owner.stage._open.size(0, "a") > 1_000
    owner.next_offset = 9
    await owner.take(events[9:])
    assert (await owner.row("a")).gap_ms == 0


async def test_a_batch_takes_so_much_audio_at_once(engine: AsyncEngine) -> None:
    audio = messages(TOPICS, chunks("a", TALK, codec="l16"))  # 16 kB each, and as much decoded
    desk = Desk(engine, batch_bytes=100_000)
    await desk.own()
    records = desk.records(audio)
    assert [audio_bytes(one) for one in records] == [32_000] * len(records)
    assert desk.stage.portion(0, records) == 3
    assert desk.stage.portion(0, records[:2]) == 2
    await desk.take(audio[:6])  # an open call counts, too
    assert desk.stage.portion(0, records) < 3
    desk.stage._batch_bytes = 1
    assert desk.stage.portion(0, records) == 1
    liar = replace(records[0], headers=(("rate", b"9" * 9), ("channels", b"2"), ("duration_ms", b"9" * 9)))
    assert audio_bytes(liar) == LARGEST_AUDIO + 16_000
    assert audio_bytes(replace(liar, headers=())) == 16_000


async def test_partitions_share_what_is_decoded_at_once(engine: AsyncEngine) -> None:
    """Their batches run side by side: each may take its part only."""
    desk = Desk(engine, batch_bytes=100_000)
    await desk.own()
    async with engine.begin() as connection:
        await desk.stage.assigned(connection, [desk.key, replace(desk.key, partition=1)])
    assert desk.stage.portion(0, desk.records(messages(TOPICS, chunks("a", TALK, codec="l16")))) == 1


async def test_the_refused_half_of_a_call_produces_nothing(engine: AsyncEngine) -> None:
    """Its chunks lie in two partitions, and both halves are begun before either has a row."""
    desks = [Desk(engine), Desk(engine, partition=1)]
    events = whole_call("both", TALK)
    both = asyncio.Barrier(2)
    for desk in desks:
        await desk.own()
        desk.on_decode = both.wait
    outcomes = await asyncio.gather(*(desk.take(events) for desk in desks), return_exceptions=True)
    [lost] = [n for n, outcome in enumerate(outcomes) if isinstance(outcome, Transient)]
    assert desks[lost].kafka == []
    assert await desks[lost].take(events) == ["dead_letter"] * len(events)
    row = await desks[0].row("both")
    assert (row.close_reason, row.partition, row.gap_ms) == ("ended", 1 - lost, 0)


async def test_a_call_whose_first_batch_did_not_come_to_its_end_begins_again(engine: AsyncEngine) -> None:
    """Its row is there, and nothing else."""
    former, owner = Desk(engine), Desk(engine)

    async def fail() -> None:
        raise Transient("Kafka is away")

    events = whole_call("a", TALK)
    former.on_produce = fail
    await former.own()
    with pytest.raises(Transient):
        await former.take(events)
    assert (await former.row("a")).state == "started"
    await owner.own()
    assert set(await owner.take(events)) == {"control", "consumed"}
    row = await owner.row("a")
    assert (row.close_reason, row.gap_ms, row.last_seq, row.duration_ms) == ("ended", 0, 15, 8_000)


async def test_a_claimed_call_of_which_nothing_more_comes_is_timed_out(engine: AsyncEngine) -> None:
    desk = Desk(engine)
    await desk.own()
    row = Call(
        call_id="a", call_started_at=STARTED, channels=1, roles=("unknown",), topic_id=FIRST_TOPIC, partition=0, state="started"
    )  # fmt: skip
    async with engine.begin() as connection:
        await calls.claim(connection, [row])
        await calls.claim(connection, [replace(row, partition=7)])
    assert (await desk.row("a")).partition == 0
    event = CallTimedOut(call_id="a", call_started_at=STARTED, last_seen_seq=-1)
    assert await desk.take([event]) == ["control"]
    assert (await desk.row("a")).state == "timed_out"


async def test_an_open_call_goes_on_in_a_topic_that_was_made_again(engine: AsyncEngine, database: str) -> None:
    """Without a word more it is timed out; whoever still works for the topic that is gone writes nothing."""
    before, after = Desk(engine), Desk(engine, topic_id=SECOND_TOPIC)
    on, silent = whole_call("on", TALK), whole_call("silent", TALK)
    async with engine.begin() as connection:
        stale = await ledger.acquire(connection, before.key, 0)
        await before.stage.assigned(connection, [before.key])
    await before.take([*on[:9], *silent[:9]])
    await after.own()
    async with engine.begin() as connection:
        assert not await ledger.advance(connection, stale, 1)
    event = CallTimedOut(call_id="silent", call_started_at=STARTED, last_seen_seq=7)
    assert set(await after.take([*on[11:], event])) == {"consumed", "control"}
    row = await after.row("on")
    assert (row.close_reason, row.gap_ms, row.topic_id) == ("ended", 1_000, SECOND_TOPIC)
    assert ((await after.row("silent")).state, (await after.row("silent")).gap_ms) == ("timed_out", 0)
    assert after.ids().count(b"end") == 2
    with psycopg.connect(database) as connection_:
        for table in ("ingest.segmenter_state", "pii.segmenter_audio"):
            assert connection_.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)  # type: ignore[call-overload]


async def test_a_chunk_that_cannot_be_decoded_at_the_very_end_is_a_gap(engine: AsyncEngine) -> None:
    desk = Desk(engine)
    await desk.own()
    audio = chunks("a", TALK)
    broken = audio[15].model_copy(update={"value": audio[15].value[:-40]})
    kinds = await desk.take([*audio[:13], audio[14], broken, ended("a", 15)])
    assert kinds[-2:] == ["dead_letter", "control"]
    row = await desk.row("a")
    assert (row.gap_ms, row.duration_ms) == (1_000, 7_500)  # 13 never came, 15 was broken; 14 counts


@pytest.mark.parametrize("over", [False, True])
async def test_the_replay_of_a_chunk_whose_place_is_gone_is_late(engine: AsyncEngine, over: bool) -> None:
    """Not a duplicate: its audio is nowhere."""
    desk = Desk(engine)
    await desk.own()
    audio = chunks("a", TALK)
    broken = audio[3].model_copy(update={"value": audio[3].value[:-40]})
    await desk.take([*audio[:3], broken, *audio[4:8], *([ended("a", 7)] if over else [])])
    good = audio[3].to_message(TOPICS)
    again = replace(good, headers=replay_headers(good.headers, UUID(int=9), FIRST_TOPIC, 3))
    assert await desk.take([again]) == ["late"]
    assert await desk.take([good]) == ["duplicate"]
    row = await desk.row("a")
    assert (row.late_chunks, row.late_ms) == (1, 500)


async def test_late_audio_is_counted_in_chunks_and_milliseconds(engine: AsyncEngine) -> None:
    desk = Desk(engine)
    await desk.own()
    audio = chunks("a", TALK)
    assert (await desk.take([*audio[:6], ended("a", 5), audio[7]]))[-1] == "late"
    assert await desk.take([audio[8], audio[9]]) == ["late", "late"]
    row = await desk.row("a")
    assert (row.late_chunks, row.late_ms) == (3, 1_500)
