"""JSON Schemas of every JSON payload, from the types that parse them."""

from __future__ import annotations

from typing import Any

from stream import cloudevents
from stream.calls import (
    CallEnded,
    CallEndedData,
    CallMomentData,
    CallPaused,
    CallResumed,
    CallStarted,
    CallStartedData,
    CallTimedOut,
    CallTimedOutData,
)
from stream.fields import Payload
from stream.insights import Insight, InsightData
from stream.reviews import Review, ReviewData
from stream.utterances import CallClosed, CallClosedData, CallTranscribed, CallTranscribedData

__all__ = ["PAYLOADS", "json_schema"]

PAYLOADS: dict[str, type[Payload]] = {
    CallStarted.name: CallStartedData,
    CallPaused.name: CallMomentData,
    CallResumed.name: CallMomentData,
    CallEnded.name: CallEndedData,
    CallTimedOut.name: CallTimedOutData,
    CallClosed.name: CallClosedData,
    CallTranscribed.name: CallTranscribedData,
    Review.name: ReviewData,
    Insight.name: InsightData,
}


def json_schema(name: str) -> dict[str, Any]:
    """The JSON Schema (2020-12) of the event `name`; unknown fields are allowed, as the parsers ignore them."""
    schema = PAYLOADS[name].model_json_schema(mode="validation")
    schema.pop("title", None)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:earful:{cloudevents.event_type(name)}",
        "title": cloudevents.event_type(name),
        **_plain(schema),
    }


def _plain(node: Any) -> Any:
    """Without the titles that pydantic makes of field names, which say nothing new."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if not (key == "title" and isinstance(value, str))}
    return [_plain(item) for item in node] if isinstance(node, list) else node
