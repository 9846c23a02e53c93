"""Segmenter: call audio in, utterances out.

Chunks are put in order (workers.assembly), undecodable ones buried, speech is found and cut (workers.cutting), and each utterance
is produced to `calls.utterances.v1` before the transaction: its id comes from its content, so a repeat is the same utterance.
"""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent, Transient
from store import calls, segmenter
from store.calls import Call, CallState
from store.ledger import LedgerKey, VerdictKind
from store.runs import CUT_RUN
from stream.events import (
    AudioChunk,
    AudioEvent,
    CallEnded,
    CallPaused,
    CallResumed,
    CallStarted,
    CallTimedOut,
    Topics,
    make_traceparent,
    parse_audio,
    trace_id,
)
from stream.ids import trace_id_of
from stream.records import Message, Record
from workers.assembly import Assembly, admit
from workers.cutting import Cutter, Draft, begin_channels
from workers.deadline import Deadline
from workers.reading import reading
from workers.stage import Batch, Work

__all__ = ["SegmenterStage"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]
Verdict = tuple[VerdictKind, str | None]

#: Calls are looked up in Postgres once; the last ones are remembered here, about 1 kB each.
REMEMBERED_CALLS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An open call as Postgres has it: state bytes, and per channel the audio that may still be cut."""

    state: bytes
    audio: tuple[tuple[int, Pcm], ...]


@dataclass(slots=True, kw_only=True)
class Plan:
    drafts: dict[str, Draft] = field(default_factory=dict)
    late: Counter[str] = field(default_factory=Counter)  # chunks for calls that are over
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
    ) -> None:
        self.topic = topics.calls_audio
        self._cutter = cutter
        self._engine = engine
        self._produce = produce
        self._decode = decode
        self._reorder_chunks = reorder_chunks
        self._month_bounds = month_bounds
        self._open: dict[int, dict[str, Held]] = {}
        self._known: OrderedDict[str, Call] = OrderedDict()

    async def assigned(self, connection: AsyncConnection, keys: Sequence[LedgerKey]) -> None:
        self._known.clear()
        loaded: dict[int, dict[str, Held]] = {}
        for key in keys:
            saved = await segmenter.load(connection, key.topic_id, key.partition)
            loaded[key.partition] = {one.call_id: restored(one) for one in saved}
        self._open = loaded

    async def work(self, batch: Batch, deadline: Deadline) -> Work[Plan]:
        work: Work[Plan] = Work(plan=Plan())
        events: list[tuple[Record, AudioEvent]] = []
        for record in batch.records:
            try:
                events.append((record, parse_audio(record)))
            except Permanent as err:
                work.bury(batch, record, err)
        rows = await self._rows({event.call_id for _, event in events})
        for record, event in events:
            try:
                work.verdicts[record.offset] = await self._take(batch, work.plan, rows, record, event)
            except Permanent as err:
                work.bury(batch, record, err)
        utterances, ends = await asyncio.to_thread(self._cutter.cut, list(work.plan.drafts.values()))
        deadline.check()
        await self._produce(utterances)
        await self._produce(ends)  # now that Kafka has what they name: a transcriber believes them
        work.plan.rows = [row_of(batch.key, draft, rows) for draft in work.plan.drafts.values()]
        work.plan.rows += [
            replace(rows[call_id], late_chunks=rows[call_id].late_chunks + count)
            for call_id, count in work.plan.late.items()
            if call_id not in work.plan.drafts
        ]
        work.plan.states = {
            call_id: draft.call.to_bytes() for call_id, draft in work.plan.drafts.items() if not draft.call.closed
        }
        return work

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        drafts = work.plan.drafts
        live = {call_id: drafts[call_id] for call_id in work.plan.states}
        await calls.upsert_many(connection, work.plan.rows)
        stored = await calls.get_many(connection, [row.call_id for row in work.plan.rows])
        if any(row.partition != batch.key.partition for row in stored.values()):
            raise Transient("a call began in another partition at the same moment; next time that is known")
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
        held = self._open.setdefault(batch.key.partition, {})
        for call_id, draft in work.plan.drafts.items():
            if draft.call.closed:
                held.pop(call_id, None)
            else:
                held[call_id] = Held(state=work.plan.states[call_id], audio=tuple(draft.audio))
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
            async with reading(self._engine) as connection:
                found |= await calls.get_many(connection, unknown)
        return found

    async def _take(
        self, batch: Batch, plan: Plan, rows: Mapping[str, Call], record: Record, event: AudioEvent
    ) -> Verdict:
        """One event into its call's draft. Returns its verdict; raises Permanent for a dead letter."""
        draft = plan.drafts.get(event.call_id)
        row = rows.get(event.call_id)
        if draft is None:
            self._check_call(batch.key.partition, row, event)
            held = self._open.get(batch.key.partition, {}).get(event.call_id)
            if held is not None:
                draft = Draft(call=Assembly.from_bytes(held.state), audio=list(held.audio))
            elif row is not None:
                return self._after_the_end(plan, row, event)
            elif isinstance(event, CallPaused | CallResumed | CallTimedOut):
                return ("control", None)  # of a call that nobody heard of: nothing to pause or to end
            else:
                draft = begun(event, record)
                verdict = await self._apply(draft, event)  # a record that is buried begins no call
                plan.drafts[event.call_id] = draft
                return verdict
        elif event.call_started_at != draft.call.call_started_at:
            raise Permanent("call_id_reused", "call_started_at differs from the call's first record")
        plan.drafts[event.call_id] = draft  # before it is applied: also a chunk that is buried leaves its mark
        return await self._apply(draft, event)

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

    def _after_the_end(self, plan: Plan, row: Call, event: AudioEvent) -> Verdict:
        if not isinstance(event, AudioChunk):
            return ("control", None)
        if (event.channels, event.roles) != (row.channels, row.roles):
            raise Permanent("call_id_reused", "the channel layout differs from the call's first record")
        if any(first <= event.seq <= last for first, last in row.received):
            return ("duplicate", None)
        plan.late[event.call_id] += 1
        return ("late", None)

    async def _apply(self, draft: Draft, event: AudioEvent) -> Verdict:
        call = draft.call
        if isinstance(event, AudioChunk):
            return await self._chunk(draft, event)
        if isinstance(event, CallStarted):
            if (event.channels, event.roles) != (call.channels, call.roles):
                raise Permanent("call_id_reused", "the channel layout differs from the call's first record")
            call.product = call.product or event.product
            draft.metadata = event.metadata
        elif isinstance(event, CallPaused):
            call.paused = call.held = True
        elif isinstance(event, CallResumed):
            call.paused = False
        elif call.closed:
            return ("control", None)
        elif isinstance(event, CallEnded):
            draft.stretches += call.close("ended", event.last_seq)
        elif isinstance(event, CallTimedOut) and call.highest_seq <= event.last_seen_seq:
            draft.stretches += call.close("timed_out", None)
        return ("control", None)

    async def _chunk(self, draft: Draft, event: AudioChunk) -> Verdict:
        call = draft.call
        if not call.channel_states:
            call.rate = event.rate
        verdict = admit(
            call,
            call_started_at=event.call_started_at,
            channels=event.channels,
            roles=tuple(event.roles),
            rate=event.rate,
            seq=event.seq,
            offset_ms=event.offset_ms,
        )
        if verdict is not None:
            draft.late_chunks += verdict[0] == "late"
            return verdict
        if not call.channel_states:
            try:
                begin_channels(draft, 0)
            except ValueError as err:
                raise Permanent("unsupported_rate", f"{event.rate} Hz is no rate that speech comes in") from err
        try:
            pcm = await self._decode(event)
        except Permanent:
            draft.stretches += call.add(event.seq, event.offset_ms, None, self._reorder_chunks)
            raise
        finally:
            call.chunk_ms = event.duration_ms
        draft.stretches += call.add(event.seq, event.offset_ms, pcm, self._reorder_chunks)
        return ("consumed", None)


