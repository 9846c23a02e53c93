"""Summarizer: a transcribed call in; issue, outcome, actions and summary out, and the aspects the customer spoke of."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent
from store import calls, facts
from store.facts import AspectMentionRow, SummaryRow, TranscriptLine
from stream.events import CallTranscribed, Insight, Topics, parse_transcribed, trace_id
from stream.records import Record
from workers.aspects import Subject, aspects_body, find_mentions, mention_rows
from workers.deadline import Deadline
from workers.inference import Inference
from workers.outgoing import outgoing
from workers.postgres import connected
from workers.provenance import source_of
from workers.replay import REPLAY_OF
from workers.stage import Batch, Stateless, Work
from workers.summaries import summary_of
from workers.together import together

__all__ = ["SummarizerStage"]

#: Whose words count as the customer's: on a mono call nobody knows who speaks.
CUSTOMER_ROLES = frozenset({"customer", "unknown"})


@dataclass(slots=True, kw_only=True)
class Done:
    """One call's results, in memory."""

    record: Record
    event: CallTranscribed
    summary: SummaryRow
    mentions: list[AspectMentionRow]
    state: Literal["analysed", "unsupported_language"]


@dataclass(slots=True, kw_only=True)
class Plan:
    done: list[Done] = field(default_factory=list)
    silent: list[tuple[Record, CallTranscribed]] = field(default_factory=list)


class SummarizerStage(Stateless):
    """The stage of `calls.transcribed.v1`."""

    name = "summarizer"

    def __init__(self, *, topics: Topics, run_id: UUID, inference: Inference, engine: AsyncEngine) -> None:
        self.topic = topics.calls_transcribed
        self.run_id = run_id
        self._topics = topics
        self._inference = inference
        self._engine = engine

    async def work(self, batch: Batch, deadline: Deadline) -> Work[Plan]:
        work: Work[Plan] = Work(plan=Plan())
        await together(self._one(batch, work, record, deadline) for record in batch.records)
        work.plan.done.sort(key=lambda done: done.record.offset)
        return work

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        plan = work.plan
        first: list[Done] = []
        replayed = [done.event.call_id for done in plan.done if REPLAY_OF in dict(done.record.headers)]
        await calls.reopen_runs(connection, self.run_id, replayed)
        # calls.transcribed comes at least once: of one call the first counts.
        states = {done.event.call_id: done.state for done in reversed(plan.done)}
        new = await calls.finish_runs(connection, self.run_id, states)
        for done in plan.done:
            if done.event.call_id not in new:
                work.verdicts[done.record.offset] = ("duplicate", None)
                continue
            new.remove(done.event.call_id)
            work.verdicts[done.record.offset] = ("result", None)
            first.append(done)
        await facts.insert_summaries(connection, [done.summary for done in first])
        await facts.insert_aspect_mentions(connection, [row for done in first for row in done.mentions])
        work.outbox += [outgoing(insight(done).to_message(self._topics)) for done in first]
        for record, _ in plan.silent:
            work.verdicts[record.offset] = ("control", None)
        await self._give_up(connection, batch, work)  # last: of a record that came twice a result counts more

    def nothing(self) -> Plan:
        return Plan()

    async def _give_up(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        """A call whose record is buried, here or by the loop, waits for nothing any more, and its state says so."""
        for record in batch.records:
            kind, reason = work.verdicts.get(record.offset, (None, None))
            if kind != "dead_letter":
                continue
            try:
                event = parse_transcribed(record)
            except Permanent:
                continue  # it is not about any call
            if event.run_id == self.run_id:
                await calls.give_up_run(connection, self.run_id, event.call_id, reason)

    async def _one(self, batch: Batch, work: Work[Plan], record: Record, deadline: Deadline) -> None:
        try:
            event = parse_transcribed(record)
            if event.run_id != self.run_id:
                work.verdicts[record.offset] = ("other_run", None)
            elif event.state == "no_speech":
                work.plan.silent.append((record, event))
            elif not await self._is_transcribed(event):
                # It tells of a time that this database does not know: it was restored to an older state. What the call
                # has now may be a part of it; once it is transcribed again, that is told again.
                work.verdicts[record.offset] = ("superseded", "not_transcribed_yet")
            else:
                work.plan.done.append(await self._summarize(batch, record, event, deadline))
        except Permanent as err:
            work.bury(batch, record, err)

    async def _is_transcribed(self, event: CallTranscribed) -> bool:
        async with connected(self._engine) as connection:
            return await calls.closed(connection, self.run_id, event.call_id)

    async def _summarize(self, batch: Batch, record: Record, event: CallTranscribed, deadline: Deadline) -> Done:
        async with connected(self._engine) as connection:
            lines = await facts.call_utterances(connection, self.run_id, event.call_id)
            known = await calls.get_many(connection, [event.call_id])
        call = known.get(event.call_id)
        product = call.product if call else None
        source, trace = source_of(batch.key, record), trace_id(record)
        summary = await batch.ask_once(("summary", event.call_id), lambda: summary_of(lines, self._inference, deadline))
        mentions: list[AspectMentionRow] = []
        letters = {True: 0, False: 0}  # of what the models refuse as foreign, and of the rest

        async def find(one: TranscriptLine) -> None:
            found = await batch.ask_once(
                one.utterance_id, lambda: find_mentions(self._inference, one.text, deadline, product=product)
            )
            letters[found.foreign] += len(one.text)
            subject = Subject(
                source="utterance",
                identity=one.utterance_id,
                at=event.call_started_at,
                occurred_at=event.call_started_at + timedelta(milliseconds=one.start_ms),
                call_id=event.call_id,
                product=product,
            )
            mentions.extend(mention_rows(self.run_id, subject, one.text, found, source, trace))

        await together(find(one) for one in lines if one.role in CUSTOMER_ROLES and one.text.strip())
        mentions.sort(key=lambda row: row.mention_id)
        said = summary.said
        row = SummaryRow(
            call_id=event.call_id,
            run_id=self.run_id,
            call_started_at=event.call_started_at,
            method=said.method,
            issue=said.issue.text if said.issue else None,
            outcome=said.outcome.text if said.outcome else None,
            actions=[action.text for action in said.actions],
            summary=said.summary,
            evidence=said.evidence(),
            inference=summary.made,
            source=source,
            trace_id=trace,
        )
        state: Literal["analysed", "unsupported_language"] = "analysed"
        if letters[True] > letters[False]:
            state = "unsupported_language"
        return Done(record=record, event=event, summary=row, mentions=mentions, state=state)


def insight(done: Done) -> Insight:
    row = done.summary
    return Insight(
        subject_id=row.call_id,
        kind="call",
        run_id=row.run_id,
        body={
            "method": row.method,
            "issue": row.issue,
            "outcome": row.outcome,
            "actions": list(row.actions),
            "summary": row.summary,
            "evidence": list(row.evidence),
            "state": done.state,
            "aspects": aspects_body(done.mentions),
        },
        traceparent=done.event.traceparent,
    )
