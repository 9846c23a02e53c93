"""`earful topics check`: whether the topics are as `earful topics create` would make them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from kafka import KafkaAdminClient
from kafka.admin import ConfigResource
from kafka.errors import NoError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code

from settings import Settings
from stream.topics import TopicSpec

__all__ = ["Found", "look", "sentences"]


class Differs(TypedDict):
    """A setting's value, and the one that `topics create` gives it."""

    found: str | None
    wanted: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Every topic's partitions, and what is not as it should be.

    Of `hidden` topics Kafka tells this login nothing, not even whether they are there; of `unread` ones not the settings.
    """

    topics: dict[str, int | None]
    missing: list[str]
    hidden: list[str]
    other_partitions: dict[str, int]
    fewer_copies: dict[str, int]
    other_settings: dict[str, dict[str, Differs]]
    unread: list[str]


def look(client: KafkaAdminClient, specs: Sequence[TopicSpec], copies: int) -> Found:
    """Ask Kafka twice, however many topics there are. Raises KafkaError."""
    # By name: from a list of all topics Kafka leaves out what this login may not see, as if it were not there.
    told = {entry["name"]: entry for entry in client.describe_topics([spec.name for spec in specs])}
    errors = {name: for_code(entry["error_code"]) for name, entry in told.items()}
    for name, error in errors.items():
        if error not in (NoError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError):
            raise error(name)
    there = {name: entry["partitions"] for name, entry in told.items() if errors[name] is NoError}
    hidden = [spec.name for spec in specs if errors.get(spec.name) is TopicAuthorizationFailedError]
    present = [spec for spec in specs if spec.name in there]
    settings = settings_of(client, present)
    least = {spec.name: min(len(one["replica_nodes"]) for one in there[spec.name]) for spec in present}
    other = {spec.name: differing(spec, settings[spec.name]) for spec in present if settings[spec.name]}
    return Found(
        topics={spec.name: len(there[spec.name]) if spec.name in there else None for spec in specs},
        missing=[spec.name for spec in specs if spec.name not in (*there, *hidden)],
        hidden=hidden,
        other_partitions={
            spec.name: len(there[spec.name]) for spec in present if len(there[spec.name]) != spec.partitions
        },
        fewer_copies={name: count for name, count in least.items() if count < copies},
        other_settings={name: differs for name, differs in other.items() if differs},
        unread=[spec.name for spec in present if not settings[spec.name]],
    )


def settings_of(client: KafkaAdminClient, specs: Sequence[TopicSpec]) -> dict[str, dict[str, str | None]]:
    """The settings that each topic's spec names; none where Kafka refuses, which kafka-python 3.0.12 does not say."""
    if not specs:
        return {}
    asked = [ConfigResource("TOPIC", spec.name, list(spec.config)) for spec in specs]
    told = client.describe_configs(asked, config_filter="all").get("topic", {})
    return {spec.name: {key: entry["value"] for key, entry in told.get(spec.name, {}).items()} for spec in specs}


def differing(spec: TopicSpec, settings: Mapping[str, str | None]) -> dict[str, Differs]:
    return {
        key: {"found": settings.get(key), "wanted": wanted}
        for key, wanted in spec.config.items()
        if settings.get(key) != wanted
    }


def sentences(found: Found, using: Settings) -> list[str]:
    """What is wrong and what mends it, a sentence each."""
    said = []
    login = "" if using.kafka_security_protocol == "PLAINTEXT" else " --command-config FILE"
    if found.missing:
        said.append(f"missing: {', '.join(found.missing)}; `earful topics create` makes them")
    if found.hidden:
        said.append(f"Kafka does not tell this login of {', '.join(found.hidden)} (it needs Describe)")
    if found.other_partitions:
        said.append(
            f"a call must keep its partition, so every topic has EARFUL_PARTITIONS={using.partitions};"
            f" not so: {counted(found.other_partitions)}"
        )
    if found.fewer_copies:
        said.append(
            f"fewer copies than EARFUL_REPLICATION_FACTOR={using.replication_factor}: {counted(found.fewer_copies)};"
            " Kafka's kafka-reassign-partitions.sh makes more"
        )
    for name, settings in found.other_settings.items():
        differs = ", ".join(f"{key}={one['found']} and not {one['wanted']}" for key, one in settings.items())
        change = ",".join(f"{key}={one['wanted']}" for key, one in settings.items())
        said.append(
            f"{name} has {differs}; this mends it: kafka-configs.sh --bootstrap-server"
            f" {using.kafka_bootstrap_servers}{login} --alter --entity-type topics --entity-name {name} --add-config {change}"
        )
    return said


def counted(topics: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in topics.items())
