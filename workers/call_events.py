"""What one event does to its call: audio is put in its place, a pause noted, an end made."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np

from errors import Permanent
from store.ledger import VerdictKind
from stream.events import AudioChunk, AudioEvent, CallEnded, CallPaused, CallResumed, CallStarted, CallTimedOut
from workers.assembly import admit
from workers.cutting import Draft, begin_channels

__all__ = ["CallEvents", "Verdict"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]
Verdict = tuple[VerdictKind, str | None]


class CallEvents:
    """`decode` makes samples of a chunk; a missing one is waited for until `reorder_chunks` later ones came."""

    def __init__(self, decode: Callable[[AudioChunk], Awaitable[Pcm]], reorder_chunks: int) -> None:
        self._decode = decode
        self._reorder_chunks = reorder_chunks

    async def apply(self, draft: Draft, event: AudioEvent, replayed: bool) -> Verdict:
        """The event's verdict; what it changes is in the draft. Raises Permanent for a record to be buried."""
        call = draft.call
        if isinstance(event, AudioChunk):
            return await self._chunk(draft, event, replayed)
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

    async def _chunk(self, draft: Draft, event: AudioChunk, replayed: bool) -> Verdict:
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
            if verdict[0] == "duplicate" and replayed:
                verdict = ("late", None)  # its place was given up when it was buried
            if verdict[0] == "late":
                draft.late_chunks += 1
                draft.late_ms += event.duration_ms
            return verdict
        if not call.channel_states:
            begin_channels(draft, 0)
        try:
            pcm = await self._decode(event)
        except Permanent:
            draft.stretches += call.add(event.seq, event.offset_ms, None, self._reorder_chunks)
            raise
        finally:
            call.chunk_ms = event.duration_ms
        draft.stretches += call.add(event.seq, event.offset_ms, pcm, self._reorder_chunks)
        return ("consumed", None)
