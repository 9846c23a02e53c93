"""What goes wrong with one request, or is ended, is its own affair: refusals, cancelling, errors, the drain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")


from speech.contract import FinishReason, InvalidRequest, UnsupportedTask
from speech.phi4 import flight
from speech.phi4.generation import Completion, Delta, Event, Failed, Generation, Prompt
from speech.phi4.model import Mode
from speech.phi4.refusals import Closing, EngineFailed, QueueFull
from tests.speech.phi4 import rig

WAIT = 30.0


def test_cancelling_ends_it_within_a_step_and_frees_its_slot() -> None:
    engine = rig.engine(replace(rig.SMALL, utterance_slots=1))
    running = engine.submit(rig.text(new=100, forced=True))
    waiting = engine.submit(rig.text(new=3, forced=True))
    for _ in range(4):
        engine.step()
    running.cancel()
    engine.step()
    found = running.result(0)
    assert found.finish_reason is FinishReason.CANCELLED
    assert 0 < len(found.token_ids) < 6
    rig.run_all(engine)
    assert len(waiting.result(0).token_ids) == 3
    assert (engine.metrics.cancelled_total, engine.metrics.kv_tokens) == (1, 0)


@pytest.mark.parametrize("late", [False, True])
def test_nothing_comes_after_the_answer(late: bool) -> None:
    """Also where one more token was under way when it ended."""
    engine = rig.engine(late=late)
    events: list[Event] = []
    handle = engine.submit(rig.text(new=100, forced=True), on_event=events.append)
    beside = engine.submit(rig.text(new=30, forced=True))
    for _ in range(8):
        engine.step()
    handle.cancel()
    rig.run_all(engine)
    assert [type(event) for event in events if not isinstance(event, Delta)] == [Completion]
    assert isinstance(events[-1], Completion)
    assert events[-1].text == "".join(event.text for event in events if isinstance(event, Delta))
    assert len(beside.result(0).token_ids) == 30
    assert engine.metrics.new_tokens_total == 30 + len(handle.result(0).token_ids)


def test_a_caller_that_went_away_is_asked_for_every_step() -> None:
    engine = rig.engine()
    gone: list[bool] = []
    handle = engine.submit(rig.text(new=100, forced=True), cancelled=lambda: bool(gone))
    for _ in range(3):
        engine.step()
    gone.append(True)
    engine.step()
    assert handle.result(0).finish_reason is FinishReason.CANCELLED
    waits = engine.submit(rig.text(), cancelled=lambda: True)
    engine.step()
    assert (waits.result(0).token_ids, waits.result(0).finish_reason) == ((), FinishReason.CANCELLED)


def test_audio_that_nobody_heard_is_not_counted_as_heard() -> None:
    engine = rig.engine()
    heard = engine.submit(rig.speech(0.5, new=2))
    gone = engine.submit(rig.speech(3.0), cancelled=lambda: True)
    rig.run_all(engine)
    assert (heard.done, gone.result(0).finish_reason) == (True, FinishReason.CANCELLED)
    assert engine.metrics.audio_seconds_total == 0.5


def test_a_full_queue_refuses_and_says_so() -> None:
    engine = rig.engine(replace(rig.SMALL, queue=2))
    handles = [engine.submit(rig.text(new=3)) for _ in range(2)]
    with pytest.raises(QueueFull, match="2 requests wait"):
        engine.submit(rig.text())
    rig.run_all(engine)
    assert all(handle.done for handle in handles)
    engine.submit(rig.text())


@pytest.mark.parametrize(
    ("generation", "message"),
    [
        (lambda: rig.text("more " * 1_000), "holds at most 1024"),
        (lambda: rig.text(new=0), "must be 1 to"),
        (lambda: rig.text(new=1_000_000), "must be 1 to"),
        (lambda: Generation(prompt=Prompt(before=()), mode=Mode.LANGUAGE, max_new_tokens=4), "empty"),
        (lambda: Generation(prompt=Prompt(before=(999,)), mode=Mode.LANGUAGE, max_new_tokens=4), "token id"),
        (lambda: replace(rig.speech(), mode=Mode.LANGUAGE), "speech mode"),
        (lambda: replace(rig.text(), mode=Mode.VISION), "not implemented"),
        (lambda: _audio(np.full(16_000, np.nan, np.float32)), "NaN"),
        (lambda: _audio(np.full(16_000, 12_000, np.float32)), "not scaled"),
        (lambda: _audio(np.zeros(100, np.float32)), "too short"),
        (lambda: _audio(np.zeros(0, np.float32)), "too short"),
    ],
)
def test_what_can_never_be_answered_is_refused_at_once(generation: Callable[[], Generation], message: str) -> None:
    engine = rig.engine()
    with pytest.raises((InvalidRequest, UnsupportedTask), match=message):
        engine.submit(generation())
    assert engine.metrics.requests_total == 0


def _audio(samples: np.ndarray) -> Generation:  # type: ignore[type-arg]
    prompt = replace(rig.speech().prompt, audio=samples)
    return replace(rig.speech(), prompt=prompt)


@pytest.mark.parametrize("late", [False, True])
def test_an_error_inside_fails_one_request_only(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The encoder refuses a batch because of one clip: the others are encoded again, without it."""
    engine = rig.engine(late=late)
    good, bad = rig.speech(0.5, new=5, seed=1), rig.speech(0.7, new=5, seed=2)
    encode = engine.model.encode

    def fussy(clips: list[object], **named: Any) -> object:
        if any(clip.samples is bad.prompt.audio for clip in clips):  # type: ignore[attr-defined]
            raise RuntimeError("secret words of a customer")
        return encode(clips, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(engine.model, "encode", fussy)
    events: list[Event] = []
    running = engine.submit(rig.text(new=8, forced=True))
    handles = [engine.submit(good), engine.submit(bad, on_event=events.append)]
    rig.run_all(engine)
    assert handles[0].result(0).token_ids == rig.alone(good)
    assert len(running.result(0).token_ids) == 8
    with pytest.raises(EngineFailed, match="RuntimeError while computing") as caught:
        handles[1].result(0)
    assert "secret" not in str(caught.value)
    assert isinstance(events[0], Failed)
    assert (engine.metrics.failures_total, engine.metrics.kv_tokens) == (1, 0)


@pytest.mark.parametrize("late", [False, True])
def test_a_step_that_fails_is_repeated_for_each_alone(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Decoding fails whenever one slot is in the batch: the request in it fails, the others lose nothing."""
    engine = rig.engine(late=late)
    handles = [engine.submit(rig.wanted(number)[0]) for number in (0, 2, 4)]
    decode, calls = engine.model.decode, [0]

    def fussy(cache: Any, mode: Mode, ids: Any, slots: Any, lengths: Any, long: Any) -> Any:
        calls[0] += 1
        if calls[0] > 4 and 1 in slots.tolist():
            raise RuntimeError("slot 1")
        return decode(cache, mode, ids, slots, lengths, long)

    monkeypatch.setattr(engine.model, "decode", fussy)
    rig.run_all(engine)
    with pytest.raises(EngineFailed):
        handles[1].result(0)
    assert [handles[n].result(0).token_ids for n in (0, 2)] == [rig.wanted(n)[1] for n in (0, 4)]


@pytest.mark.parametrize("late", [False, True])
def test_tokens_that_cannot_be_copied_are_computed_again(late: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of two prompts, and those of a later step: nobody loses anything."""
    engine = rig.engine(late=late)
    copy, calls = flight._copy, [0]

    def fails(tokens: flight.Tokens) -> Any:
        calls[0] += 1
        if len(tokens.members) > 1 and calls[0] in (1, 6):
            raise RuntimeError("no pinned memory")
        return copy(tokens)

    monkeypatch.setattr(flight, "_copy", fails)
    handles = [engine.submit(rig.wanted(number)[0]) for number in (0, 2)]
    rig.run_all(engine)
    assert calls[0] > 6
    assert [handles[n].result(0).token_ids for n in (0, 1)] == [rig.wanted(n)[1] for n in (0, 2)]


def test_logits_that_are_no_numbers_end_their_request_only(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rig.engine()
    handles = [engine.submit(rig.wanted(number)[0]) for number in (0, 2)]
    decode = engine.model.decode

    def sick(cache: Any, mode: Mode, ids: Any, slots: Any, lengths: Any, long: Any) -> Any:
        logits = decode(cache, mode, ids, slots, lengths, long)
        logits[slots == 1] = float("nan")
        return logits

    monkeypatch.setattr(engine.model, "decode", sick)
    rig.run_all(engine)
    with pytest.raises(EngineFailed, match="no numbers"):
        handles[1].result(0)
    assert handles[0].result(0).token_ids == rig.wanted(0)[1]


def test_a_callback_that_raises_ends_its_own_request_only() -> None:
    engine = rig.engine()

    def broken(event: Event) -> None:
        raise OSError("the sender is gone")

    loud = engine.submit(rig.text(new=50, forced=True), on_event=broken)
    quiet = engine.submit(rig.wanted(2)[0])
    rig.run_all(engine)
    assert loud.result(0).finish_reason is FinishReason.CANCELLED
    assert quiet.result(0).token_ids == rig.wanted(2)[1]


def test_draining_ends_what_is_here_and_takes_nothing_new() -> None:
    engine = rig.engine(run=True)
    handles = [engine.submit(rig.text(new=30, forced=True)) for _ in range(6)]
    assert engine.close(timeout=WAIT)
    assert [len(handle.result(0).token_ids) for handle in handles] == [30] * 6
    for inside in (False, True):  # a part of admitted work, too: the thread that would answer it has ended
        with pytest.raises(Closing):
            engine.submit(rig.text(), inside=inside)


def test_a_drain_that_takes_too_long_cancels_the_rest() -> None:
    engine = rig.engine(run=True)
    handle = engine.submit(rig.text(new=200, forced=True))
    assert not engine.close(timeout=0)
    assert handle.result(0).finish_reason is FinishReason.CANCELLED


def test_a_fault_of_the_engine_itself_answers_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = rig.engine(run=True)
    monkeypatch.setattr(engine.batch, "_sweep", lambda: 1 / 0)
    with pytest.raises(EngineFailed):
        engine.submit(rig.text()).result(WAIT)
    with pytest.raises(EngineFailed, match="stopped"):
        engine.submit(rig.text())
    engine.close()
