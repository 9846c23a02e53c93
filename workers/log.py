"""Logs: one JSON object a line on standard error, with action, topic, partition, offset, trace id; never a payload."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable

import structlog
from structlog.typing import Processor

__all__ = ["Repeats", "configure"]

#: While a broker is away these complain some thirty times a second in each worker (41,075 lines in 22 minutes were seen).
_CHATTER = ("aiokafka", "kafka")
_QUIET_SECONDS = 60.0
#: So many different complaints are told apart. The clients have fewer, as long as they leave the arguments to `logging`.
_KINDS = 1_000


class Repeats(logging.Filter):
    """Of what Kafka's clients say and only its arguments differ, lets one pass a minute, which says how many were left out.

    `clock` gives seconds that never go back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._told: dict[tuple[str, int, str], tuple[float, int]] = {}  # when it was last told; how often not since

    def filter(self, record: logging.LogRecord) -> bool:
        if record.exc_info or record.name.partition(".")[0] not in _CHATTER:
            return True
        kind, now = (record.name, record.levelno, str(record.msg)), self._clock()
        last, left_out = self._told.get(kind, (now - _QUIET_SECONDS, 0))
        if now - last < _QUIET_SECONDS:
            self._told[kind] = (last, left_out + 1)
            return False
        if kind not in self._told and len(self._told) >= _KINDS:
            self._told.clear()
        self._told[kind] = (now, 0)
        if left_out:
            record.msg, record.args = f"{record.getMessage()} (and {left_out} more like it)", ()
        return True


def configure(level: str) -> None:
    """Our own actions at `level`; faust and the clients only from WARNING on, where they name places, not payloads.

    What Kafka's clients repeat is told once a minute.
    """
    shared: list[Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    structlog.configure(
        processors=[*shared, structlog.processors.JSONRenderer()],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level]),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),  # asked anew each time: a test's is closed later
    )
    foreign = logging.StreamHandler(sys.stderr)
    foreign.addFilter(Repeats())
    foreign.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[foreign])
