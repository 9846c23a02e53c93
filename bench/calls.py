"""Calls from audio to rows: how many channel-seconds a second, the delay of an utterance, and how many live calls that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import soxr
from kafka import KafkaConsumer, TopicPartition

from bench.load import Calls, recordings
from bench.result import Result, percentile
from bench.reviews import LOAD, cpu, spent
from bench.rig import MODELS, Rig, Site
from bench.size import Size
from bench.tight import Tight, tight
from commands.evaluate import score
from stream.audio import decode_flac
from stream.events import Utterance, parse_utterances
from stream.producers import CallProducer
from stream.records import Record

__all__ = ["asr", "calls"]

Heard = tuple[np.ndarray[Any, np.dtype[np.int16]], int]
#: Calls begin spread over this time, and the first of them have utterances of all kinds when it is over.
WARM_SECONDS = 25.0
STAGES = ("transcriber", "summarizer", "segmenter")  # only the last one has something to do at once


def calls(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """All three stages of a call run; the baseline is the detector and the recogniser alone.

    The baseline has no aspects, so that the first two stages are measured by themselves, too, on half the calls.
    """
    with rig.site("calls") as site:
        audio, rate, parts = through(site, STAGES, size.calls, size, say)
        heard = utterances(site)
        say(f"the same {len(heard)} utterances in a tight loop")
        vad, models = vad_seconds(), tight(recognizer, heard)
        baseline = audio / (audio * vad.seconds + models.seconds)
        alone = audio * vad.cpu_seconds + models.cpu_seconds
        yield from cpu("channel_second", parts, alone, audio)
        yield ratio("calls", rate, baseline)
        with rig.site("heard") as other:
            heard_audio, heard_rate, heard_parts = through(
                other, ("transcriber", "segmenter"), size.calls // 2, size, say
            )
            yield from cpu("channel_second_but_aspects", heard_parts, alone * heard_audio / audio, heard_audio)
            yield ratio("calls_but_aspects", heard_rate, baseline)
        live = LOAD * rate / 2
        yield Result(name="live_calls", value=live, unit="2-channel calls at 60 % load")
        yield from delays(site, size, live, say)


def ratio(name: str, rate: float, baseline: float) -> Result:
    met = rate / baseline >= 0.85
    return Result(name=name, value=rate, unit="channel-s/s", baseline=baseline, target="ratio 0.85", met=met)


def through(
    site: Site, stages: Sequence[str], count: int, size: Size, say: Callable[[str], None]
) -> tuple[float, float, dict[str, float]]:
    """So many calls, from the log to the last stage. Returns channel-seconds, these a second, CPU seconds by process."""
    say(f"{count} calls into Kafka, {size.lines} side by side")
    with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
        sent = Calls(producer, "c", lines=size.lines)
        sent.at_once(count)
    audio = sent.begun_channel_seconds
    for stage in stages[:-1]:
        site.start(stage)
    before = site.rig.cpu_seconds()  # only the segmenter has something to do, and it comes last
    site.start(stages[-1])
    say(f"{audio:.0f} channel-seconds through {', '.join(stages)}")
    at = "finished_at" if "summarizer" in stages else "transcribed_at"
    site.wait(lambda: site.one(f"SELECT count({at}) FROM ingest.call_runs") == count, size.patience_seconds)
    parts = spent(site.rig, before, say)
    seconds = site.one(
        f"SELECT extract(epoch FROM (SELECT max({at}) FROM ingest.call_runs) -"
        " (SELECT max(created_at) FROM ingest.ledger WHERE stage = 'segmenter'))::float8"
    )
    return audio, audio / seconds, parts


def delays(site: Site, size: Size, live: float, say: Callable[[str], None]) -> Iterator[Result]:
    """From the end of an utterance, as its row has it, to the writing of the row."""
    lines = max(1, round(live))
    say(f"{lines} live calls for {WARM_SECONDS + size.delay_seconds:.0f} s")
    with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
        sent = Calls(producer, "live", lines=lines)
        sent.in_real_time(WARM_SECONDS + size.delay_seconds, spread=WARM_SECONDS)
    say(f"the latest record left {sent.worst_lag_seconds * 1000:.0f} ms after its time")
    ended = "call_started_at + make_interval(secs => end_ms / 1000.0)"
    waits = [
        float(row[0])
        for row in site.rows(
            f"SELECT 1000 * extract(epoch FROM committed_at - ({ended})) FROM ingest.utterances"
            f" WHERE call_id LIKE 'live-%%' AND {ended} > make_interval(secs => %s) +"
            " (SELECT min(call_started_at) FROM ingest.utterances WHERE call_id LIKE 'live-%%')",
            WARM_SECONDS,
        )
    ]
    if not waits:
        say("no utterance's row was there in time")
        return
    for percent in (50, 95):
        yield Result(name=f"utterance_delay_p{percent}", value=percentile(waits, percent), unit="ms at 60 % load")


def asr(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Words and starts of the six sample calls through the pipeline, sent as recordings."""
    with rig.site("asr") as site:
        for stage in ("transcriber", "segmenter"):
            site.start(stage)
        say("six recordings through the pipeline")
        with CallProducer(site.settings.kafka_bootstrap_servers, prefix=site.topics.prefix) as producer:
            for one in recordings():
                producer.send_recording(one.file, call_id=one.name, roles=("customer", "agent"))
        site.wait(lambda: site.one("SELECT count(*) FROM ingest.call_runs") == len(recordings()), size.patience_seconds)
        rows = site.rows("SELECT call_id, channel, start_ms, end_ms, text FROM analytics_v1.utterances")
        lines = [dict(zip(("call_id", "channel", "start_ms", "end_ms", "text"), row, strict=True)) for row in rows]
        found = score(
            {one.name: one.truth for one in recordings()},
            {one.name: [line for line in lines if line["call_id"] == one.name] for one in recordings()},
        )
        errors, starts = 100 * found["word_error_rate"], 100 * found["starts_within_250_ms"]
        yield Result(name="word_error_rate", value=errors, unit="%", target="at most 6.5", met=errors <= 6.5)
        yield Result(name="starts_within_250_ms", value=starts, unit="%", target="95", met=starts >= 95)


