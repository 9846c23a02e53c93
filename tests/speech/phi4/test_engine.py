"""The running batch gives every request what it gets alone, whoever joins and leaves meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speech.contract import FinishReason
from speech.phi4.generation import Completion, Delta, Event, Generation, Prompt
from speech.phi4.handle import Handle
from speech.phi4.model import Mode
from tests.speech.phi4 import rig

WAIT = 30.0


@pytest.mark.parametrize("late", [False, True])
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    order=st.permutations(range(10)),
    steps=st.lists(st.integers(0, 6), min_size=10, max_size=10),
    cancelled=st.sets(st.integers(0, 9), max_size=2),
)
def test_tokens_are_those_of_each_request_alone(
    late: bool, order: list[int], steps: list[int], cancelled: set[int]
) -> None:
    """`late` reads each step after the next was launched, as on a GPU."""
    engine = rig.engine(late=late)
    handles: dict[int, Handle[Completion]] = {}
    for number, pause in zip(order, steps, strict=True):
        handles[number] = engine.submit(rig.wanted(number)[0])
        for _ in range(pause):
            engine.step()
        if number in cancelled:
            handles[number].cancel()
    rig.run_all(engine)
    for number, handle in handles.items():
        found = handle.result(0)
        tokens = rig.wanted(number)[1]
        if found.finish_reason is FinishReason.CANCELLED:
            assert number in cancelled
            assert found.token_ids == tokens[: len(found.token_ids)]
        else:
            assert found.token_ids == tokens
            assert found.finish_reason in (FinishReason.STOP, FinishReason.LENGTH)
    assert engine.metrics.kv_tokens == 0


def test_the_references_differ_so_the_test_can_fail() -> None:
    assert len({rig.wanted(number)[1] for number in range(10)}) == 10
    other = rig.speech(1.41, new=8, seed=4)
    assert rig.alone(other) != rig.wanted(3)[1]


def test_the_references_are_what_transformers_gives_one_at_a_time() -> None:
    """So the running batch above is compared with transformers, not with this engine alone."""
    import torch

    from tests.speech.phi4.reference import Reference, Request

    reference = Reference(rig.checkpoint(), torch.float64)
    for number in range(10):
        generation, tokens = rig.wanted(number)
        prompt = generation.prompt
        request = Request(before=prompt.before, after=prompt.after, samples=prompt.audio)
        found = reference.answer(request, generation.max_new_tokens).tokens
        assert tuple(token for token in found if token not in rig.stop_ids()) == tokens


def test_requests_join_a_batch_that_runs() -> None:
    engine = rig.engine()
    first = engine.submit(rig.text(new=40, forced=True))
    for _ in range(5):
        engine.step()
    late = engine.submit(rig.speech(new=4, forced=True))
    for _ in range(5):
        engine.step()
    assert late.done
    assert not first.done
    rig.run_all(engine)
    assert len(first.result(0).token_ids) == 40


def test_the_thread_answers_many_callers_at_once() -> None:
    results: dict[int, Completion] = {}
    with rig.engine(replace(rig.SMALL, queue=100), run=True) as engine:

        def call(number: int) -> None:
            results[number] = engine.submit(rig.wanted(number)[0]).result(WAIT)

        callers = [threading.Thread(target=call, args=(number,)) for number in range(10)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
    assert {number: found.token_ids for number, found in results.items()} == {n: rig.wanted(n)[1] for n in range(10)}
    counted = engine.metrics
    assert (counted.requests_total, counted.completions_total, counted.queued, counted.running) == (10, 10, 0, 0)
    assert counted.new_tokens_total == sum(len(found.token_ids) for found in results.values())
    assert counted.rtfx > 0
    assert counted.tokens_per_second > 0


def test_an_answer_tells_what_happened() -> None:
    engine = rig.engine()
    generation = rig.speech(1.0, new=6, forced=True)
    handle = engine.submit(generation)
    rig.run_all(engine)
    found = handle.result(0)
    prompt = generation.prompt
    assert found.prompt_tokens == len(prompt.before) + 13 + len(prompt.after)  # 98 frames of 10 ms, 8 a token
    assert found.finish_reason is FinishReason.LENGTH
    assert -20 < found.mean_logprob < 0
    times = found.timings
    assert min(times.encode_ms, times.prefill_ms, times.decode_ms, times.first_ms) > 0
    assert times.queue_ms >= 0
    assert times.infer_ms < 1e3 * WAIT


def test_batches_padded_for_graphs_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recorder computes eagerly: what CUDA would do with the padded rows, without CUDA."""
    used: list[int] = []

    def record(compute: Callable[[], tuple[Any, Any]]) -> tuple[tuple[Any, Any], Callable[[], None]]:
        outputs = compute()

        def replay() -> None:
            used.append(len(outputs[0]))
            for fixed, new in zip(outputs, compute(), strict=True):
                fixed.copy_(new)

        return outputs, replay

    monkeypatch.setattr("speech.phi4.graphs.cuda_recorder", lambda: record)
    engine = rig.engine(replace(rig.SMALL, graph_sizes=(2, 3)), late=True)
    handles = [engine.submit(rig.wanted(number)[0]) for number in range(10)]
    rig.run_all(engine)
    assert [handle.result(0).token_ids for handle in handles] == [rig.wanted(number)[1] for number in range(10)]
    assert set(used) == {2, 3}


