"""Test 9: Triton is ill in every way it can be. A supervisor sees it and starts it anew; nothing empty or NaN is stored.

A slow model and a full queue are no illness: for them nobody is restarted.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import numpy as np
import psutil
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from stack import control
from stack.plan import Plan
from stack.stack import Stack
from tests.conftest import TEST_MODELS, make_stack
from tests.faults import ills
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.results import Figures
from tests.faults.sending import reviews
from tests.homes import temporary_home

#: As the issue asks. A start of Triton is part of the second.
SEEN_SECONDS, RESTARTED_SECONDS = 10.0, 30.0
#: After so much health the pause before a restart is the shortest again (stack/pause.py: 30 s).
WELL_SECONDS = 31.0
#: A canary's patience is 5 s, and two misses are an illness.
QUEUED, QUEUED_SECONDS, CROWD = 60, 30.0, "turtle"


@pytest.fixture(scope="module")
def supervised() -> Iterator[Stack]:
    """Servers that a real supervisor watches."""
    with temporary_home() as home:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FAULTS", str(home / ills.FOLDER))
            control.up(home, Plan(model_repositories=[str(TEST_MODELS)], prepare=[], workers={}, env={}))
        try:
            yield make_stack(home)
        finally:
            control.down(home)


class Patient:
    """The supervised Triton, and how long its illnesses took."""

    def __init__(self, p: Chaos) -> None:
        self._p = p
        self.seen: dict[str, float] = {}
        self.restarted: dict[str, float] = {}

    @property
    def unit(self) -> dict[str, Any]:
        found: dict[str, Any] = control.status(self._p.stack.home)["units"]["triton"]
        return found

    def recover(self) -> None:
        """Waits until the pause before its next restart is short again: who is ill again and again is started ever more rarely."""
        self._p.wait(
            lambda: self.unit["state"] == "healthy" and well_for(self.unit) > WELL_SECONDS, "it is well for long"
        )

    def ordeal(self, name: str, strike: Callable[[], None], cure: Callable[[], None] = lambda: None) -> None:
        """Strikes, and waits until the supervisor saw it and the server is well again. `cure` comes with the restart."""
        self._p.wait(lambda: self.unit["state"] == "healthy", "a healthy Triton")
        before = self.unit["restarts"]
        began = time.monotonic()
        strike()
        self._p.wait(lambda: self.unit["state"] != "healthy" or self.unit["restarts"] > before, f"{name} is seen")
        self.seen[name] = time.monotonic() - began
        self._p.wait(lambda: self.unit["state"] == "restarting" or self.unit["restarts"] > before, f"{name}: a restart")
        cure()
        self._p.wait(
            lambda: self.unit["restarts"] > before and self.unit["state"] == "healthy", f"Triton after {name}", 120
        )
        self.restarted[name] = time.monotonic() - began

    def signal(self, number: int) -> None:
        os.kill(self.unit["pid"], number)

    def kill_stub(self, model: str) -> None:
        """What serves one model dies; the server stays and says that it is ready."""
        for child in psutil.Process(self.unit["pid"]).children(recursive=True):
            if f"/{model}/" in " ".join(child.cmdline()):
                child.kill()


def well_for(unit: dict[str, Any]) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(unit["since"])).total_seconds()


def nothing_hollow(p: Chaos) -> None:
    """Rows that only an ill model's answer could have made."""
    assert p.one("SELECT count(*) FROM ingest.aspect_mentions WHERE 'NaN' IN (sentiment, confidence, p_negative)") == 0
    assert p.one("SELECT count(*) FROM ingest.utterances WHERE 'NaN' IN (mean_logprob, infer_ms)") == 0


