"""Between a server and the engine: every request gets one last response, canaries soon, and nobody is asked too often."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from time import monotonic, sleep
from typing import Any

import pytest

pytest.importorskip("torch")

from speech.contract import BUSY_PREFIX, SpeechRequest, Task
from speech.phi4 import serving
from speech.phi4.engine import Engine
from speech.phi4.generation import Generation
from speech.phi4.limits import Limits
from speech.phi4.refusals import QueueFull
from speech.phi4.service import Speech
from speech.phi4.serving import Code, Serving
from speech.phi4.transcript import Utterance, dump_transcript
from tests.speech.phi4 import rig

LIMITS = Limits(
    utterance_slots=2, utterance_slot_tokens=1_024, summary_slots=1, summary_slot_tokens=2_048, shared_slots=2,
    shared_slot_tokens=512, queue=4, guard=False,
)  # fmt: skip
LONG = SpeechRequest(task=Task.GENERATE, text="go on", max_tokens=500)
SHORT = replace(LONG, max_tokens=2)
SECONDS = 30.0


class Told:
    """A reply that keeps what it was given; `broken` raises where an answer is sent."""

    def __init__(self, *, broken: bool = False) -> None:
        self.answers: list[Mapping[str, Any]] = []
        self.errors: list[tuple[str, Code]] = []
        self.asked = 0
        self.gone = False
        self._broken = broken

    def send(self, tensors: Mapping[str, Any], *, last: bool) -> None:
        assert last
        if self._broken:
            raise ValueError("the server cannot take this")
        self.answers.append(tensors)

    def refuse(self, text: str, code: Code) -> None:
        self.errors.append((text, code))

    def cancelled(self) -> bool:
        self.asked += 1
        return self.gone

    @property
    def ended(self) -> int:
        """Last responses."""
        return len(self.answers) + len(self.errors)


@contextmanager
def served(*, run: bool = True, **options: Any) -> Iterator[tuple[Serving, Speech]]:
    """With `run` False nobody steps but the test, until the end."""
    speech = Speech(rig.model(), rig.tokenizer(), LIMITS, version="tiny", stop_ids=rig.stop_ids(), run=run)
    made = Serving(speech, **options)
    try:
        yield made, speech
    finally:
        if not run:
            rig.run_all(speech.engine)
        made.close(timeout=0)


def ask(made: Serving, request: SpeechRequest, **options: Any) -> Told:
    told = Told(broken=options.pop("broken", False))
    made.take(request.tensors, told, **options)
    return told


def until(true: Callable[[], bool]) -> None:
    deadline = monotonic() + SECONDS
    while not true():
        assert monotonic() < deadline, "it never came true"
        sleep(0.01)


def test_an_answer_that_cannot_be_sent_becomes_an_error() -> None:
    with served() as (made, _):
        told, beside = ask(made, SHORT, broken=True), ask(made, SHORT)
        until(lambda: bool(told.ended and beside.ended))
    assert told.errors == [("ValueError while answering", "internal")]
    assert len(beside.answers) == 1


def test_tensors_that_cannot_be_read_are_that_requests_error() -> None:
    with served() as (made, _):
        told = Told()
        made.take(lambda: {}["AUDIO"], told)
    assert told.errors == [("KeyError while answering", "internal")]


def test_a_request_that_fails_while_it_is_queued_is_answered_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its first part fails on the engine's thread before the second one is refused."""
    call = [Utterance(id=str(n), role="agent", text="Good morning, how can I help? " * 20) for n in range(4)]
    request = SpeechRequest(task=Task.SUMMARIZE, text=dump_transcript(call), max_tokens=20)
    with served(run=False) as (made, speech):
        parts, submit = [0], speech.engine.submit

        def fails(engine: Engine, generation: Generation, **options: Any) -> Any:
            parts[0] += 1
            if parts[0] == 2:
                raise QueueFull("no room")
            handle = submit(generation, **options)
            for running in engine.batch.scheduler.entries:
                engine.batch.fail(running, RuntimeError("out of memory"))
            return handle

        monkeypatch.setattr(speech.engine, "submit", partial(fails, speech.engine))
        told = ask(made, request)
        until(lambda: told.ended > 0)
        assert parts[0] == 2
        beside = ask(made, LONG)
        until(lambda: beside.ended > 0)  # whatever came for the first went the same way before
        assert told.errors == [("EngineFailed while answering", "internal")]


def test_numbers_that_cannot_be_told_stop_nobody_from_being_looked_after() -> None:
    tries: list[object] = []

    def report(*numbers: object) -> None:
        tries.append(numbers)
        raise OSError("the server is not there")

    with served(report=report) as (made, _):
        until(lambda: len(tries) > 1)
        told = ask(made, LONG)
        told.gone = True
        until(lambda: told.ended > 0)
        assert told.errors == [("cancelled", "cancelled")]


def test_who_waits_for_a_slot_is_asked_rarely() -> None:
    with served(run=False) as (made, speech):
        running = [ask(made, LONG) for _ in range(2)]
        speech.engine.step()
        waiting = [ask(made, LONG) for _ in range(2)]
        until(lambda: min(told.asked for told in waiting) > 1)
        assert min(told.asked for told in running) > 5 * max(told.asked for told in waiting)
        waiting[1].gone = True
        until(lambda: not speech.engine.step() or bool(waiting[1].errors))
        assert waiting[1].errors == [("cancelled", "cancelled")]


def ended_by_a_step(canary: Told, crowd: Sequence[Told], speech: Speech) -> None:
    """Not before the engine's next step, however often the others were looked at; then at once."""
    seen = crowd[0].asked
    until(lambda: crowd[0].asked > seen + 1)
    assert canary.ended == 0
    speech.engine.step()
    until(lambda: canary.ended > 0)


def test_a_canary_behind_a_full_queue_is_answered_by_the_next_step() -> None:
    """And not before: an engine that stands still is found out."""
    with served(run=False) as (made, speech):
        crowd = [ask(made, LONG) for _ in range(LIMITS.queue)]
        assert ask(made, SHORT).errors[0][1] == "unavailable"
        canary = ask(made, SHORT, canary=True)
        ended_by_a_step(canary, crowd, speech)
        [(text, code)] = canary.errors
        assert text.startswith(BUSY_PREFIX)
        assert code == "unavailable"


def test_a_canary_that_would_wait_long_is_answered_by_the_next_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "_CANARY_SECONDS", 0.1)
    with served(run=False) as (made, speech):
        crowd = [ask(made, LONG) for _ in range(LIMITS.queue - 1)]
        canary = ask(made, SHORT, canary=True)
        ended_by_a_step(canary, crowd, speech)
        assert [text.startswith(BUSY_PREFIX) for text, _ in canary.errors] == [True]
        rig.run_all(speech.engine)
        until(lambda: all(told.ended for told in crowd))
        assert canary.ended == 1, "its own answer came as well"


def test_a_canary_of_an_engine_with_time_is_a_request_like_any_other() -> None:
    with served() as (made, _):
        canary = ask(made, SHORT, canary=True)
        until(lambda: canary.ended > 0)
    assert len(canary.answers) == 1
