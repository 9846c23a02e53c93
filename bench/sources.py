"""Reviews and live calls as the benchmarks send them: a backlog to work off, or a steady flow in real time."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count

from bench.cpu import DETECTOR, detector_seconds, spent, start_segmenter
from bench.load import Calls, send_reviews
from bench.site import Site
from stream.producers import CallProducer, ReviewProducer

__all__ = ["Backlog", "Flow", "LiveCalls", "Reviews", "Source"]

Say = Callable[[str], None]
Beside = Callable[[], None]
#: An utterance that a call's end cuts off does not wait for silence: those of the last second do not count.
TAIL_SECONDS = 1.0
#: By a call's stages, in the order of the data's way: when the last of them did its last work.
LAST = {
    "segmenter": "max(updated_at) FROM ingest.ledger WHERE stage = 'segmenter'",
    "transcriber": "max(transcribed_at) FROM ingest.call_runs",
    "summarizer": "max(finished_at) FROM ingest.call_runs",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What was worked off: so much in so many seconds, with so many CPU seconds of each process."""

    amount: float
    seconds: float
    parts: Mapping[str, float]

    @property
    def rate(self) -> float:
        return self.amount / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """What was sent at a steady rate. From `since` to `until` the rate was kept and nothing was still warming up."""

    mark: str
    amount: float
    arrival: float  # a second
    since: datetime
    until: datetime
    late_ms: float  # of the record that left latest: above some hundred the sender is what is measured


class Source(ABC):
    """One kind of input, and how its way to rows is measured. `unit` is that of amounts; rates are these a second."""

    name: str
    unit: str
    stages: tuple[str, ...]
    table: str
    key: str
    #: When a row's input was there.
    at: str
    #: When everything was done.
    last: str

    def __init__(self) -> None:
        self._numbers = count()

    def start(self, site: Site, instances: int = 1) -> None:
        for stage in self.stages:
            site.start(stage, instances=instances)

    @abstractmethod
    def send(self, site: Site, mark: str, number: int, beside: Beside) -> float:
        """Send so many at once, under ids that begin with the mark, `beside` before each record. Returns the amount."""

    @abstractmethod
    def flow(self, site: Site, rate: float, warm: float, seconds: float) -> Flow:
        """Send at this rate for so long, warm-up and window."""

    def backlog(self, site: Site, number: int, patience: float, say: Say, beside: Beside = lambda: None) -> Backlog:
        """From the moment when the workers, already started, are let loose on it until the last is done."""
        with site.held():
            amount = self.send(site, f"backlog{next(self._numbers)}-", number, beside)
            say(f"{amount:.0f} {self.unit} through {', '.join(self.stages)}")
            before = self.cpu_seconds(site)
            begun = datetime.now(UTC)
        site.wait(lambda: site.level(*self.stages), patience)
        parts = spent(site, before, say)
        if DETECTOR in before:
            parts[DETECTOR] = detector_seconds(site) - before[DETECTOR]
            parts["segmenter"] -= parts[DETECTOR]
        seconds = (site.one(f"SELECT {self.last}") - begun).total_seconds()
        return Backlog(amount=amount, seconds=seconds, parts=parts)

    def cpu_seconds(self, site: Site) -> dict[str, float]:
        return site.rig.cpu_seconds()

    def settle(self, site: Site, patience: float) -> None:
        """Wait until all that was sent has its rows."""
        site.wait(lambda: site.level(*self.stages), patience)

    def delays(self, site: Site, flow: Flow, patience: float) -> list[float]:
        """Of the window's rows, ms from the moment when the input was there to the writing of the row.

        Waits for those still in flight when sending stopped: they are the slowest.
        """
        self.settle(site, patience)
        found = site.rows(
            f"SELECT 1000 * extract(epoch FROM committed_at - {self.at})::float8 FROM {self.table}"
            f" WHERE starts_with({self.key}, %s) AND {self.at} BETWEEN %s AND %s",
            flow.mark,
            flow.since,
            flow.until,
        )
        return [row[0] for row in found]

    def throughput(self, site: Site, flow: Flow) -> float:
        """Written in the window, a second: the rows' share of all rows is taken for that of the amount."""
        share = site.one(
            "SELECT count(*) FILTER (WHERE committed_at BETWEEN %s AND %s)::float8 / greatest(count(*), 1)"
            f" FROM {self.table} WHERE starts_with({self.key}, %s)",
            flow.since,
            flow.until,
            flow.mark,
        )
        return float(share) * flow.amount / (flow.until - flow.since).total_seconds()


class Reviews(Source):
    """Delay: from the record's timestamp."""

    name, unit = "reviews", "reviews"
    stages = ("reviewer",)
    table, key, at = "ingest.reviews", "review_id", "source_at"
    last = "max(committed_at) FROM ingest.reviews"

    def send(self, site: Site, mark: str, number: int, beside: Beside) -> float:
        with ReviewProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            send_reviews(producer, mark, number, beside=beside)
        return number

    def flow(self, site: Site, rate: float, warm: float, seconds: float) -> Flow:
        number, mark = max(1, round(rate * (warm + seconds))), f"flow{next(self._numbers)}-"
        with ReviewProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            begun = datetime.now(UTC)
            late = send_reviews(producer, mark, number, rate)
        return Flow(
            mark=mark,
            amount=number,
            arrival=rate,
            since=begun + timedelta(seconds=warm),
            until=begun + timedelta(seconds=warm + seconds),
            late_ms=1000 * late,
        )


class LiveCalls(Source):
    """Calls of two channels, 200 ms a record. Delay: from the end of an utterance, as its row has it.

    With `timed` the detector's share of the segmenter's CPU time is counted apart.
    """

    name, unit = "calls", "channel-seconds"
    table, key = "ingest.utterances", "call_id"
    at = "(call_started_at + make_interval(secs => end_ms / 1000.0))"

    def __init__(self, *, lines: int, stages: tuple[str, ...] = tuple(LAST), timed: bool = False) -> None:
        """A backlog is `lines` calls side by side."""
        super().__init__()
        self._lines = lines
        self._timed = timed
        self.stages = stages
        self.last = LAST[stages[-1]]

    def start(self, site: Site, instances: int = 1) -> None:
        for stage in self.stages:
            if stage == "segmenter" and self._timed:
                start_segmenter(site)
            else:
                site.start(stage, instances=instances)

    def cpu_seconds(self, site: Site) -> dict[str, float]:
        used = super().cpu_seconds(site)
        return used | {DETECTOR: detector_seconds(site)} if self._timed else used

    def send(self, site: Site, mark: str, number: int, beside: Beside) -> float:
        with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            calls = Calls(producer, mark, lines=self._lines)
            calls.at_once(number, beside)
        return calls.begun_channel_seconds

    def flow(self, site: Site, rate: float, warm: float, seconds: float) -> Flow:
        mark, spread = f"flow{next(self._numbers)}-", warm / 2
        with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            calls = Calls(producer, mark, lines=max(1, round(rate / 2)), anywhere=True)
            begun = datetime.now(UTC)
            calls.in_real_time(warm + seconds, spread)
        return Flow(
            mark=mark,
            amount=calls.spoken_channel_seconds,
            arrival=calls.spoken_channel_seconds / (warm + seconds - spread / 2),
            since=begun + timedelta(seconds=warm),
            until=begun + timedelta(seconds=warm + seconds - TAIL_SECONDS),
            late_ms=1000 * calls.worst_lag_seconds,
        )