def test_deltas_are_the_text_and_come_before_the_answer() -> None:
    engine = rig.engine()
    events: list[Event] = []
    handle = engine.submit(rig.text(new=60, forced=True), on_event=events.append)
    rig.run_all(engine)
    *deltas, last = events
    assert last is handle.result(0)
    pieces = [delta.text for delta in deltas if isinstance(delta, Delta)]
    assert len(pieces) == len(deltas) > 10
    tokens = handle.result(0).token_ids
    assert "".join(pieces) == handle.result(0).text == rig.tokenizer().decode(tokens, skip_special_tokens=True)


@pytest.mark.parametrize("late", [False, True])
def test_a_shared_beginning_is_computed_once_and_changes_nothing(late: bool) -> None:
    count = len(rig.ids("<|system|>be kind<|end|>"))
    requests = [make(shared=count, new=10) for make in (rig.text, rig.speech) for _ in range(2)]
    engine = rig.engine(late=late)
    handles = [engine.submit(request) for request in requests]
    rig.run_all(engine)
    found = [handle.result(0) for handle in handles]
    assert [one.shared_tokens for one in found] == [count] * 4
    assert [one.token_ids for one in found] == [rig.alone(replace(request)) for request in requests]
    assert engine.metrics.shared_tokens_total == 4 * count
    # A third kind takes the place of the least recently used; too long a beginning is computed as any prompt.
    for request in (rig.text(shared=7, new=10), rig.text("x", shared=3, new=10), requests[0]):
        handle = engine.submit(request)
        rig.run_all(engine)
        assert handle.result(0).token_ids == rig.alone(request)
    tight = rig.engine(replace(rig.SMALL, shared_slot_tokens=4))
    handle = tight.submit(requests[0])
    rig.run_all(tight)
    assert (handle.result(0).shared_tokens, handle.result(0).token_ids) == (0, found[0].token_ids)


