"""Ids that come from content alone, so that a repeat gives the same id; and trace ids."""

from __future__ import annotations

import hashlib
import json
import re
from uuid import UUID, uuid5

from stream.records import Record

__all__ = ["NAMESPACE", "is_traceparent", "make_traceparent", "trace_id", "trace_id_of", "utterance_id"]

NAMESPACE = UUID("5c1a6f0e-3a52-5b0e-9d0b-6b1f6f2f8a11")  # fixed for ever: every id in the database hangs on it

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")


def utterance_id(call_id: str, channel: int, start_sample: int, cut_version: str) -> UUID:
    """The id of the utterance that `cut_version` starts at `start_sample` (at the channel's rate) of `channel`."""
    return uuid5(
        NAMESPACE, json.dumps(["utterance", call_id, channel, start_sample, cut_version], separators=(",", ":"))
    )


def is_traceparent(text: str) -> bool:
    """Whether `text` is a W3C traceparent of version 00."""
    return _TRACEPARENT.fullmatch(text) is not None


def make_traceparent(trace: str) -> str:
    """A sampled traceparent for a trace id of 32 hex digits; the span is derived, so that repeats are equal."""
    span = hashlib.sha256(trace.encode("ascii")).hexdigest()[:16]
    return f"00-{trace}-{span}-01"


def trace_id_of(traceparent: str | None) -> str | None:
    """The 32 hex digits of a valid traceparent, else None."""
    match = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
    return match.group(1) if match else None


def trace_id(record: Record) -> str:
    """The trace id of a record: that of its traceparent, else one derived from topic, partition and offset."""
    for name, raw in reversed(record.headers):
        if name == "traceparent":
            found = trace_id_of(raw.decode("ascii", "replace"))
            if found is not None:
                return found
            break
    place = f"{record.topic}/{record.partition}/{record.offset}"
    return hashlib.sha256(place.encode()).hexdigest()[:32]
