"""Test 17: clocks that are hours off, and days that are no days: nothing but the event's own time counts."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest

from stack.stack import Stack
from stream.events import Message
from tests.faults.chaos import Chaos
from tests.faults.load import Item, Load
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES
from tests.workers.sending import STARTED, review, sample, whole_call

HOURS = 2
#: Europe's clocks go back at 01:00 UTC on 25 October 2026: 02:30 comes twice.
SUMMER, WINTER = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))
INSTANTS = {
    "before the hour repeats": datetime(2026, 10, 25, 2, 30, tzinfo=SUMMER),
    "when the hour repeats": datetime(2026, 10, 25, 2, 30, tzinfo=WINTER),
    "last instant of a day": datetime(2026, 5, 31, 23, 59, 59, 999_999, tzinfo=UTC),
    "first instant of a month": datetime(2026, 6, 1, tzinfo=UTC),
    "tomorrow in the east": datetime(2026, 6, 2, 3, tzinfo=timezone(timedelta(hours=14))),
    "yesterday in the west": datetime(2026, 6, 1, 20, tzinfo=timezone(timedelta(hours=-12))),
}
#: Beyond any month that has a partition.
OUT = ("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
ZONES = ("Europe/Berlin", "Pacific/Kiritimati", "America/St_Johns", "UTC")


@pytest.mark.chaos
@pytest.mark.proof(17)
@pytest.mark.timeout(300)
def test_workers_with_wrong_clocks(stack: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    """Two hours late or early, each in another zone: the same content as with the right time."""
    with Chaos(stack) as p:
        p.expects_deaths = False
        for number, (stage, zone) in enumerate(zip(STAGES, ZONES, strict=True)):
            seconds = HOURS * 3_600 * (-1) ** number
            p.worker(stage, module="tests.faults.shifted", env={"FAULT_CLOCK": str(seconds), "TZ": zone})
        p.send(small.items(p.topics))
        p.wait_until_settled(150)
        for number, worker in enumerate(p.workers):
            last = [line for line in worker.log.read_text().splitlines() if line.startswith("{")][-1]
            off = (datetime.fromisoformat(json.loads(last)["timestamp"]) - datetime.now(UTC)).total_seconds() / 3_600
            assert round(off) == HOURS * (-1) ** number, "its clock is right"
        p.verify(figures, small, f"clocks {HOURS} h early or late, each worker in another time zone", small_content)


@pytest.mark.chaos
@pytest.mark.proof(17)
@pytest.mark.timeout(200)
def test_events_of_odd_times(stack: Stack, figures: Figures) -> None:
    """Twice the same hour, the edges of days and months, a call over midnight; 1970 and 2100 are dead letters."""
    with Chaos(stack) as p:
        p.expects_deaths = False
        p.start()
        items: list[Item] = []
        for name, at in INSTANTS.items():
            event = review(f"review-{name.replace(' ', '-')}", created_at=at, version=1)
            items.append(Item(subject=event.review_id, message=event.to_message(p.topics), kinds=frozenset({"result"})))
        for at in OUT:
            items.append(out_of_range(p, at))
        midnight = datetime(2026, 5, 31, 23, 59, 58, tzinfo=UTC)
        events = whole_call("call-midnight", sample("calls/card-fee", 0, 8_000), started_at=midnight)
        for index, one in enumerate(events):
            kind = "control" if index in (0, len(events) - 1) else "consumed"
            items.append(Item(subject="call-midnight", message=one.to_message(p.topics), kinds=frozenset({kind})))
        early = whole_call("call-of-1970", sample("calls/card-fee", 0, 1_000), started_at=STARTED)[0]
        message = early.to_message(p.topics)
        headers = tuple((n, OUT[0].encode() if n == "call_started_at" else v) for n, v in message.headers)
        items.append(
            Item(
                subject="old-call",
                message=replace(message, headers=headers),
                kinds=frozenset({"dead_letter"}),
                reason="out_of_range",
            )
        )
        p.send(items)
        p.wait_until_settled(100)
        p.verify(figures, f"{len(items)} records", "summer time, midnight, months, zones, 1970, 2100")
        stored = dict(p.rows("SELECT review_id, created_at FROM analytics_v1.reviews"))
        for name, at in INSTANTS.items():
            assert stored[f"review-{name.replace(' ', '-')}"] == at
        days = {day for (day,) in p.rows("SELECT DISTINCT occurred_at::date FROM analytics_v1.aspect_mentions m"
                                         " WHERE review_id = 'review-last-instant-of-a-day'")}  # fmt: skip
        assert {str(day) for day in days} == {"2026-05-31"}


def out_of_range(p: Chaos, at: str) -> Item:
    good = review(f"old-{at[:4]}", version=1).to_message(p.topics)
    body = json.loads(good.value or b"{}") | {"created_at": at}
    message = Message(topic=good.topic, key=good.key, value=json.dumps(body).encode(), headers=good.headers)
    return Item(subject=f"old-{at[:4]}", message=message, kinds=frozenset({"dead_letter"}), reason="out_of_range")
