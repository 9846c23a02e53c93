"""What comes twice, fails half-way or is undone in one batch: stages on a real Postgres, without Kafka and Triton."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
import psycopg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent, Transient
from settings import PROJECT
from speech.contract import FinishReason, SpeechAnswer
from speech.segment import Segmenter
from store import calls, dead_letters, runs
from store.calls import Call, CallRun
from store.ledger import LedgerKey
from stream.audio import decode_chunk, encode_flac
from stream.events import (
    AudioChunk,
    CallEnded,
    CallTranscribed,
    Message,
    Record,
    Review,
    ReviewDeleted,
    Topics,
    Utterance,
)
from stream.files import read_file
from tests.workers.sending import STARTED
from workers.cutting import Cutter
from workers.deadline import Deadline
from workers.inference import Transcript
from workers.replay import replay_headers
from workers.reviewer import ReviewerStage
from workers.segmenter import SegmenterStage
from workers.stage import Batch, Stage, Work
from workers.summarizer import SummarizerStage
from workers.transcriber import TranscriberStage

TOPICS = Topics("")
BOUNDS = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


CALL = Call(
    call_id="c",
    call_started_at=STARTED,
    channels=1,
    roles=("unknown",),
    topic_id=UUID(int=5),
    partition=0,
    state="ended",
    close_reason="ended",
)


class Deaf:
    """A Triton that finds nothing in any text."""

    summarizes = False

    async def aspects(self, text: str, deadline: Deadline, product: str | None = None) -> tuple[list[Any], str]:
        return [], "v1"

    async def polarities(self, text: str, spans: Sequence[Any], deadline: Deadline) -> tuple[list[Any], str]:
        return [], ""


class Refusing(Deaf):
    """A Triton that refuses every text."""

    async def aspects(self, text: str, deadline: Deadline, product: str | None = None) -> tuple[list[Any], str]:
        raise Permanent("invalid_input", "no")


def batch_of(stage: Stage[Any], first: int, messages: Sequence[Message]) -> Batch:
    """A batch that begins at offset `first`."""
    key = LedgerKey(stage=stage.name, run_id=stage.run_id, topic=stage.topic, topic_id=UUID(int=5), partition=0)
    records = [
        Record(
            topic=one.topic,
            partition=0,
            offset=offset,
            timestamp_ms=0,
            key=one.key,
            value=one.value,
            headers=one.headers,
        )
        for offset, one in enumerate(messages, first)
    ]
    return Batch(key=key, records=records)


async def take(engine: AsyncEngine, stage: Stage[Any], first: int, messages: Sequence[Message]) -> list[str]:
    """Steps 3 to 5 for a batch that begins at offset `first`. Returns the verdicts' kinds."""
    batch = batch_of(stage, first, messages)
    work: Work[Any] = await stage.work(batch, Deadline.after(30))
    async with engine.begin() as connection:
        await stage.write(connection, batch, work)
        await dead_letters.insert(connection, work.dead_letters)
    stage.committed(batch, work)
    return [work.verdicts[record.offset][0] for record in batch.records]


def review(text: str) -> Message:
    return Review(review_id="r", product="p", text=text, created_at=STARTED).to_message(TOPICS)


async def opened(engine: AsyncEngine) -> UUID:
    async with engine.begin() as connection:
        return (await runs.open_run(connection, {"test": 1}, make_current=True)).run_id


@pytest.mark.parametrize("batches", [[3], [1, 2], [2, 1], [1, 1, 1]], ids=str)
async def test_a_deletion_removes_what_was_there_however_it_is_batched(
    engine: AsyncEngine, database: str, batches: list[int]
) -> None:
    """The review is sent again right behind its deletion."""
    stage = ReviewerStage(
        topics=TOPICS,
        run_id=await opened(engine),
        inference=Deaf(),  # type: ignore[arg-type]
        engine=engine,
        month_bounds=lambda: BOUNDS,
    )
    await take(engine, stage, 0, [review("My address is 1 Main Street.")])
    messages = [ReviewDeleted(review_id="r").to_message(TOPICS), review("It is great."), review("It is fine.")]
    first = 1
    for count in batches:
        await take(engine, stage, first, messages[first - 1 : first - 1 + count])
        first += count
    with psycopg.connect(database) as connection:
        texts = [text for (text,) in connection.execute("SELECT text FROM pii.review_texts ORDER BY text")]
        heads = connection.execute('SELECT "offset", deleted FROM ingest.review_heads').fetchall()
    assert "My address is 1 Main Street." not in texts
    assert "It is fine." in texts
    assert heads == [(3, False)]


async def run_of(connection: AsyncConnection, column: str) -> object:
    found = await connection.execute(sa.text(f"SELECT {column} FROM ingest.call_runs WHERE call_id = 'c'"))
    return found.scalar_one()


