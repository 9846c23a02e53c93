"""What a model has answered is not asked again when the batch is: stages on a real Postgres, Triton's part played."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from store import runs
from store.ledger import LedgerKey
from stream.events import Record, Topics
from tests.workers.sending import review
from workers.deadline import Deadline
from workers.reviewer import ReviewerStage
from workers.stage import Batch

TOPICS = Topics("")
BOUNDS = (datetime(2026, 5, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


class Moody:
    """A Triton that counts what it is asked, and answers one text only the second time, and only at last."""

    def __init__(self, weak: str) -> None:
        self.weak = weak
        self.asked: Counter[str] = Counter()

    async def aspects(self, text: str, deadline: Deadline, product: str | None = None) -> tuple[list[Any], str]:
        self.asked[text] += 1
        if text == self.weak and self.asked[text] < 3:
            raise Transient("Triton did not answer")
        return [], "v1"

    async def polarities(self, text: str, spans: Sequence[Any], deadline: Deadline) -> tuple[list[Any], str]:
        return [], ""


async def test_a_batch_that_is_tried_again_asks_only_for_what_failed(engine: AsyncEngine) -> None:
    """Also when its records are then tried one at a time."""
    async with engine.begin() as connection:
        run_id = (await runs.open_run(connection, {"test": 1}, make_current=True)).run_id
    triton = Moody("text 0")
    stage = ReviewerStage(
        topics=TOPICS,
        run_id=run_id,
        inference=triton,  # type: ignore[arg-type]
        engine=engine,
        month_bounds=lambda: BOUNDS,
    )
    key = LedgerKey(stage=stage.name, run_id=run_id, topic=stage.topic, topic_id=UUID(int=5), partition=0)
    messages = [review(f"r{number}", f"text {number}").to_message(TOPICS) for number in range(6)]
    records = [
        Record(topic=m.topic, partition=0, offset=offset, timestamp_ms=0, key=m.key, value=m.value, headers=m.headers)
        for offset, m in enumerate(messages)
    ]
    batch = Batch(key=key, records=records)
    for _ in range(2):
        with pytest.raises(Transient):
            await stage.work(batch, Deadline.after(30))
    for record in records:
        await stage.work(batch.only(record), Deadline.after(30))
    assert triton.asked == {"text 0": 3} | {f"text {number}": 1 for number in range(1, 6)}
