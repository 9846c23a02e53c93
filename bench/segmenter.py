"""The segmenter's worker alone: 200 ms chunks of many live calls from Kafka, utterances to Kafka, state to Postgres."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from bench.load import Calls
from bench.result import Result
from bench.reviews import cpu, spent
from bench.rig import Rig
from bench.size import Size
from stream.producers import CallProducer

__all__ = ["segmenter"]


def segmenter(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Per core means: per CPU second of the worker, its children and the detector included."""
    vad_file = rig.stack.home / "vad_seconds"
    with rig.site("segmenter") as site:
        say(f"{size.segmenter_calls} calls into Kafka, {size.lines} side by side")
        with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            calls = Calls(producer, "s", lines=size.lines)
            calls.at_once(size.segmenter_calls)
        site.start("segmenter", module="bench.timed", env={"BENCH_VAD_SECONDS": str(vad_file)})
        before = rig.cpu_seconds()  # when it has its partitions: imports are over
        closed = "SELECT count(*) FROM ingest.calls WHERE close_reason IS NOT NULL"
        site.wait(lambda: site.one(closed) == size.segmenter_calls, size.patience_seconds)
        parts = spent(rig, before, say)
        worker = parts.pop("segmenter")
        (seconds,) = site.rows(
            "SELECT extract(epoch FROM (SELECT max(updated_at) FROM ingest.ledger) -"
            " (SELECT max(created_at) FROM ingest.ledger))::float8"
        )[0]
        site.stop("segmenter")
        vad = float(vad_file.read_text())
        audio = calls.begun_channel_seconds
        yield from cpu("segmenter", {**parts, "detector": vad, "worker": worker - vad}, None, audio)
        yield Result(name="segmenter_wall", value=audio / seconds, unit="channel-s/s")
        yield Result(
            name="segmenter",
            value=audio / worker,
            unit="channel-s/CPU-s",
            baseline=150,
            target="150",
            met=audio / worker >= 150,
        )
        rest = audio / (worker - vad)
        yield Result(
            name="segmenter_but_vad",
            value=rest,
            unit="channel-s/CPU-s",
            baseline=1000,
            target="1000",
            met=rest >= 1000,
        )