def begun(event: AudioEvent, record: Record) -> Draft:
    """A call's first record settles its layout; call.ended alone says nothing of it."""
    channels, roles = (
        (event.channels, event.roles) if isinstance(event, AudioChunk | CallStarted) else (1, ("unknown",))
    )
    call = Assembly(
        call_id=event.call_id,
        call_started_at=event.call_started_at,
        channels=channels,
        roles=roles,
        rate=event.rate if isinstance(event, AudioChunk) else 8_000,
        product=event.product if isinstance(event, CallStarted) else None,
        traceparent=event.traceparent or make_traceparent(trace_id(record)),
    )
    return Draft(call=call, audio=[])


def restored(saved: segmenter.SavedCall) -> Held:
    call = Assembly.from_bytes(saved.state)
    audio: list[tuple[int, Pcm]] = []
    for channel in range(len(call.channel_states)):
        parts = [one for one in saved.audio if one.channel == channel]
        pcm = [np.frombuffer(part.pcm, np.int16) for part in parts]
        start = parts[0].start_sample if parts else call.position
        audio.append((start, np.concatenate(pcm) if pcm else np.zeros(0, np.int16)))
    return Held(state=saved.state, audio=tuple(audio))


def state_of(call: Assembly) -> CallState:
    if call.closed and call.received and not call.position:
        return "audio_corrupt"  # chunks came, and none of them could be decoded
    return call.closed or ("streaming" if call.received else "started")


def row_of(key: LedgerKey, draft: Draft, rows: Mapping[str, Call]) -> Call:
    call, known = draft.call, rows.get(draft.call.call_id)
    return Call(
        call_id=call.call_id,
        call_started_at=call.call_started_at,
        channels=call.channels,
        roles=call.roles,
        topic_id=key.topic_id,
        partition=key.partition,
        state=state_of(call),
        product=call.product,
        close_reason=call.closed,
        received=tuple((first, last) for first, last in call.received),
        last_seq=call.highest_seq if call.received else None,
        duration_ms=call.duration_ms,
        gap_ms=call.gap_ms,
        late_chunks=(known.late_chunks if known else 0) + draft.late_chunks,
        paused=call.paused,
        metadata=draft.metadata or (known.metadata if known else {}),
        trace_id=trace_id_of(call.traceparent),
    )
