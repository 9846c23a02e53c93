"""A real PostgreSQL with a small migrated database: two calls, three reviews, a dead letter."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from uuid import NAMESPACE_OID, UUID, uuid5

import psycopg
import pytest

from stack.ports import Ports
from stack.postgres import Postgres
from store import calls, dead_letters, engine, facts, migrate, reviews, runs
from tests.homes import temporary_home

START = datetime(2026, 3, 10, 9, 0, tzinfo=UTC)
TOPIC = uuid5(NAMESPACE_OID, "topic")
MADE = facts.Inference(model="m", model_version="1", infer_ms=10.0, queue_ms=1.0)
PROBABILITIES = {"negative": (0.8, 0.1, 0.1), "neutral": (0.1, 0.8, 0.1), "positive": (0.1, 0.1, 0.8)}


def ident(name: str) -> UUID:
    return uuid5(NAMESPACE_OID, name)


def source(offset: int = 0) -> facts.Source:
    return facts.Source(topic="t", topic_id=TOPIC, partition=0, offset=offset, at=START)


@pytest.fixture(scope="session")
def empty_url() -> Iterator[str]:
    """URL of a migrated database without rows, whose server lives as long as the session."""
    with temporary_home() as home:
        postgres = Postgres(home, Ports(home))
        try:
            postgres.start()
            migrate.upgrade(postgres.url, from_month=date(2026, 1, 1), to_month=date(2026, 12, 1))
            yield postgres.url
        finally:
            postgres.stop()


@pytest.fixture(scope="session")
def url(empty_url: str) -> str:
    """URL of a copy of it with rows."""
    server = empty_url.rpartition("/")[0]
    with psycopg.connect(f"{server}/postgres", autocommit=True) as admin:
        admin.execute("CREATE DATABASE filled TEMPLATE earful")
    asyncio.run(_fill(f"{server}/filled"))
    return f"{server}/filled"


async def _fill(url: str) -> None:
    pool = engine.create(url, application_name="test")
    async with pool.begin() as conn:
        run = (await runs.open_run(conn, {"speech": "test"}, make_current=True)).run_id
        old = (await runs.open_run(conn, {"speech": "older"}, make_current=False)).run_id
        await calls.upsert_many(conn, [_call("c1", 0), _call("c2", 1, gap_ms=4000, product=None)])
        said = [
            ("customer", 0, 1_000, "The battery is dead."),
            ("agent", 1, 62_000, "I will send a new battery."),
        ]
        for owner in (run, old):
            await facts.insert_utterances(conn, [_utterance(owner, n, *one) for n, one in enumerate(said)])
        await facts.insert_aspect_mentions(conn, [_mention(run, "m0", "battery", "negative", (4, 11))])
        await facts.insert_summaries(conn, [_summary(run)])
        await calls.close_run(conn, _closed("c1", run, "transcribed", 2), [ident("u0"), ident("u1")])
        await calls.finish_runs(conn, run, {"c1": "analysed"})
        await calls.close_run(conn, _closed("c2", run, "no_speech", 0), [])
        for number, polarity in enumerate(("positive", "positive", "negative")):
            await _review(conn, run, f"r{number}", number, polarity)
        await dead_letters.insert(conn, [_letter(run, 7), _letter(run, 8)])
    await pool.dispose()


def _call(call_id: str, day: int, **other: object) -> calls.Call:
    values: dict[str, object] = {
        "call_id": call_id,
        "call_started_at": START + timedelta(days=day),
        "channels": 2,
        "roles": ("customer", "agent"),
        "topic_id": TOPIC,
        "partition": 0,
        "state": "ended",
        "product": "Phone",
        "duration_ms": 65_000,
    }
    return calls.Call(**values | other)  # type: ignore[arg-type]


def _closed(call_id: str, run: UUID, state: calls.RunState, utterances: int) -> calls.CallRun:
    return calls.CallRun(call_id=call_id, run_id=run, call_started_at=START, state=state, utterances=utterances)


def _utterance(run: UUID, number: int, role: str, channel: int, start_ms: int, text: str) -> facts.UtteranceRow:
    return facts.UtteranceRow(
        utterance_id=ident(f"u{number}"),
        run_id=run,
        call_id="c1",
        call_started_at=START,
        channel=channel,
        role=role,
        start_ms=start_ms,
        end_ms=start_ms + 2_000,
        text=text,
        finish_reason="stop",
        tokens=5,
        mean_logprob=None,
        inference=MADE,
        source=source(number),
    )


def _mention(
    run: UUID, name: str, aspect: str, polarity: str, span: tuple[int, int], **subject: object
) -> facts.AspectMentionRow:
    p = PROBABILITIES[polarity]
    where: dict[str, object] = subject or {"call_id": "c1", "utterance_id": ident("u0")}
    return facts.AspectMentionRow(
        mention_id=ident(name),
        run_id=run,
        subject_at=START,
        source="review" if subject else "utterance",
        span_start=span[0],
        span_end=span[1],
        aspect_text=aspect,
        aspect_id=aspect,
        polarity=polarity,  # type: ignore[arg-type]
        sentiment=p[2] - p[0],
        p_negative=p[0],
        p_neutral=p[1],
        p_positive=p[2],
        confidence=0.9,
        occurred_at=START,
        inference=MADE,
        record=source(),
        product="Phone",
        **where,  # type: ignore[arg-type]
    )


def _summary(run: UUID) -> facts.SummaryRow:
    return facts.SummaryRow(
        call_id="c1",
        run_id=run,
        call_started_at=START,
        method="extractive-v1",
        issue="The battery is dead.",
        outcome=None,
        actions=["I will send a new battery."],
        summary="Issue: “The battery is dead.”",
        evidence=[
            {"field": "issue", "utterance_ids": [str(ident("u0"))]},
            {"field": "actions[0]", "utterance_ids": [str(ident("u1")), str(ident("gone"))]},
        ],
        inference=MADE,
        source=source(),
    )


async def _review(conn: object, run: UUID, review_id: str, offset: int, polarity: str) -> None:
    head = reviews.ReviewHead(review_id=review_id, version=1, topic_id=TOPIC, offset=offset, deleted=False)
    await reviews.advance_heads(conn, [head])  # type: ignore[arg-type]
    revision = reviews.revision_id(review_id, TOPIC, offset)
    row = facts.ReviewRow(
        revision_id=revision,
        run_id=run,
        review_id=review_id,
        created_at=START,
        text="The battery.",
        aspects=1,
        inference=MADE,
        source=source(offset),
        product="Phone",
    )
    await facts.insert_reviews(conn, [row])  # type: ignore[arg-type]
    mention = _mention(run, review_id, "battery", polarity, (4, 11), review_id=review_id, revision_id=revision)
    extra = _mention(run, review_id + "s", "screen", "positive", (0, 3), review_id=review_id, revision_id=revision)
    await facts.insert_aspect_mentions(conn, [mention, extra])  # type: ignore[arg-type]


def _letter(run: UUID, offset: int) -> dead_letters.DeadLetter:
    return dead_letters.DeadLetter(
        stage="reviewer",
        run_id=run,
        topic="reviews.submitted.v1",
        topic_id=TOPIC,
        partition=0,
        offset=offset,
        key=b"x",
        value=b"{",
        headers=[],
        reason="invalid_json",
        detail="the value is not a JSON object",
    )
