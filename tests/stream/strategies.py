"""Hypothesis strategies for everything a producer may send."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import strategies as st

from stream.events import (
    AudioChunk,
    CallClosed,
    CallEnded,
    CallPaused,
    CallResumed,
    CallStarted,
    CallTimedOut,
    CallTranscribed,
    Insight,
    Review,
    ReviewDeleted,
    Utterance,
)
from stream.limits import MAX_OFFSET_MS, MAX_SEQ, MAX_VERSION, RATES
from stream.records import Message, Record

__all__ = ["EVENTS", "as_record", "ids", "instants"]


def as_record(message: Message) -> Record:
    """What a consumer gets of a message."""
    return Record(
        topic=message.topic,
        partition=3,
        offset=17,
        timestamp_ms=1_700_000_000_000,
        key=message.key,
        value=message.value,
        headers=message.headers,
    )


_printable = st.characters(exclude_categories=["C", "Z"])
ids = st.text(_printable, min_size=1, max_size=200).filter(lambda s: s.isprintable() and len(s.encode()) <= 200)
_offsets = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
instants = st.datetimes(
    min_value=datetime(2000, 1, 2),  # noqa: DTZ001 - hypothesis adds the zone
    max_value=datetime(2099, 12, 30),  # noqa: DTZ001
    timezones=_offsets | st.just(UTC),
)
_texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=200)
_traces = st.none() | st.integers(1, 2**128 - 1).map(lambda n: f"00-{n:032x}-00f067aa0ba902b7-01")
_roles = st.sampled_from(["customer", "agent", "unknown"])
_ms = st.integers(0, MAX_OFFSET_MS)
_seqs = st.integers(0, MAX_SEQ)
_layouts = st.integers(1, 2).flatmap(
    lambda n: st.fixed_dictionaries({"channels": st.just(n), "roles": st.tuples(*[_roles] * n)})
)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_texts, inner, max_size=3),
    max_leaves=6,
)


def _of(
    event: type[Any], base: dict[str, Any], layout: st.SearchStrategy[dict[str, Any]] | None = None, **fields: Any
) -> st.SearchStrategy[Any]:
    rest = st.fixed_dictionaries({**base, **fields})
    return st.builds(lambda a, b: event(**a, **b), rest, st.just({}) if layout is None else layout)


_call = {"call_id": ids, "call_started_at": instants, "traceparent": _traces}
_review = {"review_id": ids, "version": st.none() | st.integers(0, MAX_VERSION), "traceparent": _traces}

EVENTS: dict[str, st.SearchStrategy[Any]] = {
    "AudioChunk": _of(
        AudioChunk,
        _call,
        _layouts,
        codec=st.sampled_from(["pcmu", "pcma", "l16", "wav", "flac"]),
        rate=st.sampled_from(RATES),
        seq=_seqs,
        offset_ms=_ms,
        duration_ms=st.integers(20, 5_000),
        value=st.binary(min_size=1, max_size=500),
    ),
    "CallStarted": _of(
        CallStarted, _call, _layouts, product=st.none() | _texts, metadata=st.dictionaries(_texts, _texts, max_size=5)
    ),
    "CallPaused": _of(CallPaused, _call, offset_ms=st.none() | _ms),
    "CallResumed": _of(CallResumed, _call, offset_ms=st.none() | _ms),
    "CallEnded": _of(CallEnded, _call, last_seq=st.just(-1) | _seqs, reason=_texts, offset_ms=st.none() | _ms),
    "CallTimedOut": _of(CallTimedOut, _call, last_seen_seq=st.just(-1) | _seqs),
    "Utterance": st.builds(
        lambda fields, start, length: Utterance(**fields, start_ms=start, end_ms=start + length),
        st.fixed_dictionaries(
            {
                **_call,
                "utterance_id": st.uuids(),
                "channel": st.integers(0, 1),
                "role": _roles,
                "rate": st.sampled_from(RATES),
                "flac": st.binary(min_size=1, max_size=500),
                "cut_version": _texts,
                "product": st.none() | _texts,
            }
        ),
        st.integers(0, MAX_OFFSET_MS - 30_000),
        st.integers(1, 30_000),
    ),
    "CallClosed": _of(
        CallClosed,
        _call,
        utterance_ids=st.lists(st.uuids(), max_size=5).map(tuple),
        gap_ms=_ms,
        duration_ms=_ms,
        reason=st.sampled_from(["ended", "timed_out"]),
        product=st.none() | _texts,
    ),
    "CallTranscribed": _of(
        CallTranscribed, _call, run_id=st.uuids(), state=st.sampled_from(["transcribed", "no_speech"])
    ),
    "Review": _of(
        Review,
        _review,
        product=_texts,
        text=st.text(
            st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), min_size=1, max_size=500
        ).filter(lambda text: bool(text.strip())),
        created_at=instants,
        rating=st.none() | st.floats(0, 100),
        author=st.none() | _texts,
        language=st.none() | st.sampled_from(["en", "de-AT", "zh-Hant-TW"]),
    ),
    "ReviewDeleted": _of(ReviewDeleted, _review),
    "Insight": _of(
        Insight,
        {"traceparent": _traces},
        subject_id=ids,
        kind=st.sampled_from(["call", "review"]),
        run_id=st.uuids(),
        body=st.dictionaries(_texts, _json, max_size=3),
    ),
}