async def test_a_transcribed_call_that_comes_twice_counts_once(engine: AsyncEngine) -> None:
    """The outbox delivers at least once."""
    run_id = await opened(engine)
    row = CallRun(call_id="c", run_id=run_id, call_started_at=STARTED, state="transcribed", utterances=0)
    async with engine.begin() as connection:
        await calls.close_run(connection, row, [])
    stage = SummarizerStage(topics=TOPICS, run_id=run_id, inference=Deaf(), engine=engine)  # type: ignore[arg-type]
    event = CallTranscribed(call_id="c", call_started_at=STARTED, run_id=run_id, state="transcribed")
    message = event.to_message(TOPICS)
    assert await take(engine, stage, 0, [message, message]) == ["result", "duplicate"]
    assert await take(engine, stage, 2, [message]) == ["duplicate"]


async def test_a_call_that_is_not_transcribed_is_not_summarized(engine: AsyncEngine, database: str) -> None:
    """The event is from a time that a restored database does not know; it comes again when that time does."""
    run_id = await opened(engine)
    stage = SummarizerStage(topics=TOPICS, run_id=run_id, inference=Deaf(), engine=engine)  # type: ignore[arg-type]
    message = CallTranscribed(call_id="c", call_started_at=STARTED, run_id=run_id, state="transcribed").to_message(
        TOPICS
    )
    assert await take(engine, stage, 0, [message]) == ["superseded"]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT count(*) FROM ingest.summaries").fetchone() == (0,)
    row = CallRun(call_id="c", run_id=run_id, call_started_at=STARTED, state="transcribed", utterances=0)
    async with engine.begin() as transaction:
        await calls.close_run(transaction, row, [])
    assert await take(engine, stage, 1, [message]) == ["result"]


async def test_no_end_of_a_call_reaches_kafka_before_its_utterances(engine: AsyncEngine) -> None:
    """One utterance is refused while what was sent behind it arrives."""
    in_kafka: list[Message] = []
    fails = True

    async def produce(messages: Sequence[Message]) -> None:
        nonlocal fails
        if messages and fails:
            fails = False
            in_kafka.extend(messages[1:])
            raise Transient("Kafka did not take it")
        in_kafka.extend(messages)

    async def decode(chunk: AudioChunk) -> Any:
        return decode_chunk(chunk)

    stage = SegmenterStage(
        topics=TOPICS,
        cutter=Cutter(Segmenter(), TOPICS),
        engine=engine,
        produce=produce,
        decode=decode,
        reorder_chunks=20,
        month_bounds=lambda: BOUNDS,
        batch_bytes=1 << 26,
        open_calls_bytes=1 << 26,
    )
    messages = a_call()
    async with engine.begin() as connection:
        await stage.assigned(connection, [batch_of(stage, 0, messages).key])
    with pytest.raises(Transient, match="Kafka did not take it"):
        await take(engine, stage, 0, messages)
    assert ends(in_kafka) == []
    await take(engine, stage, 0, messages)
    assert ends(in_kafka) == [len(in_kafka) - 1]


async def test_a_call_that_can_never_be_summarized_says_so_until_its_replay(engine: AsyncEngine, database: str) -> None:
    run_id = await opened(engine)
    ears = Ears()
    heard = TranscriberStage(topics=TOPICS, run_id=run_id, inference=ears, engine=engine)  # type: ignore[arg-type]
    await take(engine, heard, 0, [utterance()])
    async with engine.begin() as connection:
        await calls.upsert_many(connection, [CALL])
        row = CallRun(call_id="c", run_id=run_id, call_started_at=STARTED, state="transcribed", utterances=1)
        await calls.close_run(connection, row, [UUID(int=4)])
    refusing = SummarizerStage(topics=TOPICS, run_id=run_id, inference=Refusing(), engine=engine)  # type: ignore[arg-type]
    event = CallTranscribed(call_id="c", call_started_at=STARTED, run_id=run_id, state="transcribed")
    message = event.to_message(TOPICS)
    foreign = replace(message, value=b"{")
    shown = "SELECT state, state_reason, complete, finished_at IS NOT NULL FROM analytics_v1.calls"
    with psycopg.connect(database, autocommit=True) as connection:
        assert await take(engine, refusing, 0, [foreign]) == ["dead_letter"]
        assert connection.execute(shown).fetchall() == [("transcribed", None, False, False)], "that was no record of it"
        assert await take(engine, refusing, 1, [message]) == ["dead_letter"]
        assert connection.execute(shown).fetchall() == [("dead_lettered", "invalid_input", True, True)]
        stage = SummarizerStage(topics=TOPICS, run_id=run_id, inference=Deaf(), engine=engine)  # type: ignore[arg-type]
        assert await take(engine, stage, 2, [message]) == ["duplicate"]
        again = replace(message, headers=replay_headers(message.headers, UUID(int=9), UUID(int=5), 1))
        assert await take(engine, stage, 3, [again]) == ["result"]
        assert connection.execute(shown).fetchall() == [("analysed", None, True, True)]
        assert await take(engine, refusing, 4, [again]) == ["dead_letter"]
        assert connection.execute(shown).fetchall() == [("analysed", None, True, True)], "what is there stays"


