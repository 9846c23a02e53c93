"""A text in a language that the models do not know: said so in SQL, never an empty answer, and no dead letter."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from stack.stack import Stack
from stream.events import parse_insight
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review, sample, whole_call

GERMAN = "Der Akku ist leider sehr schwach und die Lieferung kam zu spät."


@pytest.fixture(name="pipeline", scope="module")
def _pipeline(stack: Stack) -> Iterator[Pipeline]:
    """Without a summarizer, which the tests start."""
    with Pipeline(stack) as made:
        made.start(["segmenter", "transcriber", "reviewer"])
        yield made


def test_a_review_says_it_beside_english_ones(pipeline: Pipeline) -> None:
    events = [review("before"), review("german", GERMAN, language="de"), review("after")]
    places = pipeline.produce(messages(pipeline.topics, events))
    for place in places:
        pipeline.wait(
            lambda place=place: pipeline.verdict("reviewer", place) == ("result", None), f"a verdict for {place}"
        )
    shown = pipeline.rows("SELECT review_id, state, aspects, text FROM analytics_v1.reviews ORDER BY review_id")
    assert [row[:3] for row in shown] == [
        ("after", "analysed", 2),
        ("before", "analysed", 2),
        ("german", "unsupported_language", 0),
    ]
    assert shown[2][3] == GERMAN
    assert pipeline.rows("SELECT reason FROM ingest.dead_letters") == []

    def told() -> dict[str, object]:
        insights = [parse_insight(record) for record in pipeline.records(pipeline.topics.insights)]
        return next((one.body for one in insights if one.subject_id == "german"), {})

    assert pipeline.wait(told, "the insight") == {"product": "kettle", "state": "unsupported_language", "aspects": []}


def test_a_call_says_it_when_most_of_the_customers_words_are_foreign(pipeline: Pipeline) -> None:
    calls = ("foreign", "mixed")
    for call_id in calls:
        pipeline.produce(messages(pipeline.topics, whole_call(call_id, sample("calls/card-fee", 0, 16_000))))

    def state(call_id: str) -> object:
        return pipeline.one("SELECT state FROM ingest.call_runs WHERE call_id = %s", call_id)

    for call_id in calls:
        pipeline.wait(lambda call_id=call_id: state(call_id) == "transcribed", f"{call_id} is transcribed")
    with psycopg.connect("postgresql://" + pipeline.url.partition("://")[2], autocommit=True) as connection:
        connection.execute(
            "UPDATE pii.utterance_texts t SET text = %s FROM ingest.utterances u"
            " WHERE u.utterance_id = t.utterance_id AND u.call_id = 'foreign'",
            [GERMAN],
        )
        connection.execute(
            "UPDATE pii.utterance_texts t SET text = CASE WHEN u.start_ms = (SELECT min(o.start_ms) FROM ingest.utterances o"
            " WHERE o.call_id = u.call_id AND o.channel = u.channel) THEN %s ELSE 'the price is fair ' || repeat('yes ', 40) END"
            " FROM ingest.utterances u WHERE u.utterance_id = t.utterance_id AND u.call_id = 'mixed'",
            [GERMAN],
        )
    pipeline.start(["summarizer"])
    pipeline.wait(lambda: state("foreign") == "unsupported_language", "the call's language is unsupported")
    pipeline.wait(lambda: state("mixed") == "analysed", "the other call is analysed")
    found = pipeline.rows("SELECT call_id, aspect_text FROM analytics_v1.aspect_mentions WHERE source = 'utterance'")
    assert found == [("mixed", "price")]
    row = pipeline.rows("SELECT state, complete FROM analytics_v1.calls WHERE call_id = 'foreign'")
    assert row == [("unsupported_language", True)]
