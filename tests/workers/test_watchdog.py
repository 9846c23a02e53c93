"""What the watchdog takes for progress, and for being level with the log."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest

from errors import Transient
from store.ledger import LedgerKey
from workers import watchdog
from workers.ownership import LogTruncated
from workers.watchdog import NoProgress, Watchdog

TOPIC_ID = UUID(int=3)


class Scene:
    """One partition: where its log ends, where the ledger is, and how often the loop has tried."""

    def __init__(self, patience_seconds: float = 0.0) -> None:
        self.end = self.offset = self.tries = 0
        self.at_work: dict[int, int] = {}
        self.healthy = True
        self.kafka_away = False
        self.markers_only = False  # behind the watermark
        self.questions = self.canaries = 0
        self.watchdog = Watchdog(
            stage="reviewer",
            ownership=self._ownership(),
            log_ends=self._log_ends,
            topic_id=self._topic_id,
            healthy=self._healthy,
            tries=lambda: self.tries,
            at_work=lambda: self.at_work,
            only_markers=self._only_markers,
            patience_seconds=patience_seconds,
        )

    def _ownership(self) -> Any:
        scene = self

        class Position:
            @property
            def next_offset(self) -> int:
                return scene.offset

        key = LedgerKey(stage="reviewer", run_id=TOPIC_ID, topic="t", topic_id=TOPIC_ID, partition=0)
        owned = SimpleNamespace(position=Position(), key=key)
        return SimpleNamespace(partitions={0: owned})

    async def _log_ends(self) -> Mapping[int, int]:
        if self.kafka_away:
            raise Transient("Kafka is away")
        return {0: self.end}

    async def _only_markers(self, partition: int, first: int, end: int) -> bool:
        self.questions += 1
        return self.markers_only

    async def _topic_id(self) -> UUID:
        return TOPIC_ID

    async def _healthy(self) -> bool:
        self.canaries += 1
        return self.healthy

    async def look(self, *, end: int, offset: int) -> bool:
        """Whether the partition counts as level."""
        self.end, self.offset = end, offset
        await self.watchdog._try_to_look()
        return 0 in self.watchdog.caught_up_since


async def test_a_busy_partition_is_level_when_it_keeps_up() -> None:
    scene = Scene()
    assert not await scene.look(end=100, offset=40)
    for end in range(200, 1_000, 100):
        assert await scene.look(end=end, offset=end - 60)
    assert not await scene.look(end=2_000, offset=800)
    assert not await scene.look(end=2_100, offset=1_900)
    assert await scene.look(end=2_200, offset=2_150)


async def test_after_an_outage_of_kafka_nobody_has_been_level() -> None:
    """Producers send now what they could not: a call that was silent meanwhile has not ended."""
    scene = Scene()
    assert await scene.look(end=10, offset=10)
    before = scene.watchdog.caught_up_since[0]
    scene.kafka_away = True
    assert not await scene.look(end=10, offset=10)
    scene.kafka_away = False
    assert await scene.look(end=10, offset=10)
    assert scene.watchdog.caught_up_since[0] > before


async def test_trying_again_is_no_standing_still() -> None:
    scene = Scene()
    for scene.tries in range(5):
        await scene.look(end=10, offset=3)
    with pytest.raises(NoProgress):
        await scene.look(end=10, offset=3)


async def test_one_batch_that_stands_still_is_noticed_while_others_go_on() -> None:
    scene = Scene()
    for scene.tries in range(3):
        scene.at_work = {0: scene.tries}
        await scene.look(end=10, offset=3)
    scene.tries = 3  # of another partition's batch
    with pytest.raises(NoProgress):
        await scene.look(end=10, offset=3)


async def test_a_batch_that_takes_a_while_costs_no_canary() -> None:
    """It is an inference, and under load some batch is always in hand."""
    scene = Scene(patience_seconds=600)
    for _ in range(3):
        scene.at_work = {0: 1}
        await scene.look(end=10, offset=3)
    assert scene.canaries == 0
    scene.watchdog._still_since -= 301
    await scene.look(end=10, offset=3)
    assert scene.canaries == 1


async def test_waiting_for_a_dependency_is_no_standing_still() -> None:
    scene = Scene()
    scene.healthy = False
    for _ in range(3):
        await scene.look(end=10, offset=3)
    scene.healthy = True
    with pytest.raises(NoProgress):
        await scene.look(end=10, offset=3)


async def test_the_marker_of_a_transaction_at_the_end_of_the_log_waits_for_nobody(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watchdog, "MARKER_SECONDS", 0.0)
    scene = Scene(patience_seconds=60)
    scene.markers_only = True
    for _ in range(3):
        assert await scene.look(end=11, offset=10)
    assert scene.questions == 1
    scene.markers_only = False  # now a record came behind the marker
    assert await scene.look(end=12, offset=10)  # which was not there at the last look
    assert not await scene.look(end=12, offset=10)


async def test_a_log_that_ends_before_the_watermark_is_noticed() -> None:
    """Its next records would get offsets that are done already."""
    scene = Scene()
    assert await scene.look(end=10, offset=10)
    with pytest.raises(LogTruncated, match="ends at offset 4, but 6 records"):
        await scene.look(end=4, offset=10)
