"""What is sent: reviews at a steady pace, and live telephone calls side by side, in real time or as fast as Kafka takes them."""

from __future__ import annotations

import heapq
import itertools
import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from commands.samples import encoded
from settings import PROJECT
from stream.fields import Role
from stream.files import read_file
from stream.producers import CallProducer, LiveCall, ReviewProducer

__all__ = ["CHUNK_MS", "Calls", "Recording", "recordings", "review_texts", "send_reviews"]

SAMPLES = PROJECT / "samples"
CHUNK_MS = 200
ROLES: tuple[Role, ...] = ("customer", "agent")
SEED = 20261123


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """A sample call: int16 [frames, 2], its mu-law bytes, and the truth beside it."""

    name: str
    file: Path
    pcm: np.ndarray[Any, np.dtype[np.int16]]
    mulaw: bytes
    rate: int
    truth: dict[str, Any]

    @property
    def seconds(self) -> float:
        return len(self.pcm) / self.rate

    @property
    def channel_seconds(self) -> float:
        return self.seconds * int(self.pcm.shape[1])


@cache
def recordings() -> tuple[Recording, ...]:
    out = []
    for file in sorted((SAMPLES / "calls").glob("*.flac")):
        pcm, rate = read_file(file)
        truth = json.loads(file.with_suffix(".json").read_text())
        out.append(
            Recording(name=file.stem, file=file, pcm=pcm, mulaw=encoded(pcm, "pcmu", rate), rate=rate, truth=truth)
        )
    return tuple(out)


def review_texts() -> list[str]:
    lines = (SAMPLES / "reviews.jsonl").read_text(encoding="utf-8").splitlines()
    return [event["text"] for event in map(json.loads, lines) if event.get("text")]


def send_reviews(
    producer: ReviewProducer,
    mark: str,
    count: int,
    per_second: float | None = None,
    beside: Callable[[], None] = lambda: None,
) -> float:
    """The sample reviews under new ids, over and over. With `per_second` each leaves when it is due, else at once.

    `beside` is called before each. Returns by how many seconds the latest one was late.
    """
    begun = time.monotonic()
    latest = 0.0
    for number, text in zip(range(count), itertools.cycle(review_texts()), strict=False):
        beside()
        if per_second:
            late = time.monotonic() - begun - number / per_second
            latest = max(latest, late)
            time.sleep(max(0.0, -late))
        producer.send(
            {
                "review_id": f"{mark}-{number}",
                "product": f"product-{number % 8}",
                "text": text,
                "created_at": datetime.now(UTC),
            }
        )
    producer.flush()
    return latest


class Calls:
    """Calls side by side on `lines`, the next one on a line when the last is over, in 200 ms of mu-law.

    The order of the records is that of real time, whether or not its pace is kept. With `anywhere` the first call of
    each line begins in the middle of its recording, so that calls end all the time and not in waves.
    """

    def __init__(self, producer: CallProducer, mark: str, *, lines: int, anywhere: bool = False) -> None:
        self._producer = producer
        self._mark = mark
        self._lines = lines
        self._anywhere = anywhere
        self._open: dict[int, _Call] = {}  # by line
        self._random = random.Random(SEED)
        self._recordings = itertools.cycle(recordings())
        self.begun = 0  # calls
        self.begun_channel_seconds = 0.0  # of those calls, in full
        self.spoken_channel_seconds = 0.0  # sent so far
        self.worst_lag_seconds = 0.0  # how late a record left: above a chunk the sender is what is measured

    def at_once(self, calls: int, beside: Callable[[], None] = lambda: None) -> None:
        """So many calls, whole, as fast as Kafka takes them; `beside` is called before each record."""
        hour_ago = datetime.now(UTC) - timedelta(hours=1)
        for _ in self._spoken(hour_ago, spread=0.0, may_begin=lambda: self.begun < calls):
            beside()
        self._producer.flush()

    def in_real_time(self, seconds: float, spread: float) -> None:
        """For so long; then every call that is open ends. They begin within the first `spread` seconds."""
        begun = time.monotonic()
        for due in self._spoken(datetime.now(UTC), spread=spread, may_begin=lambda: True):
            if due > seconds:
                break
            late = time.monotonic() - begun - due
            self.worst_lag_seconds = max(self.worst_lag_seconds, late)
            time.sleep(max(0.0, -late))
        for call in self._open.values():
            call.live.end()
        self._producer.flush()

    def _spoken(self, start: datetime, *, spread: float, may_begin: Callable[[], bool]) -> Iterator[float]:
        """Yields when the next record is due, in seconds, before it is sent."""
        lines = [(self._random.uniform(0, spread), line) for line in range(self._lines)]
        heapq.heapify(lines)
        while lines:
            due, line = heapq.heappop(lines)
            call = self._open.get(line)
            if call is None and not may_begin():
                continue
            yield due
            pause = CHUNK_MS / 1000
            if call is None:
                self._open[line] = self._begin(start + timedelta(seconds=due))
            elif call.speak():
                self.spoken_channel_seconds += len(ROLES) * CHUNK_MS / 1000
            else:
                del self._open[line]
                pause = self._random.uniform(0, 1)
            heapq.heappush(lines, (due + pause, line))

    def _begin(self, at: datetime) -> _Call:
        recording = next(self._recordings)
        step = len(ROLES) * recording.rate * CHUNK_MS // 1000
        skipped = 0
        if self._anywhere and self.begun < self._lines:
            skipped = step * self._random.randrange(len(recording.mulaw) // step)
        live = self._producer.call(
            f"{self._mark}-{self.begun}-{recording.name}",
            rate=recording.rate,
            channels=len(ROLES),
            roles=ROLES,
            codec="pcmu",
            started_at=at,
            product=recording.truth["product"],
            chunk_ms=CHUNK_MS,
        )
        self.begun += 1
        self.begun_channel_seconds += recording.channel_seconds * (1 - skipped / len(recording.mulaw))
        return _Call(live=live, audio=recording.mulaw, step=step, position=skipped)


@dataclass(slots=True, kw_only=True)
class _Call:
    live: LiveCall
    audio: bytes
    step: int
    position: int = 0

    def speak(self) -> bool:
        """The next 200 ms, or the end of the call: then False."""
        if self.position >= len(self.audio):
            self.live.end()
            return False
        self.live.write(self.audio[self.position : self.position + self.step])
        self.position += self.step
        return True
