"""A tiny checkpoint on disk, requests of every kind, and what one sequence alone gives: the reference of the engine."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer

from speech.phi4.engine import Engine
from speech.phi4.generation import Generation, Prompt
from speech.phi4.limits import Limits
from speech.phi4.model import Clip, DecodeRow, Mode, Phi4Model, PrefillRow
from speech.phi4.stream import Vocabulary
from speech.phi4.tiny import make_tiny

# Tiny tensors: more threads only wait for each other.
torch.set_num_threads(1)

SMALL = Limits(
    utterance_slots=3,
    utterance_slot_tokens=256,
    summary_slots=1,
    summary_slot_tokens=1_024,
    shared_slots=2,
    shared_slot_tokens=64,
    queue=16,
    prefill_tokens=128,
    chunk_tokens=64,
    guard=False,
)


@cache
def checkpoint() -> Path:
    """The folder of the tiny checkpoint; one for all tests of a run."""
    folder = Path(tempfile.mkdtemp(prefix="earful-phi4-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return make_tiny(folder, dtype=torch.float64)


@cache
def model() -> Phi4Model:
    """In float64, where a batch and a single sequence choose the same tokens."""
    return Phi4Model.load(checkpoint(), dtype=torch.float64)


@cache
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(checkpoint() / "tokenizer.json"))


@cache
def vocabulary() -> Vocabulary:
    return Vocabulary(tokenizer())


def stop_ids() -> tuple[int, ...]:
    return model().config.eos_ids


def engine(limits: Limits = SMALL, *, run: bool = False, late: bool = False) -> Engine:
    return Engine(model(), limits, vocabulary=vocabulary(), stop_ids=stop_ids(), run=run, late=late)


def tone(seconds: float, seed: int = 0, rate: int = 16_000) -> NDArray[np.float32]:
    """Something that is not silence: noise over a gliding tone."""
    drawn = np.random.default_rng(seed)
    times = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * (200 + 40 * seed) * times * (1 + times)) + drawn.normal(0, 0.3, len(times))
    return (0.3 * wave).astype(np.float32)


def speech(seconds: float = 1.0, *, new: int = 12, seed: int = 0, shared: int = 0, **other: object) -> Generation:
    """A request with audio between two bits of prompt."""
    before = ids("<|user|>") if not shared else ids("<|system|>be kind<|end|><|user|>")
    prompt = Prompt(before=before, audio=tone(seconds, seed), after=ids("write it<|end|><|assistant|>"), shared=shared)
    return Generation(prompt=prompt, mode=Mode.SPEECH, max_new_tokens=new, **other)  # type: ignore[arg-type]


def text(words: str = "say more", *, new: int = 12, shared: int = 0, **other: object) -> Generation:
    """A request without audio."""
    begin = "<|system|>be kind<|end|>" if shared else ""
    prompt = Prompt(before=ids(f"{begin}<|user|>{words}<|end|><|assistant|>"), shared=shared)
    return Generation(prompt=prompt, mode=Mode.LANGUAGE, max_new_tokens=new, **other)  # type: ignore[arg-type]


def ids(words: str) -> tuple[int, ...]:
    return tuple(tokenizer().encode(words, add_special_tokens=False).ids)


def run_all(engine: Engine, most: int = 10_000) -> int:
    """Step until nothing is left; returns the steps."""
    for count in range(most):
        if not engine.step():
            return count
    raise AssertionError("the engine never ends")


def alone(generation: Generation, *, long_rope: bool = False) -> tuple[int, ...]:
    """The tokens of one sequence with the model to itself: one prefill, one row a step."""
    prompt, one = generation.prompt, model()
    parts = [one.embed(prompt.before)]
    if prompt.audio is not None:
        parts += [*one.encode([Clip(samples=prompt.audio, rate=prompt.rate)]), one.embed(prompt.after)]
    embeds = torch.cat(parts)
    kv = one.new_cache(slots=1, slot_tokens=len(embeds) + generation.max_new_tokens)
    row = PrefillRow(slot=0, start=0, embeds=embeds, mode=generation.mode, long_rope=long_rope)
    logits = one.prefill(kv, [row])
    found: list[int] = []
    while True:
        token = int(logits.argmax())
        if token in stop_ids() and not generation.forced:
            return tuple(found)
        found.append(token)
        if len(found) == generation.max_new_tokens:
            return tuple(found)
        length = len(embeds) + len(found) - 1
        step = DecodeRow(slot=0, length=length, token=token, mode=generation.mode, long_rope=long_rope)
        logits = one.decode_rows(kv, [step])


def mixed(count: int) -> Sequence[Generation]:
    """So many different requests, speech and text by turns."""
    return [
        speech(0.3 + 0.37 * n, new=5 + n, seed=n) if n % 2 else text("say " + "more " * n, new=20 - n)
        for n in range(count)
    ]


@cache
def wanted(number: int) -> tuple[Generation, tuple[int, ...]]:
    """One of ten mixed requests, and its tokens where it is computed by itself."""
    generation = mixed(10)[number]
    return generation, alone(generation)
