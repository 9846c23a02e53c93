"""Whether a checkpoint works here: samples with the adapter on and off, and clips token by token against transformers."""

from __future__ import annotations

import gc
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer
from torch import Tensor

from speech.contract import SpeechAnswer, SpeechRequest, Task
from speech.phi4.limits import Limits
from speech.phi4.prompts import TRANSCRIBE, Prompts
from speech.phi4.start import StartOptions, start
from speech.phi4.stock import Stock, StockAnswer
from speech.wer import word_errors
from stream.files import read_file

__all__ = ["Clip", "first_difference", "read_clips", "verify"]

RATE = 16_000
CLIPS = 8
#: Where the reference's best two logits are nearer than this, either choice is right. bfloat16 has 8 bits: near 30, where
#: the best logits lie, neighbours are 0.125 apart, and the two paths round each at its own places.
TIES = {torch.float64: 1e-9, torch.float32: 1e-3, torch.bfloat16: 0.5}
# So that the engine does what generate does: no guard, no splitting.
LIMITS = replace(Limits(), guard=False, queue=1 << 20)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Clip:
    """An utterance of the samples: float32 [n] at 16 kHz, and what was said."""

    name: str
    audio: NDArray[np.float32]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    answers: list[SpeechAnswer]
    seconds: float
    dtype: torch.dtype
    device: str
    stop_ids: Sequence[int]


def read_clips(folder: Path) -> list[Clip]:
    """Every utterance of NAME.flac and NAME.json (samples/calls); ValueError where there is none."""
    clips = []
    for path in sorted(folder.glob("*.json")):
        truth = json.loads(path.read_text("utf-8"))
        pcm, rate = read_file(path.with_suffix(".flac"))
        for number, one in enumerate(truth["utterances"]):
            part = pcm[one["start_ms"] * rate // 1000 : one["end_ms"] * rate // 1000, one["channel"]]
            audio = soxr.resample(part.astype(np.float32) / 32768, rate, RATE)
            clips.append(Clip(name=f"{path.stem}/{number}", audio=audio, text=one["text"]))
    if not clips:
        raise ValueError(f"{folder} holds no recordings with their texts, as samples/calls does")
    return clips


def verify(
    weights: Path, clips: Sequence[Clip], *, reference: Path | None = None, tell: Callable[[str], None]
) -> list[str]:
    """Tells what it finds; returns what is wrong, in sentences. Raises CheckpointError, TooSmall."""
    chosen = spread(clips, CLIPS)
    run = _run(weights, StartOptions(limits=LIMITS), clips, tell)
    heard = {clip.name: answer for clip, answer in zip(clips, run.answers, strict=True)}
    words = word_errors([clip.text for clip in clips], [answer.text for answer in run.answers])
    audio = sum(len(clip.audio) for clip in clips) / RATE
    tell(
        f"adapter on: {len(clips)} clips, {audio:.0f} s of audio, word error rate {words.rate:.1%}, "
        f"{audio / run.seconds:.1f} x real time"
    )
    without = _run(weights, StartOptions(limits=LIMITS, lora="off"), chosen, lambda line: None).answers
    wrong = []
    for clip, off in zip(chosen, without, strict=True):
        tell(f"{clip.name}\n  said  {clip.text!r}\n  on    {heard[clip.name].text!r}\n  off   {off.text!r}")
    if all(heard[clip.name].text == off.text for clip, off in zip(chosen, without, strict=True)):
        wrong.append("the adapter changes nothing: with and without it the answers are the same")
    differ = _compared(reference or weights, weights, chosen, heard, run)
    for clip, difference in zip(chosen, differ, strict=True):
        tell(f"{clip.name}: {difference or 'the same tokens as transformers'}")
        if difference is not None and not difference.startswith("a tie"):
            wrong.append(f"{clip.name}: {difference}")
    return wrong


def first_difference(
    tokens: Sequence[int], stock: StockAnswer, stop_ids: Sequence[int], *, tie: float, most: int
) -> str | None:
    """Where `tokens` (without a stop token) leave the reference's; None where they do not."""
    ended = len(tokens) < most
    for place, best in enumerate(stock.tokens):
        logits = stock.logits[place]
        if place < len(tokens):
            ours, gap = tokens[place], float(logits.max() - logits[tokens[place]])
        elif ended and best not in stop_ids:
            ours, gap = -1, float(logits.max() - _best(logits, stop_ids))
        else:
            return None
        if ours != best:
            what = "a tie" if gap <= tie else "another token"
            return f"{what} at place {place}: {ours} for {best}, {gap:.3g} below the best logit"
    return None if len(tokens) <= len(stock.tokens) else f"goes on after place {len(stock.tokens)}"


def spread(clips: Sequence[Clip], count: int) -> list[Clip]:
    """So many clips, from the shortest to the longest."""
    ordered = sorted(clips, key=lambda clip: len(clip.audio))
    places = np.linspace(0, len(ordered) - 1, min(count, len(ordered))).round().astype(int)
    return [ordered[place] for place in places]


def _best(logits: Tensor, ids: Sequence[int]) -> Tensor:
    return logits[list(ids)].max()


def _run(weights: Path, options: StartOptions, clips: Sequence[Clip], tell: Callable[[str], None]) -> _Run:
    """All clips in one running batch. The model is gone when this returns: two do not fit every GPU."""
    requests = [SpeechRequest(task=Task.TRANSCRIBE, audio=clip.audio, rate=RATE) for clip in clips]
    with start(weights, options, tell=tell) as speech:
        speech.warm_up()
        begun = time.perf_counter()
        answers = [handle.result() for handle in [speech.submit(request) for request in requests]]
        seconds = time.perf_counter() - begun
        model = speech.engine.model
        found = _Run(
            answers=answers, seconds=seconds, dtype=model.dtype, device=str(model.device), stop_ids=model.config.eos_ids
        )
    del speech, model
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return found


def _compared(
    reference: Path, weights: Path, clips: Sequence[Clip], heard: dict[str, SpeechAnswer], run: _Run
) -> list[str | None]:
    stock = Stock(reference, device=run.device, dtype=run.dtype)
    prompts = Prompts(Tokenizer.from_file(str(weights / "tokenizer.json")))
    found = []
    for clip in clips:
        prompt = prompts.bare(TRANSCRIBE, clip.audio, RATE)
        most = LIMITS.spoken_tokens(len(clip.audio) / RATE)
        answer = stock.answer(clip.audio, prompt.before, prompt.after, most)
        details: dict[str, Any] = heard[clip.name].details or {}
        found.append(first_difference(details["token_ids"], answer, run.stop_ids, tie=TIES[run.dtype], most=most))
    return found
