"""Segmenter: call audio in, utterances out.

Chunks are put in order (workers.assembly), undecodable ones buried, speech is found and cut (speech.segment), and each utterance
is produced to `calls.utterances.v1` before the transaction: its id comes from its content, so a repeat is the same utterance.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from errors import Permanent
from speech.segment import ChannelInput, ChannelState, Cut, Segmenter
from store import calls, segmenter
from store.calls import Call, CallState
from store.ledger import LedgerKey
from stream.audio import encode_flac
from stream.events import (
    AudioChunk,
    CallClosed,
    CallEnded,
    CallPaused,
    CallResumed,
    CallStarted,
    CallTimedOut,
    Utterance,
    parse_audio,
    utterance_id,
)
from stream.records import Message, Record
from stream.topics import Topics
from workers.assembly import Assembly, Stretch, admit
from workers.deadline import Deadline
from workers.stage import Batch, Work

__all__ = ["SegmenterStage"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]
Event = AudioChunk | CallStarted | CallPaused | CallResumed | CallEnded | CallTimedOut

#: Closed calls are looked up in Postgres for late chunks; the last ones are remembered here, about 1 kB each.
REMEMBERED_CALLS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """An open call as Postgres has it: state bytes, and per channel the audio that may still be cut (start sample, pcm)."""

    state: bytes
    audio: tuple[tuple[int, Pcm], ...]


@dataclass(slots=True, kw_only=True)
class Draft:
    """A call while a batch is worked on; thrown away when the batch fails."""

    call: Assembly
    audio: list[tuple[int, Pcm]]
    stretches: list[Stretch] = field(default_factory=list)
    appended: list[tuple[int, int, Pcm]] = field(default_factory=list)  # channel, start sample, pcm
    touched: bool = False
    late_chunks: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Plan:
    drafts: dict[str, Draft]
    rows: list[Call]


class SegmenterStage:
    """The stage of `calls.audio.v1`. Its run is the cut version: old calls are not cut again."""

    name = "segmenter"

    def __init__(
        self,
        *,
        topics: Topics,
        run_id: UUID,
        cut_version: str,
        vad: Segmenter,
        engine: AsyncEngine,
        produce: Callable[[Sequence[Message]], Awaitable[None]],
        decode: Callable[[AudioChunk], Awaitable[Pcm]],
        reorder_chunks: int,
        month_bounds: Callable[[], tuple[datetime, datetime]],
    ) -> None:
        self.topic = topics.calls_audio
        self.run_id = run_id
        self._topics = topics
        self._cut_version = cut_version
        self._vad = vad
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
        work: Work[Plan] = Work(plan=Plan(drafts={}, rows=[]))
        events = parse_all(batch, work)
        rows = await self._rows({event.call_id for _, event in events})
        for record, event in events:
            try:
                work.verdicts[record.offset] = await self._take(batch, work, rows, event)
            except Permanent as err:
                work.bury(batch, record, err, event.call_id)
        messages = await asyncio.to_thread(self._cut, work.plan)
        deadline.check()
        await self._produce(messages)
        work.plan.rows = list(rows_of(batch.key, work.plan.drafts, rows))
        return work

    async def write(self, connection: AsyncConnection, batch: Batch, work: Work[Plan]) -> None:
        drafts = work.plan.drafts
        await calls.upsert_many(connection, work.plan.rows)
        live = {call_id: draft for call_id, draft in drafts.items() if not draft.call.closed}
        await segmenter.save(
            connection,
            batch.key.topic_id,
            batch.key.partition,
            states=[(call_id, draft.call.to_bytes()) for call_id, draft in live.items()],
            appended=[
                (call_id, channel, start, pcm.tobytes())
                for call_id, draft in live.items()
                for channel, start, pcm in draft.appended
            ],
            trimmed=[
                (call_id, channel, start) for call_id, draft in live.items() for channel, (start, _) in enumerate(draft.audio)
            ],
            closed=[call_id for call_id, draft in drafts.items() if draft.call.closed],
        )

    def committed(self, batch: Batch, work: Work[Plan]) -> None:
        held = self._open.setdefault(batch.key.partition, {})
        for call_id, draft in work.plan.drafts.items():
            if draft.call.closed:
                held.pop(call_id, None)
            else:
                held[call_id] = Held(state=draft.call.to_bytes(), audio=tuple(draft.audio))
        for row in work.plan.rows:
            self._known[row.call_id] = row
            self._known.move_to_end(row.call_id)
        while len(self._known) > REMEMBERED_CALLS:
            self._known.popitem(last=False)

    async def _rows(self, call_ids: set[str]) -> dict[str, Call]:
        """Calls that were seen before, open or closed."""
        unknown = [call_id for call_id in call_ids if call_id not in self._known]
        found = {call_id: self._known[call_id] for call_id in call_ids if call_id in self._known}
        if unknown:
            async with self._engine.connect() as connection:
                found |= await calls.get_many(connection, unknown)
        return found

    async def _take(
        self, batch: Batch, work: Work[Plan], rows: Mapping[str, Call], event: Event
    ) -> tuple[str, str | None]:
        """One event into its call's draft. Returns its verdict; raises Permanent for a dead letter."""
        row = rows.get(event.call_id)
        started_at = event.call_started_at
        if row is not None:
            if row.partition != batch.key.partition:
                raise Permanent("wrong_partition", "another partition has this call: produce with the murmur2 partitioner")
            if row.call_started_at != started_at:
                raise Permanent("call_id_reused", "call_started_at differs from the call's first record")
        else:
            first, end = self._month_bounds()
            if not first <= started_at < end:
                raise Permanent("out_of_range", f"call_started_at must lie in {first:%Y-%m} .. before {end:%Y-%m}")
        draft = work.plan.drafts.get(event.call_id) or self._draft(batch.key.partition, event, row)
        if draft is None:  # the call is over
            if isinstance(event, AudioChunk):
                return ("late", None)
            return ("control", None)
        work.plan.drafts[event.call_id] = draft
        draft.touched = True
        call = draft.call
        if isinstance(event, AudioChunk):
            return await self._chunk(draft, event)
        if isinstance(event, CallStarted):
            call.product = call.product or event.product
        elif isinstance(event, CallPaused):
            call.paused = call.held = True
        elif isinstance(event, CallResumed):
            call.paused = False
        elif isinstance(event, CallEnded) and not call.closed:
            draft.stretches += call.close("ended", event.last_seq)
        elif isinstance(event, CallTimedOut) and not call.closed and call.highest_seq <= event.last_seen_seq:
            draft.stretches += call.close("timed_out", None)
        return ("control", None)

    async def _chunk(self, draft: Draft, event: AudioChunk) -> tuple[str, str | None]:
        call = draft.call
        if not call.received and not call.closed:
            # The first chunk settles the layout that call.started, which is optional, may have left open.
            call.channels, call.roles, call.rate = event.channels, tuple(event.roles), event.rate
            draft.audio = [(0, np.zeros(0, np.int16)) for _ in range(event.channels)]
            call.channel_states = [ChannelState.new(event.rate).to_bytes() for _ in range(event.channels)]
            call.origins = [0] * event.channels
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
        try:
            pcm = await self._decode(event)
        except Permanent:
            draft.stretches += call.add(event.seq, event.offset_ms, None, self._reorder_chunks)
            raise
        draft.stretches += call.add(event.seq, event.offset_ms, pcm, self._reorder_chunks)
        return ("consumed", None)

    def _draft(self, partition: int, event: Event, row: Call | None) -> Draft | None:
        held = self._open.get(partition, {}).get(event.call_id)
        if held is not None:
            return Draft(call=Assembly.from_bytes(held.state), audio=list(held.audio))
        if row is not None:
            return None
        return Draft(
            call=Assembly(
                call_id=event.call_id,
                call_started_at=event.call_started_at,
                channels=0,
                roles=(),
                rate=8_000,
                product=getattr(event, "product", None),
                traceparent=event.traceparent,
            ),
            audio=[],
        )

    def _cut(self, plan: Plan) -> list[Message]:
        """Find and cut the speech of all drafts, their channels side by side; returns what is to be produced."""
        messages: list[Message] = []
        queues = {call_id: merged(draft.stretches) for call_id, draft in plan.drafts.items()}
        while any(queues.values()):
            turn = [(plan.drafts[call_id], queue.pop(0)) for call_id, queue in queues.items() if queue]
            self._advance(turn, messages)
        return messages

    def _advance(self, turn: Sequence[tuple[Draft, Stretch]], messages: list[Message]) -> None:
        inputs: list[ChannelInput] = []
        for draft, stretch in turn:
            for channel in range(draft.call.channels):
                samples = np.ascontiguousarray(stretch.pcm[:, channel])
                state = ChannelState.from_bytes(draft.call.channel_states[channel])
                inputs.append(ChannelInput(state=state, samples=samples))
                start, audio = draft.audio[channel]
                draft.audio[channel] = (start, np.concatenate([audio, samples]))
                if len(samples):
                    draft.appended.append((channel, stretch.start, samples))
        found = self._vad.advance(inputs)
        place = 0
        for draft, stretch in turn:
            call = draft.call
            cuts: list[tuple[int, Cut]] = []
            for channel in range(call.channels):
                state, mine = inputs[place].state, found[place]
                place += 1
                if stretch.breaks != "no":
                    mine = [*mine, *self._vad.flush(state)]
                cuts += [(channel, shifted(cut, call.origins[channel])) for cut in mine]
                call.channel_states[channel] = state.to_bytes()
            messages += self._utterances(draft, cuts)
            self._trim(draft, [one.state for one in inputs[place - call.channels : place]], stretch)
            if stretch.breaks == "close":
                messages.append(closed_message(call, self._topics))

    def _utterances(self, draft: Draft, cuts: list[tuple[int, Cut]]) -> list[Message]:
        """The same audio on both channels is one speaker: kept once, with the role unknown."""
        call = draft.call
        out: list[Message] = []
        twins = {(cut.start_sample, cut.end_sample) for channel, cut in cuts if channel == 1}
        copied = {
            (cut.start_sample, cut.end_sample)
            for channel, cut in cuts
            if channel == 0
            and (cut.start_sample, cut.end_sample) in twins
            and np.array_equal(audio_of(draft, 0, cut), audio_of(draft, 1, cut))
        }
        for channel, cut in sorted(cuts, key=lambda pair: (pair[1].start_sample, pair[0])):
            same = (cut.start_sample, cut.end_sample) in copied
            if same and channel == 1:
                continue
            identity = utterance_id(call.call_id, channel, cut.start_sample, self._cut_version)
            call.utterance_ids.append(str(identity))
            out.append(
                Utterance(
                    utterance_id=identity,
                    call_id=call.call_id,
                    call_started_at=call.call_started_at,
                    channel=channel,
                    role="unknown" if same else call.roles[channel],
                    start_ms=cut.start_sample * 1000 // call.rate,
                    end_ms=-(-cut.end_sample * 1000 // call.rate),
                    rate=call.rate,
                    flac=encode_flac(audio_of(draft, channel, cut), call.rate),
                    cut_version=self._cut_version,
                    product=call.product,
                    traceparent=call.traceparent,
                ).to_message(self._topics)
            )
        return out

    def _trim(self, draft: Draft, states: Sequence[ChannelState], stretch: Stretch) -> None:
        """Forget audio that can never be cut; after a break the detector begins anew at the next sample."""
        call = draft.call
        end = stretch.start + len(stretch.pcm)
        for channel, state in enumerate(states):
            start, audio = draft.audio[channel]
            if stretch.breaks == "no":
                keep = min(call.origins[channel] + state.keep_from, end)
                draft.audio[channel] = (keep, audio[keep - start :])
            else:
                call.channel_states[channel] = ChannelState.new(call.rate).to_bytes()
                call.origins[channel] = call.position
                draft.audio[channel] = (call.position, np.zeros(0, np.int16))


def restored(saved: segmenter.SavedCall) -> Held:
    call = Assembly.from_bytes(saved.state)
    audio: list[tuple[int, Pcm]] = []
    for channel in range(call.channels):
        parts = sorted((one for one in saved.audio if one.channel == channel), key=lambda one: one.start_sample)
        start = parts[0].start_sample if parts else call.position
        pcm = [np.frombuffer(part.pcm, np.int16) for part in parts]
        audio.append((start, np.concatenate(pcm) if pcm else np.zeros(0, np.int16)))
    return Held(state=saved.state, audio=tuple(audio))


def parse_all(batch: Batch, work: Work[Plan]) -> list[tuple[Record, Event]]:
    events: list[tuple[Record, Event]] = []
    for record in batch.records:
        try:
            events.append((record, parse_audio(record)))
        except Permanent as err:
            work.bury(batch, record, err)
    return events


def merged(stretches: list[Stretch]) -> list[Stretch]:
    """Stretches of several chunks in one batch, joined where nothing lies between them."""
    from workers.assembly import merge

    return merge(stretches)


def shifted(cut: Cut, origin: int) -> Cut:
    return Cut(start_sample=cut.start_sample + origin, end_sample=cut.end_sample + origin)


def audio_of(draft: Draft, channel: int, cut: Cut) -> Pcm:
    start, audio = draft.audio[channel]
    return audio[cut.start_sample - start : cut.end_sample - start]


def closed_message(call: Assembly, topics: Topics) -> Message:
    assert call.closed is not None
    return CallClosed(
        call_id=call.call_id,
        call_started_at=call.call_started_at,
        utterance_ids=tuple(UUID(one) for one in call.utterance_ids),
        gap_ms=call.gap_ms,
        duration_ms=call.duration_ms,
        reason=call.closed,
        product=call.product,
        traceparent=call.traceparent,
    ).to_message(topics)


def rows_of(key: LedgerKey, drafts: Mapping[str, Draft], rows: Mapping[str, Call]) -> list[Call]:
    """The calls' rows after this batch; a late chunk of a closed call only counts up."""
    out: list[Call] = []
    for call_id, draft in drafts.items():
        call = draft.call
        state: CallState = call.closed or ("streaming" if call.received else "started")
        known = rows.get(call_id)
        out.append(
            Call(
                call_id=call_id,
                call_started_at=call.call_started_at,
                channels=call.channels,
                roles=call.roles,
                topic_id=key.topic_id,
                partition=key.partition,
                state=state,
                product=call.product,
                close_reason=call.closed,
                received=tuple((first, last) for first, last in call.received),
                last_seq=call.highest_seq if call.received else None,
                duration_ms=call.duration_ms,
                gap_ms=call.gap_ms,
                late_chunks=(known.late_chunks if known else 0) + draft.late_chunks,
                paused=call.paused,
                metadata=draft.metadata,
                trace_id=trace_id_of(call.traceparent),
            )
        )
    return out
