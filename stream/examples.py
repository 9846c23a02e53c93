"""One example of every event, as the documents show them; a test parses each."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID

from stream.calls import AudioChunk, CallEnded, CallPaused, CallResumed, CallStarted, CallTimedOut
from stream.g711 import ULAW_SILENCE
from stream.ids import make_traceparent, utterance_id
from stream.insights import Insight
from stream.reviews import Review, ReviewDeleted
from stream.utterances import CallClosed, CallTranscribed, Utterance

__all__ = ["EXAMPLES", "ExampleEvent"]

ExampleEvent = (
    AudioChunk
    | CallStarted
    | CallPaused
    | CallResumed
    | CallEnded
    | CallTimedOut
    | Utterance
    | CallClosed
    | CallTranscribed
    | Review
    | ReviewDeleted
    | Insight
)

_CALL = "c-2026-05-01-0017"
_STARTED = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
_TRACE = make_traceparent("4bf92f3577b34da6a3ce929d0e0e4736")
_RUN = UUID("0d9b3b0c-6f0b-5d3e-9a86-7d3b6f3f2c11")
_UTTERANCE = utterance_id(_CALL, 0, 8_000, "cut-1")

# libsndfile's FLAC of 20 ms of silence at 8 kHz; bytes, not a call of the encoder, so that no version changes it.
_FLAC = bytes.fromhex(
    "664c6143000000221000100000000c00000c01f400f0000000a004dbc66d8e4559769bb38a92cd6f7d9d84000028200000"
    "007265666572656e6365206c6962464c414320312e342e3320323032333036323300000000fff86408009f37000000412d"
)

EXAMPLES: tuple[ExampleEvent, ...] = (
    AudioChunk(
        call_id=_CALL,
        call_started_at=_STARTED,
        codec="pcmu",
        rate=8_000,
        channels=2,
        roles=("customer", "agent"),
        seq=0,
        offset_ms=0,
        duration_ms=20,
        value=ULAW_SILENCE * 320,
        traceparent=_TRACE,
    ),
    CallStarted(
        call_id=_CALL,
        call_started_at=_STARTED,
        channels=2,
        roles=("customer", "agent"),
        product="kettle-2",
        metadata={"queue": "returns"},
    ),
    CallPaused(call_id=_CALL, call_started_at=_STARTED, offset_ms=61_200),
    CallResumed(call_id=_CALL, call_started_at=_STARTED, offset_ms=94_000),
    CallEnded(call_id=_CALL, call_started_at=_STARTED, last_seq=1_203, offset_ms=273_600),
    CallTimedOut(call_id=_CALL, call_started_at=_STARTED, last_seen_seq=87),
    Utterance(
        call_id=_CALL,
        call_started_at=_STARTED,
        utterance_id=_UTTERANCE,
        channel=0,
        role="customer",
        start_ms=1_000,
        end_ms=1_020,
        rate=8_000,
        flac=_FLAC,
        cut_version="cut-1",
        product="kettle-2",
        traceparent=_TRACE,
    ),
    CallClosed(
        call_id=_CALL,
        call_started_at=_STARTED,
        utterance_ids=(_UTTERANCE,),
        gap_ms=0,
        duration_ms=273_600,
        reason="ended",
        product="kettle-2",
    ),
    CallTranscribed(call_id=_CALL, call_started_at=_STARTED, run_id=_RUN, state="transcribed"),
    Review(
        review_id="r-1001",
        product="kettle-2",
        text="Boils fast, but the lid is flimsy.",
        created_at=_STARTED,
        rating=4,
        author="Sam",
        language="en",
        version=2,
    ),
    ReviewDeleted(review_id="r-1001", version=3),
    Insight(
        subject_id="r-1001",
        kind="review",
        run_id=_RUN,
        body={"aspects": [{"text": "lid", "polarity": "negative", "sentiment": -0.8}]},
    ),
)