def utterances(site: Site) -> list[Heard]:
    """Everything the segmenter cut, decoded: int16 [n] and its rate."""
    consumer = KafkaConsumer(bootstrap_servers=site.settings.kafka_bootstrap_servers, enable_auto_commit=False)
    try:
        places = [TopicPartition(site.topics.calls_utterances, number) for number in range(site.settings.partitions)]
        ends = consumer.end_offsets(places)
        consumer.assign(places)
        consumer.seek_to_beginning()
        out: list[Heard] = []
        while any(consumer.position(place) < end for place, end in ends.items()):
            for records in consumer.poll(timeout_ms=500).values():
                for one in records:
                    event = parse_utterances(
                        Record(
                            topic=one.topic,
                            partition=one.partition,
                            offset=one.offset,
                            timestamp_ms=one.timestamp,
                            key=one.key,
                            value=one.value,
                            headers=tuple(one.headers),
                        )
                    )
                    if isinstance(event, Utterance):
                        out.append(decode_flac(event.flac))
        return out
    finally:
        consumer.close()


def recognizer() -> Callable[[Heard], object]:
    """One instance as model_repo/whisper runs it: one thread, the decode options of its configuration."""
    import re

    from speech.whisper import DecodeOptions, Recognizer, resample

    config = (MODELS / "whisper" / "config.pbtxt").read_text()
    options = re.search(r"""key: "decode_options" value: \{ string_value: '(.*)' \}""", config)
    assert options is not None
    model = Recognizer(threads=1, options=DecodeOptions.from_json(options[1]))

    def one(heard: Heard) -> object:
        pcm, rate = heard
        return model.transcribe(resample(pcm.astype(np.float32) / np.float32(32768), rate))

    return one


def vad_seconds() -> Tight:
    """Of the batched detector for a channel-second, by two processes with all sample channels in each batch."""
    speech = [one.pcm.astype(np.float32) / np.float32(32768) for one in recordings()]
    channels = [soxr.resample(one[:, k], recordings()[0].rate, 16_000) for one in speech for k in range(2)]
    count = min(len(channel) for channel in channels) // 512
    windows = np.stack([channel[: count * 512].reshape(count, 512) for channel in channels], axis=1)
    padded = np.concatenate([np.zeros((*windows.shape[:2], 64), np.float32), windows], axis=2)
    batches = np.array_split(padded, 8)
    took, audio = tight(detector, batches * 2), 2 * count * len(channels) * 0.032
    return Tight(seconds=took.seconds / audio, cpu_seconds=took.cpu_seconds / audio)


def detector() -> Callable[[Any], object]:
    from speech.vad import STATE, SileroVad

    vad = SileroVad()

    def one(batch: Any) -> object:
        h = c = np.zeros((batch.shape[1], STATE), np.float32)
        for step in batch:
            _, h, c = vad.step(step, h, c)
        return h

    return one
