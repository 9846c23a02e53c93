"""The committed documents are what the types say, and what they show can be sent."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from errors import Permanent
from stream import asyncapi
from stream.asyncapi import document, files
from stream.events import (
    Record,
    Topics,
    parse_audio,
    parse_insight,
    parse_review,
    parse_transcribed,
    parse_utterances,
)
from stream.examples import EXAMPLES
from stream.headerdocs import HEADERS
from stream.reasons import REASONS
from stream.schemas import PAYLOADS, json_schema
from tests.stream.bad import REVIEWS
from tests.stream.strategies import EVENTS

DOCS = Path(asyncapi.__file__).parent.parent / "docs"
TOPICS = Topics()
PARSERS = {
    "callsAudio": parse_audio,
    "callsUtterances": parse_utterances,
    "callsTranscribed": parse_transcribed,
    "reviewsSubmitted": parse_review,
    "insights": parse_insight,
}


@pytest.fixture(scope="module")
def written() -> Any:
    return yaml.safe_load((DOCS / "asyncapi.yaml").read_text(encoding="utf-8"))


def test_the_committed_files_are_what_the_generator_writes() -> None:
    """If this fails: python -m stream.asyncapi"""
    for path, content in files(DOCS).items():
        assert path.read_text(encoding="utf-8") == content, path.name
    assert set((DOCS / "schemas").iterdir()) == {path for path in files(DOCS) if path.suffix == ".json"}


def test_every_reference_leads_somewhere(written: Any) -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [found for value in node.values() for found in references(value)]
        return [found for item in node for found in references(item)] if isinstance(node, list) else []

    found = references(written)
    assert len(found) > 20
    for reference in found:
        if reference.startswith("./"):
            assert (DOCS / reference).is_file()
            continue
        node = written
        for part in reference.removeprefix("#/").split("/"):
            node = node[part]
        assert node


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: type(example).__name__)
def test_the_example_in_the_document_parses_and_is_the_event(written: Any, example: Any) -> None:
    name = type(example).__name__
    name = name[0].lower() + name[1:]
    message = written["components"]["messages"][name]
    channel = next(key for key, value in written["channels"].items() if name in value["messages"])
    (shown,) = message["examples"]
    payload = shown.get("payload")
    if isinstance(payload, str):
        value: bytes | None = base64.b64decode(payload)
    else:
        value = None if payload is None else json.dumps(payload).encode()
    record = Record(
        topic=written["channels"][channel]["address"],
        partition=0,
        offset=0,
        timestamp_ms=0,
        key=message["bindings"]["kafka"]["key"]["examples"][0].encode(),
        value=value,
        headers=tuple((header, text.encode()) for header, text in shown["headers"].items()),
    )
    assert PARSERS[channel](record) == example
    jsonschema.validate(shown["headers"], message["headers"])


def test_all_events_have_an_example() -> None:
    assert {type(example).__name__ for example in EXAMPLES} == set(EVENTS)
    assert len(EXAMPLES) == len(EVENTS)


@pytest.mark.parametrize("name", sorted(EVENTS))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_whatever_is_sent_fits_schema_and_headers(name: str, data: st.DataObject) -> None:
    event = data.draw(EVENTS[name])
    message = event.to_message(TOPICS)
    shown = _DOCUMENT["components"]["messages"][name[0].lower() + name[1:]]
    headers = {header: value.decode() for header, value in message.headers}
    assert set(headers) <= set(shown["headers"]["properties"])
    jsonschema.validate(headers, shown["headers"])
    if event.name in PAYLOADS:
        schema = json_schema(event.name)
        jsonschema.Draft202012Validator.check_schema(schema)
        jsonschema.validate(json.loads(message.value), schema)


_DOCUMENT = document()


@pytest.mark.parametrize("header", sorted(HEADERS))
def test_required_headers_are_the_ones_without_which_a_record_is_refused(header: str) -> None:
    for example in EXAMPLES:
        message = example.to_message(TOPICS)
        names = [name for name, _ in message.headers]
        if header not in names:
            continue
        without = Record(
            topic=message.topic,
            partition=0,
            offset=0,
            timestamp_ms=0,
            key=message.key,
            value=message.value,
            headers=tuple(pair for pair in message.headers if pair[0] != header),
        )
        parser = PARSERS[next(k for k, v in _DOCUMENT["channels"].items() if v["address"] == message.topic)]
        refused = None
        try:
            parser(without)
        except Permanent as err:
            refused = err.reason
        optional_type = header == "ce_type" and parser is parse_review  # a bare review is a review
        assert (refused == "missing_header") == (HEADERS[header].required and not optional_type)


def test_the_schema_refuses_bad_reviews_too() -> None:
    """What only code can say (blank text, dates, the key) is for the parser; types and lengths are in the schema."""
    schema = json_schema("reviews.review.submitted")
    for name in ("no product", "rating as text", "text of 20,001 characters", "version below 0", "no date"):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(json.loads(REVIEWS[name][1].value or b""), schema)


def test_the_words_name_every_reason_topic_and_header() -> None:
    words = (DOCS / "events.md").read_text(encoding="utf-8")
    for name in [*REASONS, *HEADERS, *(spec.name for spec in TOPICS.specs() if not spec.name.endswith(".dlt"))]:
        assert f"`{name}`" in words or f"`{name}." in words, name
    for example in EXAMPLES:
        assert f"`{example.name}.v1`" in words
