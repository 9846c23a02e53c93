"""What Whisper's shorter window is worth: the same calls with every utterance padded to 30 s instead."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.calls import live_calls, scores
from bench.result import Result
from bench.rig import Rig
from bench.size import Size
from bench.sources import Backlog, LiveCalls

__all__ = ["padded"]

FULL_WINDOW_SECONDS = 30.0
WARM_CALLS = 2


def padded(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Both ways are the whole pipeline at capacity; the second on servers of its own, whose Whisper has the full window."""
    shipped, errors = worked_off(rig, size, say), 100 * scores(rig, size, say)["word_error_rate"]
    say("servers with a window of 30 s")
    with Rig(window_seconds=FULL_WINDOW_SECONDS) as other:
        full, full_errors = worked_off(other, size, say), 100 * scores(other, size, say)["word_error_rate"]
    live, full_live = live_calls(shipped.rate), live_calls(full.rate)
    yield Result(
        name="live_calls_to_padded",
        value=live,
        unit="2-channel calls at 60 % load",
        baseline=full_live,
        target="ratio 2",
        met=live / full_live >= 2,
    )
    yield Result(
        name="channel_second_cpu_to_padded", value=cost(shipped), unit="CPU-ms", baseline=cost(full), cost=True
    )
    yield Result(
        name="word_error_rate_to_padded",
        value=errors,
        unit="%",
        baseline=full_errors,
        target="at most +0.3",
        met=errors <= full_errors + 0.3,
        cost=True,
    )


def worked_off(rig: Rig, size: Size, say: Callable[[str], None]) -> Backlog:
    source = LiveCalls(lines=size.load_lines)
    with rig.site("window") as site:
        source.start(site)
        source.backlog(site, WARM_CALLS, size.patience_seconds, say)
        return source.backlog(site, size.padded_calls, size.patience_seconds, say)


def cost(done: Backlog) -> float:
    return 1000 * sum(done.parts.values()) / done.amount