def test_a_long_prompt_in_chunks_gives_the_same_and_stalls_nobody() -> None:
    engine = rig.engine()
    summary = rig.text("more " * 150, new=20)  # some 450 tokens, 64 at a time
    live = engine.submit(rig.text(new=60, forced=True))
    engine.step()
    told: list[int] = []
    long = engine.submit(summary, on_event=lambda event: told.append(0))
    chunks = 0
    while not told:
        before = engine.metrics.new_tokens_total
        engine.step()
        chunks += 1
        assert engine.metrics.new_tokens_total > before, "a step without a token for the stream that runs"
    assert chunks >= 5
    rig.run_all(engine)
    assert long.result(0).token_ids == rig.alone(summary)
    assert len(live.result(0).token_ids) == 60


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_a_long_recording_is_encoded_in_parts_and_stalls_nobody(rate: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks of 40 s a step, between them everybody gets a token; the tokens are those of the clip in one piece."""
    limits = replace(rig.SMALL, encode_blocks=2, summary_slot_tokens=4_096, chunk_tokens=4_096, prefill_tokens=4_096)
    engine = rig.engine(limits)
    parts: list[int] = []
    encode = engine.model.encode

    def counted(clips: Any, **named: Any) -> Any:
        found = encode(clips, **named)
        parts.extend(len(one) for one in found)
        return found

    monkeypatch.setattr(engine.model, "encode", counted)
    live = engine.submit(rig.text(new=30, forced=True))
    engine.step()
    prompt = replace(rig.speech().prompt, audio=rig.tone(190.3, 1, rate), rate=rate)
    generation = replace(rig.speech(new=8), prompt=prompt)
    long, short = engine.submit(generation), engine.submit(rig.speech(0.5, new=3))
    while len(parts) < 4:
        before = engine.metrics.new_tokens_total
        engine.step()
        assert engine.metrics.new_tokens_total > before, "a step without a token for the stream that runs"
    assert parts == [6, 1_000, 1_000, 379], "one short clip beside the first part"
    rig.run_all(engine)
    monkeypatch.undo()
    assert long.result(0).token_ids == rig.alone(generation)
    assert (short.done, len(live.result(0).token_ids)) == (True, 30)


def test_rope_is_chosen_at_admission_from_prompt_and_limit() -> None:
    big = replace(rig.SMALL, summary_slot_tokens=6_000, chunk_tokens=512, prefill_tokens=1_024)
    short, long = rig.text("more", new=200), rig.text("more", new=4_095)
    engine = rig.engine(big)
    first, second = engine.submit(short), engine.submit(replace(long))
    for _ in range(12):
        engine.step()
    second.cancel()
    rig.run_all(engine)
    assert (first.result(0).long_rope, second.result(0).long_rope) == (False, True)
    want = rig.alone(replace(long, max_new_tokens=10), long_rope=True)
    assert second.result(0).token_ids[:10] == want
    assert rig.alone(replace(long, max_new_tokens=10)) != want


def test_a_shared_beginning_is_kept_for_each_kind_of_rope() -> None:
    engine = rig.engine(replace(rig.SMALL, summary_slot_tokens=6_000))
    count = len(rig.ids("<|system|>be kind<|end|>"))
    short, long = rig.text(shared=count, new=10), rig.text(shared=count, new=4_090)
    handles = [engine.submit(short), engine.submit(long)]
    for _ in range(14):
        engine.step()
    handles[1].cancel()
    rig.run_all(engine)
    found = [handle.result(0) for handle in handles]
    assert [one.long_rope for one in found] == [False, True]
    assert found[0].token_ids == rig.alone(short)
    assert found[1].token_ids[:10] == rig.alone(replace(long, max_new_tokens=10), long_rope=True)


def test_nothing_stops_a_loop_but_the_guard() -> None:
    # "Constrained" to one token the tiny model loops for certain.
    generation = replace(rig.text(new=100), guard=True)
    free, guarded = rig.engine(), rig.engine(replace(rig.SMALL, guard=True))
    for engine, guard in ((free, False), (guarded, True)):
        handle = engine.submit(replace(generation, guard=guard, prompt=Prompt(before=_looping())))
        rig.run_all(engine)
        found = handle.result(0)
        assert (found.finish_reason is FinishReason.LOOP) == guard
        assert (len(found.token_ids) < 100) == guard
    assert (free.metrics.loops_total, guarded.metrics.loops_total) == (0, 1)


@cache
def _looping() -> tuple[int, ...]:
    """A prompt after which the tiny model repeats itself for ever: greedy decoding of random weights soon does."""
    from speech.phi4.loops import repeats

    for token in range(300):
        found = rig.alone(Generation(prompt=Prompt(before=(token,)), mode=Mode.LANGUAGE, max_new_tokens=100))
        if len(found) == 100 and any(repeats(found[:n]) for n in range(101)):
            return (token,)
    raise AssertionError("no prompt makes the model loop")


def test_the_running_batch_gives_what_transformers_gives_one_at_a_time(
    tiny: Path, models: Any, references: Any
) -> None:
    import torch
    from tokenizers import Tokenizer

    from speech.phi4.engine import Engine
    from speech.phi4.stream import Vocabulary
    from tests.speech.phi4.reference import Request, noise

    requests = [Request(samples=None if n == 2 else noise(0.2 + 0.9 * n, n)) for n in range(5)]
    model, reference = models(dtype=torch.float64), references(torch.float64)
    vocabulary = Vocabulary(Tokenizer.from_file(str(tiny / "tokenizer.json")))
    engine = Engine(model, rig.SMALL, vocabulary=vocabulary, stop_ids=model.config.eos_ids, run=False)
    handles = []
    for request in requests:
        prompt = Prompt(before=request.before, audio=request.samples, after=request.after)
        handles.append(engine.submit(Generation(prompt=prompt, mode=request.mode, max_new_tokens=16)))
        engine.step()
    rig.run_all(engine)
    for request, handle in zip(requests, handles, strict=True):
        want = reference.answer(request, 16)
        found = handle.result(0)
        assert found.token_ids == tuple(token for token in want.tokens if token not in model.config.eos_ids)
        chosen = want.logits.double().log_softmax(-1).gather(-1, torch.tensor(want.tokens)[:, None])
        assert found.mean_logprob == pytest.approx(
            float(chosen.mean()), abs=1e-6
        )  # generate rounds its logits to float32
