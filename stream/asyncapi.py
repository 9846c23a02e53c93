"""`python -m stream.asyncapi` writes docs/asyncapi.yaml and docs/schemas/ from the types; a test holds them equal."""

from __future__ import annotations

import base64
import json
import sys
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from stream import cloudevents
from stream.calls import AudioChunk
from stream.examples import EXAMPLES, ExampleEvent
from stream.headerdocs import HEADERS, header_schema
from stream.limits import MAX_ID_BYTES, MAX_VALUE_BYTES
from stream.schemas import PAYLOADS, json_schema
from stream.topics import Topics, TopicSpec
from stream.utterances import Utterance

__all__ = ["document", "files"]

_BINDING = "0.5.0"
_BARE = "The example shows the bytes in base64; on the wire they are bare."

# Channel name -> topic, what Earful does with it, and one line.
_CHANNELS: dict[str, tuple[str, str, str]] = {
    "callsAudio": ("calls_audio", "receive", "Audio of calls, and their start, pauses and end, in one order."),
    "reviewsSubmitted": ("reviews_submitted", "receive", "Reviews, their edits and their deletions."),
    "callsUtterances": ("calls_utterances", "send", "Internal: utterances cut from calls; kept for replays."),
    "callsTranscribed": ("calls_transcribed", "send", "Internal: calls of which every utterance is done in a run."),
    "insights": ("insights", "send", "Results as they reached Postgres, at least once."),
}


def document() -> dict[str, Any]:
    """The AsyncAPI 3.0 document: Earful as the application that receives audio and reviews."""
    topics = Topics()
    specs = {spec.name: spec for spec in topics.specs()}
    messages: dict[str, Any] = {}
    members: dict[str, list[str]] = {spec: [] for spec in specs}
    for event in EXAMPLES:
        messages[_message_name(event)] = _message(event, topics)
        members[event.to_message(topics).topic].append(_message_name(event))
    channels, operations = {}, {}
    for name, (attribute, action, summary) in _CHANNELS.items():
        spec = specs[getattr(topics, attribute)]
        channels[name] = _channel(spec, summary, members[spec.name])
        operations[f"{action}{name[0].upper()}{name[1:]}"] = {
            "action": action,
            "channel": {"$ref": f"#/channels/{name}"},
            "summary": summary,
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Earful",
            "version": "1.0.0",
            "description": (
                "Call audio and reviews in, insights out. docs/events.md tells it in words. A deployment may put a "
                "prefix before every topic. Consumers ignore unknown fields and headers; another major version in "
                "ce_type is a dead letter in <topic>.dlt. Producers use the murmur2 partitioner (librdkafka: "
                "partitioner=murmur2_random)."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": cloudevents.JSON,
        "servers": {
            "local": {
                "host": "localhost:9092",
                "protocol": "kafka",
                "description": "Kafka 2.8 or later; 4.3 is tested.",
            }
        },
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    }


def files(docs: Path) -> dict[Path, str]:
    """Path and content of every generated file below `docs`."""
    found = {docs / "asyncapi.yaml": _yaml(document())}
    for name in PAYLOADS:
        path = docs / "schemas" / f"{cloudevents.event_type(name)}.json"
        found[path] = json.dumps(json_schema(name), indent=2, ensure_ascii=False) + "\n"
    return found


def _channel(spec: TopicSpec, summary: str, members: list[str]) -> dict[str, Any]:
    return {
        "address": spec.name,
        "description": summary,
        "messages": {member: {"$ref": f"#/components/messages/{member}"} for member in members},
        "bindings": {
            "kafka": {
                "topic": spec.name,
                "partitions": spec.partitions,
                "topicConfiguration": {
                    "cleanup.policy": [spec.config["cleanup.policy"]],
                    "retention.ms": spec.retention_ms,
                },
                "bindingVersion": _BINDING,
            }
        },
    }


def _message(event: ExampleEvent, topics: Topics) -> dict[str, Any]:
    sample = event.to_message(topics, source="/acme/telephony")
    headers = {name: value.decode() for name, value in sample.headers}
    required = [name for name in headers if HEADERS[name].required]
    doc = " ".join((type(event).__doc__ or "").split())
    return {
        "name": cloudevents.event_type(event.name),
        "title": type(event).__name__,
        "summary": doc,
        "contentType": headers["content-type"],
        "headers": {
            "type": "object",
            "required": required,
            "properties": {name: header_schema(name, event.name) for name in _header_names(event, headers)},
        },
        "payload": _payload(event),
        "bindings": {"kafka": {"key": _key(event), "bindingVersion": _BINDING}},
        "examples": [{"name": "example", "headers": headers, **_example_payload(event, sample.value)}],
    }


def _header_names(event: ExampleEvent, present: dict[str, str]) -> list[str]:
    """Those of the example, and the optional ones that any event may carry."""
    return [*present, *(name for name in ("ce_time", "traceparent") if name not in present)]


def _payload(event: ExampleEvent) -> dict[str, Any]:
    if event.name in PAYLOADS:
        return {"$ref": f"./schemas/{cloudevents.event_type(event.name)}.json"}
    if isinstance(event, AudioChunk | Utterance):
        kind = "Bare bytes of the codec" if isinstance(event, AudioChunk) else "One complete FLAC, mono"
        return {
            "type": "string",
            "format": "binary",
            "maxLength": MAX_VALUE_BYTES,
            "description": f"{kind}. {_BARE}",
        }
    return {"type": "null", "description": "No value at all: a tombstone."}


def _example_payload(event: ExampleEvent, value: bytes | None) -> dict[str, Any]:
    if value is None:
        return {}
    if event.name in PAYLOADS:
        return {"payload": json.loads(value)}
    return {"summary": _BARE, "payload": base64.b64encode(value).decode()}


def _key(event: ExampleEvent) -> dict[str, Any]:
    name = next(name for name in ("call_id", "review_id", "subject_id") if hasattr(event, name))
    return {
        "type": "string",
        "minLength": 1,
        "maxLength": MAX_ID_BYTES,
        "description": f"{name}: printable UTF-8, at most {MAX_ID_BYTES} bytes.",
        "examples": [getattr(event, name)],
    }


def _message_name(event: ExampleEvent) -> str:
    name = type(event).__name__
    return name[0].lower() + name[1:]


def _yaml(content: dict[str, Any]) -> str:
    head = "# Generated by `python -m stream.asyncapi`; change the types in stream/, not this file.\n"
    copies = json.loads(json.dumps(content))  # nothing is shared, so that YAML needs no anchors
    return head + str(yaml.safe_dump(copies, sort_keys=False, allow_unicode=True, width=120))


def main() -> None:
    docs = Path(__file__).parent.parent / "docs"
    for path, content in files(docs).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        sys.stdout.write(f"{path.relative_to(docs.parent)}\n")


if __name__ == "__main__":
    main()
