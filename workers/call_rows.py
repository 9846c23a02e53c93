"""A call under way, to and from its row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from store.calls import AudioState, Call
from store.ledger import LedgerKey
from stream.events import AudioChunk, AudioEvent, CallStarted, make_traceparent, trace_id
from stream.ids import trace_id_of
from stream.records import Record
from workers.assembly import Assembly
from workers.cutting import Draft

__all__ = ["begin_row", "begun", "row_of"]


def begun(event: AudioEvent, record: Record, row: Call | None) -> Draft:
    """A call of which nothing is kept. Its row settles the layout, else its first record; call.ended alone says nothing."""
    channels, roles = (
        (event.channels, event.roles) if isinstance(event, AudioChunk | CallStarted) else (1, ("unknown",))
    )
    call = Assembly(
        call_id=event.call_id,
        call_started_at=event.call_started_at,
        channels=row.channels if row else channels,
        roles=row.roles if row else roles,  # type: ignore[arg-type]
        rate=event.rate if isinstance(event, AudioChunk) else 8_000,
        product=event.product if isinstance(event, CallStarted) else None,
        traceparent=event.traceparent or make_traceparent(trace_id(record)),
    )
    return Draft(call=call, audio=[])


def state_of(call: Assembly) -> AudioState:
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
        late_ms=(known.late_ms if known else 0) + draft.late_ms,
        paused=call.paused,
        metadata=draft.metadata or (known.metadata if known else {}),
        trace_id=trace_id_of(call.traceparent),
    )


def begin_row(row: Call) -> Call:
    """The row as it is before any chunk counts."""
    nothing = {"last_seq": None, "duration_ms": 0, "gap_ms": 0, "late_chunks": 0, "late_ms": 0}
    return replace(row, state="started", close_reason=None, received=(), **nothing)  # type: ignore[arg-type]