@pytest.mark.proof(9)
@pytest.mark.timeout(400)
def test_an_ill_triton_is_replaced(supervised: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    """A stub that exits, answers without content, answers that are no numbers; records arrive all the time."""
    home = supervised.home
    with Chaos(supervised) as p:
        p.start()
        patient = Patient(p)
        slices = small.slices(p.topics, 4)
        p.send(next(slices))
        patient.ordeal("dead stub", lambda: patient.kill_stub("aspects"))
        p.send(next(slices))
        patient.ordeal("empty", lambda: ills.fall_ill(home, "whisper", "empty", output="TEXT"), lambda: ills.cure(home))
        p.send(next(slices))
        patient.ordeal(
            "NaN", lambda: ills.fall_ill(home, "cvib", "nan", output="PROBABILITIES"), lambda: ills.cure(home)
        )
        p.send(next(slices))
        p.wait_until_settled(120)
        check(p, patient, figures, small, small_content)


@pytest.mark.chaos
@pytest.mark.proof(9)
@pytest.mark.timeout(300)
def test_a_full_queue_is_no_illness(supervised: Stack, figures: Figures) -> None:
    """So much is asked that canaries wait for longer than their patience, again and again. Others get their answers
    meanwhile, so the server is left alone, and what workers asked is done when the queue is short again."""
    home = supervised.home
    with Chaos(supervised, partitions=1) as p:
        p.start(["reviewer"])
        patient = Patient(p)
        p.wait(lambda: patient.unit["state"] == "healthy", "a healthy Triton")
        before, began = patient.unit["restarts"], time.monotonic()
        answers: list[InferenceServerException | None] = []
        client = InferenceServerClient(supervised.endpoints["triton"])
        try:
            with ills.ailing(home, "aspects", "slow", seconds=QUEUED_SECONDS / QUEUED, **{"if": CROWD}):
                for _ in range(QUEUED):
                    client.async_infer("aspects", [asking(CROWD)], lambda result, error: answers.append(error))
                p.send(reviews(p, 0, 20))
                p.wait(lambda: len(answers) == QUEUED, "all that queued was answered", 3 * QUEUED_SECONDS)
        finally:
            client.close()
        assert patient.unit["restarts"] == before  # first: it is why answers would be missing, or early
        assert answers == [None] * QUEUED
        assert time.monotonic() - began > QUEUED_SECONDS
        p.disturbed()
        p.verify(figures, "20 reviews", f"{QUEUED} requests before them, {QUEUED_SECONDS:g} s of work")


def asking(text: str) -> InferInput:
    made = InferInput("TEXT", [1], "BYTES")
    made.set_data_from_numpy(np.array([text.encode()], np.object_))
    return made


@pytest.mark.slow
@pytest.mark.proof(9)
@pytest.mark.timeout(1_200)
def test_every_illness_under_load(supervised: Stack, small: Load, small_content: list[str], figures: Figures) -> None:
    home = supervised.home
    strikes: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {}
    with Chaos(supervised) as p:
        p.start()
        patient = Patient(p)

        def ill(model: str, what: str, output: str) -> tuple[Callable[[], None], Callable[[], None]]:
            return lambda: ills.fall_ill(home, model, what, output=output), lambda: ills.cure(home)

        strikes = {
            "dead stub": (lambda: patient.kill_stub("cvib"), lambda: None),
            "stub exits": (lambda: ills.fall_ill(home, "aspects", "exit", times=1), lambda: None),
            "killed": (lambda: patient.signal(signal.SIGKILL), lambda: None),
            "hangs": (lambda: patient.signal(signal.SIGSTOP), lambda: None),
            "empty": ill("aspects", "empty", "VERSION"),
            "missing": ill("cvib", "drop", "PROBABILITIES"),
            "flat": ill("cvib", "flat", "PROBABILITIES"),
            "NaN": ill("whisper", "nan", "MEAN_LOGPROB"),
        }
        slices = small.slices(p.topics, len(strikes) + 2)
        for name, (strike, cure) in strikes.items():
            patient.recover()
            p.send(next(slices))
            patient.ordeal(name, strike, cure)
        # Ten times slower than anything it does, and a queue of what arrives meanwhile: no reason to restart it.
        before = patient.unit["restarts"]
        with ills.ailing(home, "aspects", "slow", seconds=0.3):
            p.send(next(slices))
            p.send(next(slices))
            p.wait_until_settled(200)
            assert patient.unit["restarts"] == before
        p.disturbed()  # only now is the model quick again
        check(p, patient, figures, small, small_content)


def check(p: Chaos, patient: Patient, figures: Figures, load: Load, expected: list[str]) -> None:
    p.verify(
        figures,
        load,
        ", ".join(patient.seen),
        expected,
        seconds_until_seen=round(max(patient.seen.values()), 1),
        seconds_until_restarted=round(max(patient.restarted.values()), 1),
    )
    nothing_hollow(p)
    assert max(patient.seen.values()) < SEEN_SECONDS, patient.seen
    assert max(patient.restarted.values()) < RESTARTED_SECONDS, patient.restarted
