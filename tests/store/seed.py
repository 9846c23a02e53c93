"""Rows with known answers, for the views and the cookbook: four calls, five reviews, two runs."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store import calls, dead_letters, facts, reviews, runs
from store.calls import CallRun
from store.reviews import ReviewHead
from store.runs import CUT_RUN
from tests.store.make import START, TOPIC, call, ident, later, letter, mention, review, summary, utterance


async def seed(conn: AsyncConnection) -> tuple[UUID, UUID]:
    """Run A, which is current, and run B. c1 is analysed, c2 has no speech, c3 timed out, c4 is still on."""
    other = (await runs.open_run(conn, {"model": "b"}, make_current=False)).run_id
    run = (await runs.open_run(conn, {"model": "a"}, make_current=True)).run_id
    await calls.upsert_many(
        conn,
        [
            call("c1", product="phone", state="ended", duration_ms=12_000, gap_ms=200),
            call("c2", product="phone", state="ended", duration_ms=3_000, call_started_at=later(minutes=5)),
            call("c3", product="laptop", state="timed_out", duration_ms=4_000, late_chunks=2),
            call("c4", product="laptop", state="streaming", channels=1, roles=("unknown",)),
        ],
    )
    said = [
        ("u1", 0, "customer", 0, 4_000, "My phone's batteries broke, the battery is broken"),
        ("u2", 1, "agent", 5_000, 9_000, "We will send you a new one"),
        ("u3", 0, "customer", 8_000, 10_000, "Thank you, the screen is great"),
    ]
    utterances = [
        utterance(name, channel=c, role=r, start_ms=s, end_ms=e, text=t, run_id=run) for name, c, r, s, e, t in said
    ]
    await facts.insert_utterances(conn, utterances)
    await facts.insert_utterances(conn, [replace(utterances[0], run_id=other, text="My phone is broken")])
    for call_id, state, names in (("c1", "analysed", ["u1", "u2", "u3"]), ("c2", "no_speech", [])):
        row = CallRun(
            call_id=call_id,
            run_id=run,
            call_started_at=START,
            state=state,  # type: ignore[arg-type]
            utterances=len(names),
        )
        await calls.close_run(conn, row, [ident(n) for n in names])
    await facts.insert_summaries(
        conn,
        [
            summary(
                run_id=run,
                evidence=[
                    {"field": "issue", "utterance_ids": [str(ident("u1"))]},
                    {"field": "outcome", "utterance_ids": [str(ident("u3")), str(ident("u2"))]},
                ],
            )
        ],
    )
    await _reviews(conn, run)
    phone = {"run_id": run, "product": "phone"}
    mentions = [
        mention("m1", "negative", **phone),
        mention("m2", "positive", utterance_id=ident("u3"), aspect_id="screen", occurred_at=later(seconds=8), **phone),
        *(
            mention(
                f"r{i}",
                p,
                review_id=f"r{i}",
                revision_id=_revision(i),
                subject_at=later(days=d),
                occurred_at=later(days=d),
                **phone,
            )
            for i, p, d in ((1, "negative", -7), (2, "positive", -7), (3, "positive", 0), (4, "negative", 0))
        ),
        mention("r4n", "neutral", review_id="r4", revision_id=_revision(4), aspect_id="price", **phone),
    ]
    await facts.insert_aspect_mentions(conn, mentions)
    await facts.insert_aspect_mentions(
        conn,
        [
            replace(mentions[0], run_id=other),
            replace(mentions[2], run_id=other, polarity="neutral", sentiment=0.0),
            replace(mentions[1], run_id=other, mention_id=ident("elsewhere")),
        ],
    )
    await dead_letters.insert(
        conn,
        [
            letter(90, run_id=run, subject_id=None),
            letter(91, run_id=run, subject_id=None),
            letter(5, run_id=CUT_RUN, stage="segmenter", reason="unsupported_codec", subject_id="c9"),
            letter(92, run_id=other, reason="no_text"),
        ],
    )
    # Delays of 1, 2 and 9 s for the utterances of run A.
    await conn.execute(
        sa.text(
            "UPDATE ingest.utterances SET committed_at = source_at +"
            " CASE start_ms WHEN 0 THEN interval '1 s' WHEN 5000 THEN interval '2 s' ELSE interval '9 s' END"
        )
    )
    await conn.execute(sa.text("UPDATE ingest.review_heads SET changed_at = :at"), {"at": START})
    await conn.execute(sa.text("UPDATE ingest.dead_letters SET failed_at = :at"), {"at": START + timedelta(hours=1)})
    return run, other


def _revision(number: int) -> UUID:
    return reviews.revision_id(f"r{number}", TOPIC, number)


async def _reviews(conn: AsyncConnection, run: UUID) -> None:
    """r1 to r4 stand; r4 was edited (its old revision is still there); r5 is deleted."""
    old = ReviewHead(review_id="r4", version=None, topic_id=TOPIC, offset=0, deleted=False)
    heads = [ReviewHead(review_id=f"r{i}", version=None, topic_id=TOPIC, offset=i, deleted=i == 5) for i in range(1, 6)]
    await reviews.advance_heads(conn, [old, *heads])
    await facts.insert_reviews(
        conn,
        [
            review("r4", 0, run_id=run, text="before the edit"),
            review("r5", 5, run_id=run),
            *(
                review(f"r{i}", i, run_id=run, created_at=later(days=d), rating=float(i))
                for i, d in ((1, -7), (2, -7), (3, 0), (4, 0))
            ),
        ],
    )
