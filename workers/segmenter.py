"""Segmenter: call audio in, utterances out.

Chunks are put in order (workers.assembly), undecodable ones buried, speech is found and cut (workers.cutting), and each utterance
is produced to `calls.utterances.v1` before the transaction: its id comes from its content, so a repeat is the same utterance.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent, Transient
from store import calls, segmenter
from store.calls import Call
from store.ledger import LedgerKey
from store.runs import CUT_RUN
from stream.events import (
    AudioChunk,
    AudioEvent,
    CallPaused,
    CallResumed,
    CallTimedOut,
    Topics,
    parse_audio,
)
from stream.records import Message, Record
from workers.assembly import Assembly
from workers.call_events import CallEvents, Verdict
from workers.call_rows import begin_row, begun, row_of
from workers.cutting import Cutter, Draft
from workers.deadline import Deadline
from workers.open_calls import Held, OpenCalls
from workers.postgres import connected
from workers.replay import REPLAY_OF
from workers.stage import Batch, Work

__all__ = ["SegmenterStage"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]

#: Decoded, a chunk has at most 5 s of 48 kHz stereo; what says more is buried.
LARGEST_AUDIO = 1_000_000
#: Calls are looked up in Postgres once; the last ones are remembered here, about 1 kB each.
REMEMBERED_CALLS = 10_000
OTHER_PARTITION = "a call began in another partition at the same moment; next time that is known"


@dataclass(slots=True, kw_only=True)
class Plan:
    drafts: dict[str, Draft] = field(default_factory=dict)
    late: dict[str, Call] = field(default_factory=dict)  # rows of calls that are over and that audio came for
    rows: list[Call] = field(default_factory=list)
    states: dict[str, bytes] = field(default_factory=dict)  # of calls that are still open


class SegmenterStage:
    """The stage of `calls.audio.v1`. Its run is fixed: there is one cut version, and old calls are not cut again."""

    name = "segmenter"
    run_id = CUT_RUN

    def __init__(
        self,
        *,
        topics: Topics,
        cutter: Cutter,
        engine: AsyncEngine,
        produce: Callable[[Sequence[Message]], Awaitable[None]],
        decode: Callable[[AudioChunk], Awaitable[Pcm]],
        reorder_chunks: int,
        month_bounds: Callable[[], tuple[datetime, datetime]],
        batch_bytes: int,
        open_calls_bytes: int,
    ) -> None:
        self.topic = topics.calls_audio
        self._cutter = cutter
        # Partitions that cut at the same time would take turns at Python's lock, a window each.
        self._cutting = asyncio.Lock()
        self._engine = engine
        self._produce = produce
        self._events = CallEvents(decode, reorder_chunks)
        self._month_bounds = month_bounds
        self._batch_bytes = batch_bytes
        self._open = OpenCalls(open_calls_bytes)
        self._known: OrderedDict[str, Call] = OrderedDict()

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        self._known.clear()
        await self._open.assigned(connection, keys)

    def dropped(self) -> None:
        self._known.clear()
        self._open.forget()

    def portion(self, partition: int, records: Sequence[Record]) -> int:
        """So many that audio and open calls fit into this partition's part of `batch_bytes`; at least one."""
        total, seen = 0, set()
        limit = self._batch_bytes // max(1, self._open.partitions)
        for count, record in enumerate(records):
            call_id = (record.key or b"").decode(errors="replace")
            total += audio_bytes(record)
            if call_id not in seen:
                seen.add(call_id)
                total += self._open.size(partition, call_id)
            if count and total > limit:
                return count
        return len(records)

    async def work(self, batch: Batch, deadline: Deadline) -> Work[Plan]:
        work: Work[Plan] = Work(plan=Plan())
        events: list[tuple[Record, AudioEvent]] = []
        for record in batch.records:
            try:
                events.append((record, parse_audio(record)))
            except Permanent as err:
                work.bury(batch, record, err)
        call_ids = {event.call_id for _, event in events}
        rows = await self._rows(call_ids)
        held = await self._open.get_many(self._engine, batch.key, call_ids)
        for record, event in events:
            try:
                work.verdicts[record.offset] = await self._take(batch, work.plan, rows, held, record, event)
            except Permanent as err:
                work.bury(batch, record, err)
        utterances, ends = await self._cut(list(work.plan.drafts.values()))
        deadline.check()
        work.plan.rows = [row_of(batch.key, draft, rows) for draft in work.plan.drafts.values()]
        await self._claim(batch.key.partition, [row for row in work.plan.rows if row.call_id not in rows], work.plan)
        await self._produce(utterances)
        await self._produce(ends)  # now that Kafka has what they name: a transcriber believes them
        work.plan.rows += work.plan.late.values()
        work.plan.states = {
            call_id: draft.call.to_bytes() for call_id, draft in work.plan.drafts.items() if not draft.call.closed
        }
        return work

    async def _cut(self, drafts: list[Draft]) -> tuple[list[Message], list[Message]]:
        """One at a time, and to its end: a thread cannot be called back, and the next try would run beside it."""
        async with self._cutting:
            cut = asyncio.create_task(asyncio.to_thread(self._cutter.cut, drafts))
            try:
                return await asyncio.shield(cut)
            finally:
                await asyncio.wait([cut])

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        drafts = work.plan.drafts
        live = {call_id: drafts[call_id] for call_id in work.plan.states}
        await calls.upsert_many(connection, work.plan.rows)
        stored = await calls.get_many(connection, [row.call_id for row in work.plan.rows])
        if any(row.partition != batch.key.partition for row in stored.values()):
            raise Transient(OTHER_PARTITION)
        await segmenter.save(
            connection,
            batch.key.topic_id,
            batch.key.partition,
            states=list(work.plan.states.items()),
            appended=[
                (call_id, channel, start, pcm.tobytes())
                for call_id, draft in live.items()
                for channel, start, pcm in draft.appended
            ],
            trimmed=[
                (call_id, channel, start)
                for call_id, draft in live.items()
                for channel, (start, _) in enumerate(draft.audio)
            ],
            closed=[call_id for call_id, draft in drafts.items() if draft.call.closed],
        )

    def nothing(self) -> Plan:
        return Plan()

    def committed(self, batch: Batch, work: Work[Plan]) -> None:
        for call_id, draft in work.plan.drafts.items():
            if draft.call.closed:
                self._open.remove(batch.key.partition, call_id)
            else:
                audio = tuple((start, compact(pcm)) for start, pcm in draft.audio)
                self._open.put(batch.key.partition, call_id, Held(state=work.plan.states[call_id], audio=audio))
        self._open.trim()
        for row in work.plan.rows:
            self._known[row.call_id] = row
            self._known.move_to_end(row.call_id)
        while len(self._known) > REMEMBERED_CALLS:
            self._known.popitem(last=False)

    async def _rows(self, call_ids: set[str]) -> dict[str, Call]:
        """Calls that were seen before, open or closed."""
        found = {call_id: self._known[call_id] for call_id in call_ids if call_id in self._known}
        unknown = call_ids - set(found)
        if unknown:
            async with connected(self._engine) as connection:
                found |= await calls.get_many(connection, unknown)
        return found

    async def _claim(self, partition: int, new: Sequence[Call], plan: Plan) -> None:
        """Before utterances of a new call reach Kafka its row is there: else those of its other half, sent to another
        partition, could come first and be taken for them. Raises Transient where that half was first."""
        heard = [begin_row(row) for row in new if plan.drafts[row.call_id].call.utterance_ids]
        if not heard:
            return
        async with connected(self._engine) as connection:
            await calls.claim(connection, heard)
            await connection.commit()
            stored = await calls.get_many(connection, [row.call_id for row in heard])
        if any(row.partition != partition for row in stored.values()):
            raise Transient(OTHER_PARTITION)

    async def _take(
        self,
        batch: Batch,
        plan: Plan,
        rows: Mapping[str, Call],
        held: Mapping[str, Held],
        record: Record,
        event: AudioEvent,
    ) -> Verdict:
        """One event into its call's draft. Returns its verdict; raises Permanent for a dead letter."""
        draft = plan.drafts.get(event.call_id)
        row = rows.get(event.call_id)
        replayed = REPLAY_OF in dict(record.headers)
        if draft is None:
            self._check_call(batch.key.partition, row, event)
            known = held.get(event.call_id)
            if known is not None:
                draft = Draft(call=Assembly.from_bytes(known.state), audio=list(known.audio))
            elif row is not None and row.state not in ("started", "streaming"):
                return self._after_the_end(plan, row, event, replayed)
            elif row is None and isinstance(event, CallPaused | CallResumed | CallTimedOut):
                return ("control", None)  # of a call that nobody heard of: nothing to pause or to end
            else:  # a row without a state was claimed by a batch that did not come to its end
                draft = begun(event, record, row)
                verdict = await self._events.apply(draft, event, replayed)  # a record that is buried begins no call
                plan.drafts[event.call_id] = draft
                return verdict
        elif event.call_started_at != draft.call.call_started_at:
            raise Permanent("call_id_reused", "call_started_at differs from the call's first record")
        plan.drafts[event.call_id] = draft  # before it is applied: also a chunk that is buried leaves its mark
        return await self._events.apply(draft, event, replayed)

    def _check_call(self, partition: int, row: Call | None, event: AudioEvent) -> None:
        first, end = self._month_bounds()
        if not first <= event.call_started_at < end:
            raise Permanent("out_of_range", f"call_started_at must lie in {first:%Y-%m} .. before {end:%Y-%m}")
        if row is None:
            return
        if row.call_started_at != event.call_started_at:
            raise Permanent("call_id_reused", "call_started_at differs from the call's first record")
        if row.partition != partition:
            raise Permanent("wrong_partition", "the call is in another partition: use the murmur2 partitioner")

    def _after_the_end(self, plan: Plan, row: Call, event: AudioEvent, replayed: bool) -> Verdict:
        if not isinstance(event, AudioChunk):
            return ("control", None)
        if (event.channels, event.roles) != (row.channels, row.roles):
            raise Permanent("call_id_reused", "the channel layout differs from the call's first record")
        if any(first <= event.seq <= last for first, last in row.received) and not replayed:
            return ("duplicate", None)
        row = plan.late.get(event.call_id, row)
        plan.late[event.call_id] = replace(
            row, late_chunks=row.late_chunks + 1, late_ms=row.late_ms + event.duration_ms
        )
        return ("late", None)


def audio_bytes(record: Record) -> int:
    """What a record takes once it is decoded: as its headers say, which decoding holds it to."""
    headers = dict(record.headers)
    try:
        frames = int(headers["rate"]) * int(headers["duration_ms"]) // 1000
        audio = 2 * frames * int(headers["channels"])
    except (KeyError, ValueError):
        audio = 0  # it will be buried
    return len(record.value or b"") + min(max(audio, 0), LARGEST_AUDIO)


def compact(pcm: Pcm) -> Pcm:
    """A copy where it is a small part of what came in, which would stay in memory with it."""
    whole = pcm.base
    return pcm.copy() if isinstance(whole, np.ndarray) and whole.nbytes > 2 * pcm.nbytes else pcm
