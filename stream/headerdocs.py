"""What each header means, for the documents; a test holds it against what the events write."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from stream import cloudevents
from stream.limits import (
    CODECS,
    MAX_CHANNELS,
    MAX_CHUNK_MS,
    MAX_OFFSET_MS,
    MAX_SEQ,
    MAX_UTTERANCE_MS,
    MIN_CHUNK_MS,
    RATES,
)

__all__ = ["HEADERS", "HeaderDoc", "header_schema"]


@dataclass(frozen=True, slots=True)
class HeaderDoc:
    """One header: its meaning, whether a record is refused without it, and the JSON Schema of its text."""

    meaning: str
    required: bool
    schema: Mapping[str, Any]


_NUMBER = {"pattern": "^-?[0-9]{1,19}$"}
_TIME = {"format": "date-time"}
_ROLES = ("customer", "agent", "unknown")

HEADERS: Mapping[str, HeaderDoc] = MappingProxyType(
    {
        "ce_specversion": HeaderDoc("CloudEvents version, 1.x.", False, {"pattern": r"^1\."}),
        "ce_id": HeaderDoc("Names the event among those of its source; a repeat has the same.", False, {}),
        "ce_source": HeaderDoc("Who sent it, a URI reference.", False, {}),
        "ce_type": HeaderDoc("Which event this is, with its major version.", True, {}),
        "ce_subject": HeaderDoc("The record's key once more.", False, {}),
        "ce_time": HeaderDoc("When it happened, RFC 3339.", False, _TIME),
        "content-type": HeaderDoc("Of the value.", False, {}),
        "traceparent": HeaderDoc(
            "W3C trace context; the trace id goes into every row. A broken one is ignored.",
            False,
            {"pattern": "^00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}$"},
        ),
        "call_started_at": HeaderDoc(
            "Start of the call, RFC 3339 with offset, 2000 to 2099. Equal on every record of the call.", True, _TIME
        ),
        "codec": HeaderDoc("Of the value; l16 is little endian.", True, {"enum": list(CODECS)}),
        "rate": HeaderDoc("Samples a second.", True, {"enum": [str(rate) for rate in RATES]}),
        "channels": HeaderDoc(f"1 to {MAX_CHANNELS}, interleaved.", True, {"enum": ["1", "2"]}),
        "channel_roles": HeaderDoc(
            f"Who speaks on each channel, comma separated: {', '.join(_ROLES)}. Absent: unknown.",
            False,
            {"pattern": "^(customer|agent|unknown)(,(customer|agent|unknown))?$"},
        ),
        "seq": HeaderDoc(f"Counts the call's chunks from 0 without gaps, to {MAX_SEQ}.", True, _NUMBER),
        "offset_ms": HeaderDoc(f"Place of the chunk in the call, to {MAX_OFFSET_MS}.", True, _NUMBER),
        "duration_ms": HeaderDoc(f"Length of the chunk, {MIN_CHUNK_MS} to {MAX_CHUNK_MS}.", True, _NUMBER),
        "utterance_id": HeaderDoc("UUID from call, channel, start and cut version.", True, {"format": "uuid"}),
        "channel": HeaderDoc("0 or 1.", True, {"enum": ["0", "1"]}),
        "role": HeaderDoc("Who speaks.", True, {"enum": list(_ROLES)}),
        "start_ms": HeaderDoc("From the start of the call.", True, _NUMBER),
        "end_ms": HeaderDoc(f"From the start of the call; at most {MAX_UTTERANCE_MS} after start_ms.", True, _NUMBER),
        "cut_version": HeaderDoc("Which rules cut the utterance.", True, {}),
        "product": HeaderDoc("What the call is about.", False, {}),
        "version": HeaderDoc("Version of the review; the JSON's, if both are there.", False, _NUMBER),
    }
)


def header_schema(name: str, event: str) -> dict[str, Any]:
    """The JSON Schema of a header's text in the event `event`."""
    doc = HEADERS[name]
    exact = {"const": cloudevents.event_type(event)} if name == "ce_type" else {}
    return {"type": "string", "description": doc.meaning, **doc.schema, **exact}
