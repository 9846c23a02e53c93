"""Reviewer: a review in; its aspects and the polarity of each out.

Only the newest revision of a review counts: what is older is superseded, without inference where that is known before, and
decided once more inside the transaction. A null value deletes text and rows of every run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent
from store import facts, reviews
from store.facts import AspectMentionRow, ReviewRow
from store.reviews import ReviewHead
from stream.events import Insight, Review, ReviewDeleted, Topics, parse_review, trace_id
from stream.records import Record
from workers.aspects import Subject, aspects_body, find_mentions, mention_rows
from workers.deadline import Deadline
from workers.inference import Inference
from workers.outgoing import outgoing
from workers.postgres import connected
from workers.provenance import source_of
from workers.replay import original_place
from workers.stage import Batch, Stateless, Work
from workers.together import together

__all__ = ["ReviewerStage"]


@dataclass(slots=True, kw_only=True)
class Revision:
    """One record about a review; `row` is None for a deletion."""

    record: Record
    event: Review | ReviewDeleted
    head: ReviewHead
    row: ReviewRow | None = None
    mentions: list[AspectMentionRow] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Plan:
    revisions: list[Revision] = field(default_factory=list)


class ReviewerStage(Stateless):
    """The stage of `reviews.submitted.v1`."""

    name = "reviewer"

    def __init__(
        self,
        *,
        topics: Topics,
        run_id: UUID,
        inference: Inference,
        engine: AsyncEngine,
        month_bounds: Callable[[], tuple[datetime, datetime]],
    ) -> None:
        self.topic = topics.reviews_submitted
        self.run_id = run_id
        self._topics = topics
        self._inference = inference
        self._engine = engine
        self._month_bounds = month_bounds

    async def work(self, batch: Batch, deadline: Deadline) -> Work[Plan]:
        work: Work[Plan] = Work(plan=Plan())
        revisions = [one for record in batch.records if (one := self._parse(batch, work, record))]
        async with connected(self._engine) as connection:
            heads = await reviews.current_heads(connection, {one.head.review_id for one in revisions})
        worth = [one for one in revisions if may_follow(one.head, heads.get(one.head.review_id))]
        await together(self._infer(batch, work, one, deadline) for one in worth)
        work.plan.revisions = [one for one in revisions if one.record.offset not in work.verdicts]
        return work

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        # Deletions and revisions that carry results compete; the rest was superseded before.
        entries = [one for one in work.plan.revisions if one.row or isinstance(one.event, ReviewDeleted)]
        winners: dict[str, ReviewHead] = {}
        for turn in turns(entries):
            accepted = await reviews.advance_heads(connection, [one.head for one in turn])
            # Also a deletion that a later revision of the same batch follows removes what was there before.
            await reviews.delete_review(connection, [name for name, head in accepted.items() if head.deleted])
            winners |= accepted
        kept: list[Revision] = []
        for one in work.plan.revisions:
            if winners.get(one.head.review_id) is one.head:
                work.verdicts[one.record.offset] = ("result", None)
                kept.append(one)
            else:
                work.verdicts[one.record.offset] = ("superseded", None)
        await facts.insert_reviews(connection, [one.row for one in kept if one.row])
        await facts.insert_aspect_mentions(connection, [row for one in kept for row in one.mentions])
        work.outbox += [outgoing(insight(one, self.run_id).to_message(self._topics)) for one in kept]

    def nothing(self) -> Plan:
        return Plan()

    def _parse(self, batch: Batch, work: Work[Plan], record: Record) -> Revision | None:
        try:
            event = parse_review(record)
            if isinstance(event, Review):
                first, end = self._month_bounds()
                if not first <= event.created_at < end:
                    raise Permanent("out_of_range", f"created_at must lie in {first:%Y-%m} .. before {end:%Y-%m}")
            topic_id, offset = original_place(record, batch.key.topic_id)
        except Permanent as err:
            work.bury(batch, record, err)
            return None
        head = ReviewHead(
            review_id=event.review_id,
            version=event.version,
            topic_id=topic_id,
            offset=offset,
            deleted=isinstance(event, ReviewDeleted),
        )
        return Revision(record=record, event=event, head=head)

    async def _infer(self, batch: Batch, work: Work[Plan], one: Revision, deadline: Deadline) -> None:
        event = one.event
        if isinstance(event, ReviewDeleted):
            return
        try:
            found = await batch.ask_once(
                one.record.offset,
                lambda: find_mentions(self._inference, event.text, deadline, product=event.product),
            )
        except Permanent as err:
            work.bury(batch, one.record, err)
            return
        source, trace = source_of(batch.key, one.record), trace_id(one.record)
        revision = reviews.revision_id(event.review_id, one.head.topic_id, one.head.offset)
        subject = Subject(
            source="review",
            identity=revision,
            at=event.created_at,
            occurred_at=event.created_at,
            review_id=event.review_id,
            product=event.product,
        )
        one.mentions = mention_rows(self.run_id, subject, event.text, found, source, trace)
        one.row = ReviewRow(
            revision_id=revision,
            run_id=self.run_id,
            review_id=event.review_id,
            created_at=event.created_at,
            text=event.text,
            aspects=len(one.mentions),
            inference=found.made,
            source=source,
            version=event.version,
            product=event.product,
            rating=event.rating,
            language=event.language,
            author=event.author,
            trace_id=trace,
            state="unsupported_language" if found.foreign else "analysed",
        )


def turns(entries: Sequence[Revision]) -> list[list[Revision]]:
    """In order, cut where a review goes on after its deletion: each deletion is the last word on its review in its turn."""
    out: list[list[Revision]] = [[]]
    deleted: set[str] = set()
    for one in entries:
        if one.head.review_id in deleted:
            out.append([])
            deleted.clear()
        out[-1].append(one)
        if one.head.deleted:
            deleted.add(one.head.review_id)
    return out


def may_follow(head: ReviewHead, known: ReviewHead | None) -> bool:
    """Whether inference is worth it: False only where an equal or higher version is known already."""
    if known is None or head.version is None or known.version is None:
        return True
    same = (head.topic_id, head.offset) == (known.topic_id, known.offset)
    return same or head.version > known.version


def insight(one: Revision, run_id: UUID) -> Insight:
    body: dict[str, object] = {"deleted": True}
    if one.row is not None:
        body = {"product": one.row.product, "state": one.row.state, "aspects": aspects_body(one.mentions)}
    return Insight(
        subject_id=one.head.review_id, kind="review", run_id=run_id, body=body, traceparent=one.event.traceparent
    )
