"""What Kafka's clients say again and again is said once a minute, with the number of what was left out."""

from __future__ import annotations

import logging

import pytest

from workers.log import Repeats

NAME = "aiokafka.test"


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def said(clock: Clock) -> list[str]:
    """What came through, of everything that the logger was told."""
    lines: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(record.getMessage())

    handler = Keep()
    handler.addFilter(Repeats(clock))
    logger = logging.getLogger(NAME)
    logger.handlers, logger.propagate = [handler], False
    return lines


def test_a_broker_that_is_away_is_one_line_a_minute(said: list[str], clock: Clock) -> None:
    logger = logging.getLogger(NAME)
    for port in range(600):
        clock.now = port / 10
        logger.error("no connection to %s", port)
    assert said == ["no connection to 0"]
    clock.now = 61.0
    logger.error("no connection to %s", 9)
    assert said[1:] == ["no connection to 9 (and 599 more like it)"]
    clock.now = 130.0
    logger.error("no connection to %s", 10)
    assert said[2:] == ["no connection to 10"]


def test_another_complaint_is_told_at_once(said: list[str]) -> None:
    logger = logging.getLogger(NAME)
    logger.error("no connection to %s", 1)
    logger.warning("no connection to %s", 1)
    logger.error("the coordinator is dead")
    assert said == ["no connection to 1", "no connection to 1", "the coordinator is dead"]


def test_an_exception_and_what_others_say_is_always_told(clock: Clock) -> None:
    repeats, raised = Repeats(clock), (ValueError, ValueError("x"), None)
    for _ in range(3):
        assert repeats.filter(logging.LogRecord(NAME, logging.ERROR, "", 0, "failed", (), raised))
        assert repeats.filter(logging.LogRecord("faust.agents", logging.ERROR, "", 0, "failed", (), None))


def test_endlessly_many_kinds_take_no_memory_without_end(clock: Clock) -> None:
    repeats = Repeats(clock)
    for number in range(5_000):
        assert repeats.filter(logging.LogRecord(NAME, logging.ERROR, "", 0, f"kind {number}", (), None))
    assert len(repeats._told) <= 1_000
