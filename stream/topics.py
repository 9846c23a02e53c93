"""Names and settings of Earful's topics."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["DEFAULT_PARTITIONS", "TopicSpec", "Topics"]

# Enough for 6 workers a stage on the first day; more later moves keys between partitions, which breaks running calls.
DEFAULT_PARTITIONS = 6

_WEEK_MS = 7 * 86_400_000
_UNLIMITED = -1
_LONGEST_NAME = 249 - len(".calls.utterances.v1.dlt")  # 249 is Kafka's limit
_PREFIX = re.compile(rf"[A-Za-z0-9._-]{{0,{_LONGEST_NAME}}}")


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicSpec:
    """One topic as it should be created. `retention_ms` of -1 keeps records for ever."""

    name: str
    partitions: int
    retention_ms: int
    config: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True)
class Topics:
    """Every topic's name, each with `prefix` in front as it stands ("acme." gives "acme.calls.audio.v1")."""

    prefix: str = ""

    def __post_init__(self) -> None:
        if not _PREFIX.fullmatch(self.prefix):
            raise ValueError(f"a topic prefix has at most {_LONGEST_NAME} letters, digits, '.', '_' or '-'")

    @property
    def calls_audio(self) -> str:
        return f"{self.prefix}calls.audio.v1"

    @property
    def calls_utterances(self) -> str:
        return f"{self.prefix}calls.utterances.v1"

    @property
    def calls_transcribed(self) -> str:
        return f"{self.prefix}calls.transcribed.v1"

    @property
    def reviews_submitted(self) -> str:
        return f"{self.prefix}reviews.submitted.v1"

    @property
    def insights(self) -> str:
        return f"{self.prefix}insights.v1"

    def dlt(self, name: str) -> str:
        """The dead-letter topic of the topic `name`."""
        return f"{name}.dlt"

    @property
    def consumed(self) -> tuple[str, ...]:
        """The topics that a stage reads; each has a dead-letter topic."""
        return (self.calls_audio, self.calls_utterances, self.calls_transcribed, self.reviews_submitted)

    def specs(self, partitions: int = DEFAULT_PARTITIONS) -> tuple[TopicSpec, ...]:
        """All topics, dead-letter topics last. All have the same count, so that a call keeps its partition."""
        kept = {self.calls_utterances, self.reviews_submitted}
        names = (*self.consumed, self.insights, *(self.dlt(name) for name in self.consumed))
        return tuple(_spec(name, partitions, _UNLIMITED if name in kept else _WEEK_MS) for name in names)


def _spec(name: str, partitions: int, retention_ms: int) -> TopicSpec:
    config = {"cleanup.policy": "delete", "retention.ms": str(retention_ms)}
    if retention_ms == _UNLIMITED:
        config["retention.bytes"] = str(_UNLIMITED)  # a broker may have a limit for all its topics
    return TopicSpec(name=name, partitions=partitions, retention_ms=retention_ms, config=MappingProxyType(config))
