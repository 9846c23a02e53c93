"""The engine's side: speech at a number in flight, one stream, summaries of half an hour."""

from __future__ import annotations

import gc
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from math import prod
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from bench.phi4.roofline import Work, measured_rates, synchronize
from bench.phi4.work import AFTER, BEFORE, RATE, SIZES, Clip, clips, tokens_for
from speech.phi4.checkpoint import audio_shapes
from speech.phi4.engine import Engine
from speech.phi4.generation import Completion, Delta, Event, Generation, Prompt
from speech.phi4.handle import Handle
from speech.phi4.limits import Limits
from speech.phi4.model import Clip as ModelClip
from speech.phi4.model import DecodeRow, Mode, Phi4Model, PrefillRow
from speech.phi4.refusals import EngineFailed
from speech.phi4.stream import Vocabulary
from speech.phi4.synthetic import published_config, synthetic
from speech.phi4.tiny import make_tokenizer

__all__ = ["run"]

Figures = dict[str, Any]
SLOT_TOKENS = 512  # 30 s: 375 of audio, 11 of prompt, 110 of answer


def run(
    *, size: str, device: str, flights: Sequence[int], graphs: Sequence[int], lora: str, long: bool
) -> Iterator[Figures]:
    """Figures as they come; each names its scenario."""
    overrides, rank = SIZES[size]
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    config = published_config(**overrides)
    work = Work.of(config, sum(prod(shape) for shape in audio_shapes(config).values()))
    rates = measured_rates(device, dtype)
    yield {
        "scenario": "card",
        "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
        "torch": torch.__version__,
        "matrix_tflops": rates.matrix / 1e12,
        "copy_tb_per_s": rates.copy / 1e12,
        "parameters": work.audio + work.decoder + work.head,
    }
    begun = time.perf_counter()
    model = Phi4Model.build(synthetic(config, rank=rank), device=device, dtype=dtype, lora=lora)  # type: ignore[arg-type]
    yield {"scenario": "load", "seconds": time.perf_counter() - begun, "lora": lora, "memory_gb": _memory(device)}
    for mix in (False, True):
        for flight in flights:
            try:
                figures = _speech(model, flight, mix=mix, graphs=graphs)
            except (RuntimeError, EngineFailed) as err:  # out of memory, a graph or a kernel that fails
                yield {"scenario": "mix" if mix else "30s", "flight": flight, "rtfx": 0.0, "why": _why(err)}
                continue
            finally:
                _forget(model)  # the cache of one number in flight before that of the next
            lengths = clips(64, mix=mix)
            mean = statistics.fmean(clip.seconds for clip in lengths)
            ideal = work.ideal_rtfx(rates, seconds=mean, new_tokens=tokens_for(mean), flight=flight)
            yield figures | {"ideal_rtfx": ideal, "of_roofline": figures["rtfx"] / ideal}
    yield _shares(model, min(32, max(flights)))
    yield _single(model, work.weight_bytes() / rates.copy, graphs=graphs)
    if long:
        yield from _summaries(model, seconds=1_800.0 if size == "full" else 60.0)