async def test_of_a_call_that_came_twice_a_result_counts_more_than_a_refusal(
    engine: AsyncEngine, database: str
) -> None:
    class RefusingOnce(Deaf):
        refused = False

        async def aspects(self, text: str, deadline: Deadline, product: str | None = None) -> tuple[list[Any], str]:
            if not self.refused:
                self.refused = True
                raise Permanent("invalid_input", "no")
            return await super().aspects(text, deadline)

    run_id = await opened(engine)
    heard = TranscriberStage(topics=TOPICS, run_id=run_id, inference=Ears(), engine=engine)  # type: ignore[arg-type]
    await take(engine, heard, 0, [utterance()])
    async with engine.begin() as connection:
        await calls.upsert_many(connection, [CALL])
        row = CallRun(call_id="c", run_id=run_id, call_started_at=STARTED, state="transcribed", utterances=1)
        await calls.close_run(connection, row, [UUID(int=4)])
    stage = SummarizerStage(topics=TOPICS, run_id=run_id, inference=RefusingOnce(), engine=engine)  # type: ignore[arg-type]
    message = CallTranscribed(call_id="c", call_started_at=STARTED, run_id=run_id, state="transcribed").to_message(
        TOPICS
    )
    assert await take(engine, stage, 0, [message, message]) == ["dead_letter", "result"]
    async with engine.connect() as connection:
        assert await run_of(connection, "state") == "analysed"


async def test_a_call_that_the_loop_gives_up_says_so_too(engine: AsyncEngine, database: str) -> None:
    """Nothing of the batch is kept then, not even what it was about."""
    run_id = await opened(engine)
    async with engine.begin() as connection:
        await calls.upsert_many(connection, [CALL])
        row = CallRun(call_id="c", run_id=run_id, call_started_at=STARTED, state="transcribed", utterances=0)
        await calls.close_run(connection, row, [])
    stage = SummarizerStage(topics=TOPICS, run_id=run_id, inference=Deaf(), engine=engine)  # type: ignore[arg-type]
    event = CallTranscribed(call_id="c", call_started_at=STARTED, run_id=run_id, state="transcribed")
    batch = batch_of(stage, 0, [event.to_message(TOPICS)])
    work: Work[Any] = Work(plan=stage.nothing())
    work.bury(batch, batch.records[0], Permanent("too_slow", "no"))
    async with engine.begin() as connection:
        await stage.write(connection, batch, work)
        assert await run_of(connection, "reason") == "too_slow"


async def test_the_replay_of_an_utterance_that_was_given_up_is_transcribed(engine: AsyncEngine, database: str) -> None:
    run_id = await opened(engine)
    ears = Ears()
    stage = TranscriberStage(topics=TOPICS, run_id=run_id, inference=ears, engine=engine)  # type: ignore[arg-type]
    message = utterance()
    ears.refuses = True
    assert await take(engine, stage, 0, [message]) == ["dead_letter"]
    ears.refuses = False
    assert await take(engine, stage, 1, [message]) == ["duplicate"]
    again = replace(message, headers=replay_headers(message.headers, UUID(int=9), UUID(int=5), 0))
    assert await take(engine, stage, 2, [again]) == ["result"]
    with psycopg.connect(database) as connection:
        assert connection.execute("SELECT text FROM pii.utterance_texts").fetchall() == [("hello",)]


class Ears:
    """A speech model that hears one word, or refuses."""

    refuses = False

    async def transcribe(self, audio: Any, rate: int, deadline: Deadline) -> Transcript:
        if self.refuses:
            raise Permanent("invalid_input", "no")
        answer = SpeechAnswer(
            text="hello",
            finish_reason=FinishReason.STOP,
            tokens_in=1,
            tokens_out=1,
            mean_logprob=-0.1,
            infer_ms=1.0,
            model="m",
            version="v",
        )
        return Transcript(answer=answer, queue_ms=0.0)


def utterance() -> Message:
    return Utterance(
        utterance_id=UUID(int=4),
        call_id="c",
        call_started_at=STARTED,
        channel=0,
        role="unknown",
        start_ms=0,
        end_ms=1_000,
        rate=8_000,
        flac=encode_flac(np.zeros(8_000, np.int16), 8_000),
        cut_version="v1",
    ).to_message(TOPICS)


def ends(messages: Sequence[Message]) -> list[int]:
    return [n for n, one in enumerate(messages) if dict(one.headers)["ce_type"].startswith(b"calls.call.closed")]


def a_call() -> list[Message]:
    pcm, rate = read_file(PROJECT / "samples" / "calls" / "card-fee.flac")
    common: dict[str, Any] = {"call_id": "c", "call_started_at": STARTED}
    chunks = [
        AudioChunk(
            codec="l16",
            rate=rate,
            channels=1,
            roles=("unknown",),
            seq=seq,
            offset_ms=seq * 1000,
            duration_ms=1000,
            value=pcm[seq * rate : (seq + 1) * rate, 0].tobytes(),
            **common,
        )
        for seq in range(len(pcm) // rate)
    ]
    ended = CallEnded(last_seq=len(chunks) - 1, **common)
    return [*(one.to_message(TOPICS) for one in chunks), ended.to_message(TOPICS)]
