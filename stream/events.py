"""Every event of Earful's topics, and the pure functions that read them from a Kafka record."""

from __future__ import annotations

from stream.calls import (
    AudioChunk,
    AudioEvent,
    CallEnded,
    CallPaused,
    CallResumed,
    CallStarted,
    CallTimedOut,
    parse_audio,
)
from stream.fields import Codec, Role
from stream.ids import make_traceparent, trace_id, utterance_id
from stream.insights import Insight, parse_insight
from stream.records import Message, Record
from stream.reviews import Review, ReviewDeleted, parse_review
from stream.topics import Topics
from stream.utterances import CallClosed, CallTranscribed, Utterance, parse_transcribed, parse_utterances

__all__ = [
    "AudioChunk",
    "AudioEvent",
    "CallClosed",
    "CallEnded",
    "CallPaused",
    "CallResumed",
    "CallStarted",
    "CallTimedOut",
    "CallTranscribed",
    "Codec",
    "Insight",
    "Message",
    "Record",
    "Review",
    "ReviewDeleted",
    "Role",
    "Topics",
    "Utterance",
    "make_traceparent",
    "parse_audio",
    "parse_insight",
    "parse_review",
    "parse_transcribed",
    "parse_utterances",
    "trace_id",
    "utterance_id",
]
