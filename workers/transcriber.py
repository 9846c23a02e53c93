"""Transcriber: utterance in, transcript row out. Many utterances are in flight at once; Triton batches them.

A call is complete when its call.closed is reached: it lies behind the call's utterances in the same partition, and a partition is
worked through in order. No counting, no lock between stages.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Literal
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent
from store import calls, facts
from store.calls import CallRun
from store.facts import Inference as Made
from store.facts import UtteranceRow
from stream.audio import decode_flac
from stream.events import CallClosed, CallTranscribed, Topics, Utterance, parse_utterances, trace_id
from stream.records import Record
from workers.deadline import Deadline
from workers.inference import Inference, Transcript
from workers.outgoing import outgoing
from workers.postgres import connected
from workers.provenance import source_of
from workers.replay import REPLAY_OF
from workers.stage import Batch, Stateless, Work
from workers.together import together

__all__ = ["TranscriberStage"]


@dataclass(slots=True, kw_only=True)
class Plan:
    rows: list[UtteranceRow] = field(default_factory=list)
    closed: list[tuple[Record, CallClosed]] = field(default_factory=list)


class TranscriberStage(Stateless):
    """The stage of `calls.utterances.v1`."""

    name = "transcriber"

    def __init__(self, *, topics: Topics, run_id: UUID, inference: Inference, engine: AsyncEngine) -> None:
        self.topic = topics.calls_utterances
        self.run_id = run_id
        self._topics = topics
        self._inference = inference
        self._engine = engine

    async def work(self, batch: Batch, deadline: Deadline) -> Work[Plan]:
        work: Work[Plan] = Work(plan=Plan())
        fresh: dict[UUID, tuple[Record, Utterance]] = {}
        for record in batch.records:
            try:
                event = parse_utterances(record)
            except Permanent as err:
                work.bury(batch, record, err)
                continue
            if isinstance(event, CallClosed):
                work.plan.closed.append((record, event))
            elif event.utterance_id in fresh:
                work.verdicts[record.offset] = ("duplicate", None)
            else:
                fresh[event.utterance_id] = (record, event)
        await self._drop_finished(work, fresh)
        await together(
            self._transcribe(batch, work, record, utterance, deadline) for record, utterance in fresh.values()
        )
        return work

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        await facts.insert_utterances(connection, work.plan.rows)
        for record, closed in work.plan.closed:
            state: Literal["transcribed", "no_speech"] = "transcribed" if closed.utterance_ids else "no_speech"
            row = CallRun(
                call_id=closed.call_id,
                run_id=self.run_id,
                call_started_at=closed.call_started_at,
                state=state,
                utterances=len(closed.utterance_ids),
                trace_id=trace_id(record),
            )
            # The first call.closed wins; a repeat changes nothing.
            if not await calls.close_run(connection, row, closed.utterance_ids):
                work.verdicts[record.offset] = ("duplicate", None)
                continue
            work.verdicts[record.offset] = ("control", None)
            event = CallTranscribed(
                call_id=closed.call_id,
                call_started_at=closed.call_started_at,
                run_id=self.run_id,
                state=state,
                traceparent=closed.traceparent,
            )
            work.outbox.append(outgoing(event.to_message(self._topics)))

    def nothing(self) -> Plan:
        return Plan()

    async def _drop_finished(self, work: Work[Plan], fresh: dict[UUID, tuple[Record, Utterance]]) -> None:
        """An utterance that the segmenter produced twice is transcribed once."""
        if not fresh:
            return
        # A dead letter counts as finished, unless it is this very record that comes again.
        asked = {
            name: utterance.call_started_at
            for name, (record, utterance) in fresh.items()
            if REPLAY_OF not in dict(record.headers)
        }
        async with connected(self._engine) as connection:
            done = await facts.finished_utterances(connection, self.run_id, asked)
        for utterance_id in done:
            record, _ = fresh.pop(utterance_id)
            work.verdicts[record.offset] = ("duplicate", None)

    async def _ask(self, utterance: Utterance, deadline: Deadline) -> Transcript:
        pcm, rate = await asyncio.to_thread(decode_flac, utterance.flac)
        return await self._inference.transcribe(pcm.astype(np.float32) / 32768, rate, deadline)

    async def _transcribe(
        self, batch: Batch, work: Work[Plan], record: Record, utterance: Utterance, deadline: Deadline
    ) -> None:
        try:
            transcript = await batch.ask_once(record.offset, lambda: self._ask(utterance, deadline))
        except Permanent as err:
            work.bury(batch, record, err)
            return
        answer = transcript.answer
        work.verdicts[record.offset] = ("result", None)
        work.plan.rows.append(
            UtteranceRow(
                utterance_id=utterance.utterance_id,
                call_id=utterance.call_id,
                call_started_at=utterance.call_started_at,
                run_id=self.run_id,
                channel=utterance.channel,
                role=utterance.role,
                start_ms=utterance.start_ms,
                end_ms=utterance.end_ms,
                text=answer.text,
                finish_reason=answer.finish_reason,
                tokens=answer.tokens_out,
                mean_logprob=answer.mean_logprob,
                inference=Made(
                    model=answer.model,
                    model_version=answer.version,
                    infer_ms=answer.infer_ms,
                    queue_ms=transcript.queue_ms,
                ),
                source=source_of(batch.key, record),
                trace_id=trace_id(record),
            )
        )
