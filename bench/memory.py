"""Whether a worker grows: its resident memory under a steady load of calls and reviews, from minute 2 on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import psutil

from bench.load import Calls, recordings, send_reviews
from bench.result import Result, slope
from bench.rig import Rig
from bench.site import Site
from bench.size import Size
from stream.producers import CallProducer, ReviewProducer
from workers.stages import STAGES

__all__ = ["memory", "under_load"]

SAMPLE_SECONDS = 2.0
WARM_MINUTES = 2.0
#: About a third of what two cores carry, so that lag never grows and the load is the same all the time.
LINES, REVIEWS_PER_SECOND, RECORDING_EVERY_SECONDS = 12, 8.0, 15.0


def memory(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Live calls in mu-law, recordings in FLAC (they go through the decoder's child), and reviews."""
    seconds = size.memory_minutes * 60
    with rig.site("memory") as site:
        for stage in STAGES:
            site.start(stage)
        say(f"load for {size.memory_minutes:g} minutes")
        points: dict[str, list[tuple[float, float]]] = {stage: [] for stage in STAGES}

        def look(now: float) -> None:
            for stage in STAGES:
                points[stage].append((now / 60, resident(site, stage) / 2**20))

        under_load([partial(load, site, seconds) for load in (live, flac, reviews)], look, seconds)
        warm = WARM_MINUTES if size.memory_minutes > WARM_MINUTES else size.memory_minutes / 2
        for stage in STAGES:
            late = [(minute, megabytes) for minute, megabytes in points[stage] if minute >= warm]
            say(f"{stage}: {late[0][1]:.1f} MB after {warm:g} minutes, {late[-1][1]:.1f} MB at the end")
            growth = slope(late)
            yield Result(name=f"memory_{stage}", value=growth, unit="MB/min", target="under 1", met=growth < 1)


def under_load(loads: Sequence[Callable[[], None]], look: Callable[[float], None], seconds: float) -> None:
    """Run the loads side by side and call `look` every SAMPLE_SECONDS with the seconds gone by, for so long.

    An error of a load is raised at once: without it, the memory of an idle worker would be measured.
    """
    pool = ThreadPoolExecutor(len(loads))
    try:
        running = [pool.submit(load) for load in loads]
        begun = time.monotonic()
        while (now := time.monotonic() - begun) < seconds:
            look(now)
            time.sleep(min(SAMPLE_SECONDS, seconds))
            for one in running:
                if one.done():
                    one.result()
        for one in running:
            one.result()
    finally:
        pool.shutdown(wait=False)


def resident(site: Site, stage: str) -> int:
    """Bytes of the worker and its children."""
    pid = site.workers[stage].pid
    if pid is None:
        raise RuntimeError(f"{stage} ended under load; see {site.workers[stage].log}")
    worker = psutil.Process(pid)
    total = 0
    for process in (worker, *worker.children(recursive=True)):
        try:
            total += process.memory_info().rss
        except psutil.NoSuchProcess:  # a decoder's child came and went
            continue
    return total


def live(site: Site, seconds: float) -> None:
    with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
        Calls(producer, "live", lines=LINES).in_real_time(seconds, spread=20.0)


def flac(site: Site, seconds: float) -> None:
    begun = time.monotonic()
    with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
        number = 0
        while time.monotonic() - begun < seconds:
            one = recordings()[number % len(recordings())]
            producer.send_recording(one.file, call_id=f"flac-{number}", roles=("customer", "agent"))
            number += 1
            time.sleep(max(0.0, min(begun + number * RECORDING_EVERY_SECONDS, begun + seconds) - time.monotonic()))


def reviews(site: Site, seconds: float) -> None:
    with ReviewProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
        send_reviews(producer, "r", int(seconds * REVIEWS_PER_SECOND), REVIEWS_PER_SECOND)