def _speech(model: Phi4Model, flight: int, *, mix: bool, graphs: Sequence[int]) -> Figures:
    wanted = clips(max(3 * flight, 8), mix=mix)
    with _Engine(model, flight, graphs=graphs) as engine:
        _done([engine.ask(clip) for clip in wanted[:flight]])
        _reset(model)
        before, begun = engine.engine.metrics, time.perf_counter()
        done = _done([engine.ask(clip) for clip in wanted])
        seconds = time.perf_counter() - begun
        reading = engine.engine.metrics.since(before)
    first = sorted(one.timings.first_ms - one.timings.queue_ms for one in done)
    return {
        "scenario": "mix" if mix else "30s", "flight": flight, "clips": len(wanted), "seconds": seconds,
        "rtfx": sum(clip.seconds for clip in wanted) / seconds, "tokens_per_second": reading.new_tokens_total / seconds,
        "first_ms_p50": first[len(first) // 2], "first_ms_p95": first[len(first) * 95 // 100],
        "memory_gb": _memory(model.device.type),
    }  # fmt: skip


def _shares(model: Phi4Model, flight: int) -> Figures:
    """Encoder, prefill and decode one after the other, each waited for, so that the times are the device's."""
    wanted, device = clips(flight, mix=False), model.device.type
    tokens = wanted[0].tokens
    cache = model.new_cache(slots=flight, slot_tokens=SLOT_TOKENS)
    before, after = model.embed(BEFORE), model.embed(AFTER)
    spent: dict[str, float] = {}
    for _ in range(2):  # the first time pays for what is paid once
        synchronize(device)
        marks = [time.perf_counter()]
        audio = model.encode([ModelClip(samples=clip.audio) for clip in wanted])
        synchronize(device)
        marks.append(time.perf_counter())
        prompts = [torch.cat([before, one, after]) for one in audio]
        for slot in range(0, flight, 16):
            rows = [
                PrefillRow(slot=n, start=0, embeds=prompts[n], mode=Mode.SPEECH, long_rope=False)
                for n in range(slot, min(slot + 16, flight))
            ]
            model.prefill(cache, rows)
        synchronize(device)
        marks.append(time.perf_counter())
        for step in range(tokens - 1):
            model.decode_rows(
                cache,
                [
                    DecodeRow(slot=n, length=len(prompts[n]) + step, token=7, mode=Mode.SPEECH, long_rope=False)
                    for n in range(flight)
                ],
            )
        synchronize(device)
        marks.append(time.perf_counter())
        spent = {name: marks[n + 1] - marks[n] for n, name in enumerate(("encoder", "prefill", "decode"))}
    whole = sum(spent.values())
    return {"scenario": "shares", "flight": flight} | {f"{name}_share": value / whole for name, value in spent.items()}


def _single(model: Phi4Model, read_seconds: float, *, graphs: Sequence[int]) -> Figures:
    [clip] = clips(1, mix=False)
    with _Engine(model, 1, graphs=graphs) as engine:
        _done([engine.ask(clip)])
        done = _done([engine.ask(clip) for _ in range(5)])
    steps = [one.timings.decode_ms / (clip.tokens - 1) for one in done]
    return {
        "scenario": "one stream", "first_ms": statistics.median(one.timings.first_ms - one.timings.queue_ms for one in done),
        "step_ms": statistics.median(steps), "weights_read_ms": 1e3 * read_seconds,
        "step_over_read": statistics.median(steps) / (1e3 * read_seconds),
    }  # fmt: skip


def _summaries(model: Phi4Model, *, seconds: float) -> Iterator[Figures]:
    audio = clips(1, mix=False)[0].audio
    long = Clip(audio=audio.repeat(1 + int(seconds * RATE) // len(audio))[: int(seconds * RATE)], tokens=300)
    slot = int(seconds * 12.5) + 1_024
    for count in (1, 16):
        try:
            with _Engine(model, 0, summaries=count, summary_tokens=slot) as engine:
                begun = time.perf_counter()
                _done([engine.ask(long) for _ in range(count)])
                yield {"scenario": f"{count} summaries", "seconds": time.perf_counter() - begun}
        except (RuntimeError, EngineFailed) as err:  # out of memory, a kernel that fails
            yield {"scenario": f"{count} summaries", "seconds": None, "why": _why(err)}
        _forget(model)
    scenario = "4 summaries beside 32 streams"
    gaps: list[float] = []
    try:
        with _Engine(model, 32, summaries=4, summary_tokens=slot) as engine:
            streams = [engine.ask(clip, gaps=gaps) for clip in clips(96, mix=False)]
            _done([*streams, *(engine.ask(long) for _ in range(4))])
    except (RuntimeError, EngineFailed) as err:
        yield {"scenario": scenario, "longest_gap_ms": None, "why": _why(err)}
        return
    yield {
        "scenario": scenario, "longest_gap_ms": 1e3 * max(gaps), "deltas": len(gaps),
        "gap_ms_p99": 1e3 * sorted(gaps)[len(gaps) * 99 // 100],
    }  # fmt: skip


class _Letters(Vocabulary):
    """Each token is a letter: random weights choose ids of which most would be no text, and no delta."""

    def bytes_of(self, token_id: int) -> bytes:
        return b"a"


class _Engine:
    """An engine for the benchmark: slots as asked for, no stop tokens, no loop guard."""

    def __init__(
        self,
        model: Phi4Model,
        flight: int,
        *,
        graphs: Sequence[int] = (),
        summaries: int = 0,
        summary_tokens: int = 1_024,
    ) -> None:
        limits = Limits(
            utterance_slots=flight, utterance_slot_tokens=SLOT_TOKENS, summary_slots=summaries,
            summary_slot_tokens=summary_tokens, shared_slots=0, queue=1 << 20, guard=False,
            graph_sizes=tuple(one for one in graphs if one <= flight),
        )  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="earful-phi4-") as folder:
            make_tokenizer(Path(folder))
            vocabulary = _Letters(Tokenizer.from_file(f"{folder}/tokenizer.json"))
        self.engine = Engine(model, limits, vocabulary=vocabulary, stop_ids=())

    def ask(self, clip: Clip, *, gaps: list[float] | None = None) -> Handle[Completion]:
        """Queue a clip; `gaps` gets the seconds between its deltas."""
        last: list[float] = []

        def told(event: Event) -> None:
            if gaps is not None and isinstance(event, Delta | Completion):
                now = time.perf_counter()
                if last:
                    gaps.append(now - last[-1])
                last.append(now)

        prompt = Prompt(before=BEFORE, audio=clip.audio, after=AFTER)
        generation = Generation(prompt=prompt, mode=Mode.SPEECH, max_new_tokens=clip.tokens, guard=False, forced=True)
        return self.engine.submit(generation, on_event=told)

    def __enter__(self) -> _Engine:
        return self

    def __exit__(self, *error: object) -> None:
        self.engine.close(timeout=0 if error[0] is not None else None)  # nobody waits for what is left after an error


def _why(error: Exception) -> str:
    """What the card or the kernel said, where the engine's own error stands for it."""
    return repr(error.__cause__ or error)[:300]


def _done(handles: Sequence[Handle[Completion]]) -> list[Completion]:
    return [handle.result() for handle in handles]


def _reset(model: Phi4Model) -> None:
    if model.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _forget(model: Phi4Model) -> None:
    gc.collect()
    if model.device.type == "cuda":
        torch.cuda.empty_cache()


def _memory(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
