"""The segmenter's worker alone: 200 ms chunks of many live calls from Kafka, utterances to Kafka, state to Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.cpu import DETECTOR, cpu
from bench.result import Result
from bench.rig import Rig
from bench.size import Size
from bench.sources import LiveCalls

__all__ = ["segmenter"]


def segmenter(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Per core means: per CPU second of the worker, its children and the detector included."""
    source = LiveCalls(lines=size.lines, stages=("segmenter",), timed=True)
    with rig.site("segmenter") as site:
        source.start(site)
        found = source.backlog(site, size.segmenter_calls, size.patience_seconds, say)
    yield from cpu("segmenter", found.parts, found.amount)
    yield Result(name="segmenter_wall", value=found.rate, unit="channel-s/s")
    rest = found.amount / found.parts["segmenter"]
    whole = found.amount / (found.parts["segmenter"] + found.parts[DETECTOR])
    for name, value, least in (("segmenter", whole, 150), ("segmenter_but_vad", rest, 1000)):
        yield Result(
            name=name, value=value, unit="channel-s/CPU-s", baseline=least, target=str(least), met=value >= least
        )
