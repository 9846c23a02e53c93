"""What records that can never succeed cost the others: throughput with one in a hundred over that with none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count, cycle

from bench.result import Result
from bench.rig import Rig
from bench.size import Size
from bench.sources import LiveCalls, Reviews, Source
from stream.records import Message
from stream.sender import Sender

__all__ = ["Poison", "poison"]

EVERY = 100
#: Not JSON, no UTF-8, no text.
BAD_REVIEWS = (
    b"{not json",
    b"\xff\xfe",
    b'{"review_id": "r", "product": "p", "text": " ", "created_at": "2026-05-04T00:00:00Z"}',
)
#: A record without headers, whose value no codec knows.
BAD_AUDIO = (bytes(range(100)),)
#: A warm-up round has this part of a round's records.
WARM = 4


class Poison:
    """Called before each good record; before every hundredth it sends a bad one. `sent` counts those."""

    def __init__(self, sender: Sender, topic: str, values: tuple[bytes, ...]) -> None:
        self._sender, self._topic = sender, topic
        self._values = cycle(values)
        self._records = count(1)
        self.sent = 0

    def __call__(self) -> None:
        if next(self._records) % EVERY == 0:
            self.sent += 1
            self._sender.send(Message(topic=self._topic, key=f"poison-{self.sent}".encode(), value=next(self._values)))


def poison(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Twice with and twice without, so that what drifts hits both alike. Good records are counted, the time is all's."""
    calls = LiveCalls(lines=size.load_lines, stages=("segmenter", "transcriber"))
    kinds: tuple[tuple[Source, tuple[bytes, ...], int], ...] = (
        (Reviews(), BAD_REVIEWS, size.poison_reviews),
        (calls, BAD_AUDIO, size.poison_calls),
    )
    for source, values, number in kinds:
        with rig.site("poison") as site, Sender(site.settings.kafka_bootstrap_servers) as sender:
            bad = Poison(sender, site.topic(source.stages[0]), values)
            source.start(site)
            source.backlog(site, -(-number // WARM), size.patience_seconds, say)
            seconds = {True: 0.0, False: 0.0}
            amount = 0.0
            for poisoned in (False, True, True, False):
                say("with poison" if poisoned else "without")
                beside = bad if poisoned else nothing
                done = source.backlog(site, number, size.patience_seconds, say, beside)
                seconds[poisoned] += done.seconds
                amount += done.amount / 2
            buried = site.one("SELECT count(*) FROM ingest.dead_letters")
            if buried != bad.sent:
                raise RuntimeError(f"{bad.sent} bad records became {buried} dead letters")
        rate, clean = amount / seconds[True], amount / seconds[False]
        yield Result(
            name=f"{source.name}_with_poison",
            value=rate,
            unit=f"{source.unit}/s, 1 % poison",
            baseline=clean,
            target="ratio 0.95",
            met=rate / clean >= 0.95,
        )


def nothing() -> None:
    """Sent beside a good record."""
