"""Heads of reviews: which revision is the newest, and which reviews are gone.

Revision B follows head A if B is the same record again, or both carry a version and B's is higher, or one of them
carries none and B comes later in the log (generation of the topic, then original offset). The head keeps the highest
version it has seen, so an old version stays old even after a deletion without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from store.unnest import Insert

__all__ = ["ReviewHead", "advance_heads", "current_heads", "delete_review", "revision_id"]

_NAMESPACE = uuid5(NAMESPACE_URL, "earful:review")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewHead:
    """A review's record. For a replayed dead letter topic_id and offset are the original ones."""

    review_id: str
    version: int | None
    topic_id: UUID
    offset: int
    deleted: bool


def revision_id(review_id: str, topic_id: UUID, offset: int) -> UUID:
    """The id of one revision: where its record was first written."""
    return uuid5(_NAMESPACE, f"{topic_id}/{offset}/{review_id}")


# Known topics are left out first: an insert that meets a conflict burns a generation.
_ADD_TOPICS = sa.text(
    "INSERT INTO ingest.topics (topic_id) SELECT topic_id FROM unnest(CAST(:ids AS uuid[])) AS u(topic_id)"
    " WHERE topic_id NOT IN (SELECT topic_id FROM ingest.topics) ORDER BY topic_id ON CONFLICT (topic_id) DO NOTHING"
)
_GENERATIONS = sa.text("SELECT topic_id, generation FROM ingest.topics WHERE topic_id = ANY(CAST(:ids AS uuid[]))")
_ADVANCE = Insert(
    table="ingest.review_heads",
    columns={
        "review_id": "text",
        "version": "int8",
        "generation": "int8",
        "topic_id": "uuid",
        "offset": "int8",
        "revision_id": "uuid",
        "deleted": "bool",
    },
    key=("review_id",),
    # Every row in conflict is locked, also one that the WHERE leaves alone: a deletion and a backfill wait in turn.
    conflict="DO UPDATE SET version = greatest(t.version, excluded.version), generation = excluded.generation,"
    ' topic_id = excluded.topic_id, "offset" = excluded."offset", revision_id = excluded.revision_id,'
    " deleted = excluded.deleted, changed_at = CASE WHEN t.revision_id = excluded.revision_id THEN t.changed_at"
    " ELSE now() END WHERE t.revision_id = excluded.revision_id OR CASE"
    " WHEN t.version IS NOT NULL AND excluded.version IS NOT NULL THEN excluded.version > t.version"
    ' ELSE (excluded.generation, excluded."offset") > (t.generation, t."offset") END',
    returning="t.review_id",
)


async def advance_heads(conn: AsyncConnection, heads: Sequence[ReviewHead]) -> Mapping[str, ReviewHead]:
    """Make these revisions the newest where they are; which were accepted, by review id.

    Of several of one review in the batch the answer names the one that won; the others, and reviews it does not
    name, are superseded. The same record again is accepted again, so that a replay under another run works. Heads
    stay locked until the commit.
    """
    if not heads:
        return {}
    ids = {"ids": list({h.topic_id for h in heads})}
    await conn.execute(_ADD_TOPICS, ids)
    generations = {r.topic_id: int(r.generation) for r in await conn.execute(_GENERATIONS, ids)}
    # One statement takes each review once, so records of the same review go in turn, as they came.
    rounds: list[dict[str, ReviewHead]] = []
    turn: Counter[str] = Counter()
    for head in heads:
        if turn[head.review_id] == len(rounds):
            rounds.append({})
        rounds[turn[head.review_id]][head.review_id] = head
        turn[head.review_id] += 1
    accepted: dict[str, ReviewHead] = {}
    for batch in rounds:
        rows = [
            {
                "review_id": h.review_id,
                "version": h.version,
                "generation": generations[h.topic_id],
                "topic_id": h.topic_id,
                "offset": h.offset,
                "deleted": h.deleted,
                "revision_id": revision_id(h.review_id, h.topic_id, h.offset),
            }
            for h in batch.values()
        ]
        for row in await _ADVANCE.run(conn, rows):
            accepted[row.review_id] = batch[row.review_id]
    return accepted


async def current_heads(conn: AsyncConnection, ids: Iterable[str]) -> dict[str, ReviewHead]:
    """Heads by review id, tombstones too; the version is the highest that was seen."""
    found = await conn.execute(
        sa.text(
            'SELECT review_id, version, topic_id, "offset", deleted FROM ingest.review_heads'
            " WHERE review_id = ANY(CAST(:ids AS text[]))"
        ),
        {"ids": sorted(set(ids))},
    )
    return {r.review_id: ReviewHead(**r._mapping) for r in found}


_DELETE = tuple(
    sa.text(f"DELETE FROM {table} WHERE review_id = ANY(CAST(:ids AS text[]))")
    for table in ("ingest.aspect_mentions", "pii.review_texts", "ingest.reviews")
)
_DELETE_PAYLOADS = sa.text(
    "DELETE FROM pii.dead_letter_payloads WHERE dead_letter_id IN (SELECT dead_letter_id FROM ingest.dead_letters"
    " WHERE stage = 'reviewer' AND subject_id = ANY(CAST(:ids AS text[])))"
)


async def delete_review(conn: AsyncConnection, ids: Sequence[str]) -> None:
    """Remove text and rows of every run, and payloads of dead letters; the head stays as the tombstone."""
    if not ids:
        return
    for statement in (*_DELETE, _DELETE_PAYLOADS):
        await conn.execute(statement, {"ids": sorted(set(ids))})
