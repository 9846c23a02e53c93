"""Topic names and settings."""

from __future__ import annotations

import pytest

from stream.topics import Topics

WEEK_MS = 604_800_000


def test_names_carry_the_prefix() -> None:
    topics = Topics("acme.")
    assert topics.calls_audio == "acme.calls.audio.v1"
    assert topics.dlt(topics.calls_audio) == "acme.calls.audio.v1.dlt"
    assert Topics().insights == "insights.v1"


@pytest.mark.parametrize("prefix", ["a b", "é", "a" * 300, "a/"])
def test_a_prefix_that_kafka_refuses_is_refused(prefix: str) -> None:
    with pytest.raises(ValueError, match="prefix"):
        Topics(prefix)


def test_only_utterances_and_reviews_are_kept_for_ever() -> None:
    specs = {spec.name: spec for spec in Topics().specs(partitions=4)}
    assert len(specs) == 9
    assert {name for name, spec in specs.items() if spec.retention_ms == -1} == {
        "calls.utterances.v1",
        "reviews.submitted.v1",
    }
    assert {spec.retention_ms for spec in specs.values()} == {-1, WEEK_MS}
    assert all(spec.config["cleanup.policy"] == "delete" for spec in specs.values())
    assert all(spec.config["retention.ms"] == str(spec.retention_ms) for spec in specs.values())
    assert {name for name, spec in specs.items() if spec.config.get("retention.bytes") == "-1"} == {
        "calls.utterances.v1",
        "reviews.submitted.v1",
    }
    assert all(spec.partitions == 4 for spec in specs.values())
    assert {spec.partitions for spec in Topics().specs()} == {6}
