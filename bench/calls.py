"""Calls from audio to rows: how many channel-seconds a second, the delay of an utterance, and how many live calls that is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import soxr

from bench.cpu import cpu
from bench.load import recordings
from bench.result import Result, percentile
from bench.reviews import LOAD
from bench.rig import MODELS, Rig
from bench.site import Site
from bench.size import Size
from bench.sources import LiveCalls
from bench.tight import Tight, tight
from commands.asr_scores import score
from stream.audio import decode_flac
from stream.events import Utterance, parse_utterances
from stream.producers import CallProducer
from tests.workers import topic_log

__all__ = ["asr", "calls", "live_calls", "scores"]

Heard = tuple[np.ndarray[Any, np.dtype[np.int16]], int]
#: By then the first calls of all lines have begun, and have utterances of all kinds.
WARM_SECONDS = 15.0
WARM_CALLS = 4


def calls(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """All three stages of a call run; the baseline is the detector and the recogniser alone.

    The baseline has no aspects, so that the first two stages are measured by themselves, too, on half the calls.
    """
    source = LiveCalls(lines=size.lines, timed=True)
    with rig.site("calls") as site:
        source.start(site)
        source.backlog(site, WARM_CALLS, size.patience_seconds, say)
        warm = site.ends("transcriber")
        found = source.backlog(site, size.calls, size.patience_seconds, say)
        heard = utterances(site, warm)
        say(f"the same {len(heard)} utterances in a tight loop")
        vad, models = vad_seconds(), tight(recognizer, heard)
        baseline = found.amount / (found.amount * vad.seconds + models.seconds)
        alone = vad.cpu_seconds + models.cpu_seconds / found.amount  # for a channel-second
        yield from cpu("channel_second", found.parts, found.amount, models=alone * found.amount, capacity=True)
        yield ratio("calls", found.rate, baseline)
        live = live_calls(found.rate)
        yield Result(name="live_calls", value=live, unit="2-channel calls at 60 % load")
        say(f"{live:.0f} live calls for {WARM_SECONDS + size.delay_seconds:.0f} s")
        flow = source.flow(site, 2 * live, WARM_SECONDS, size.delay_seconds)
        say(f"the latest record left {flow.late_ms:.0f} ms after its time")
        delays = source.delays(site, flow, size.patience_seconds)
        for percent in (50, 95, 99):
            yield Result(name=f"utterance_delay_p{percent}", value=percentile(delays, percent), unit="ms at 60 % load")
    source = LiveCalls(lines=size.lines, stages=("segmenter", "transcriber"), timed=True)
    with rig.site("heard") as site:
        source.start(site)
        source.backlog(site, WARM_CALLS, size.patience_seconds, say)
        found = source.backlog(site, size.calls // 2, size.patience_seconds, say)
        yield from cpu("channel_second_but_aspects", found.parts, found.amount, models=alone * found.amount)
        yield ratio("calls_but_aspects", found.rate, baseline)


def live_calls(rate: float) -> float:
    """How many calls of two channels are 60 % of so many channel-seconds a second."""
    return LOAD * rate / 2


def ratio(name: str, rate: float, baseline: float) -> Result:
    met = rate / baseline >= 0.85
    return Result(name=name, value=rate, unit="channel-s/s", baseline=baseline, target="ratio 0.85", met=met)


def asr(rig: Rig, size: Size, say: Callable[[str], None]) -> Iterator[Result]:
    """Words and starts of the six sample calls through the pipeline, sent as recordings."""
    found = scores(rig, size, say)
    errors, starts = 100 * found["word_error_rate"], 100 * found["starts_within_250_ms"]
    yield Result(name="word_error_rate", value=errors, unit="%", target="at most 6.5", met=errors <= 6.5)
    yield Result(name="starts_within_250_ms", value=starts, unit="%", target="95", met=starts >= 95)


def scores(rig: Rig, size: Size, say: Callable[[str], None]) -> dict[str, float | int]:
    """Of the sample calls against their truth (commands.asr_scores.score)."""
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
    return score(
        {one.name: one.truth for one in recordings()},
        {one.name: [line for line in lines if line["call_id"] == one.name] for one in recordings()},
    )


def utterances(site: Site, since: Mapping[int, int]) -> list[Heard]:
    """Everything that the segmenter cut from these offsets on, decoded: int16 [n] and its rate."""
    records = topic_log.read(
        site.settings.kafka_bootstrap_servers, site.topics.calls_utterances, site.ends("transcriber")
    )
    events = [parse_utterances(one) for one in records if one.offset >= since[one.partition]]
    return [decode_flac(one.flac) for one in events if isinstance(one, Utterance)]


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
