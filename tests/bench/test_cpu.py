"""The CPU figures, and the counting of the detector's time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from bench import timed
from bench.cpu import cpu
from bench.result import Result
from speech.vad import CONTEXT, STATE, WINDOW, SileroVad


def figures(parts: dict[str, float], *, count: float = 1_000.0, models: float | None = None) -> dict[str, Result]:
    return {one.name: one for one in cpu("x", parts, count, models=models, capacity=True)}


def test_the_share_of_everything_but_the_models() -> None:
    found = figures({"whisper": 6.0, "aspects": 1.0, "cvib": 1.0, "detector": 1.0, "kafka": 0.5, "segmenter": 0.5})
    assert found["x_cpu_but_models"].value == pytest.approx(10)
    assert found["x_cpu_but_models"].met
    assert found["x_cpu"].value == pytest.approx(10)
    assert not figures({"whisper": 8.0, "triton": 2.0})["x_cpu_but_models"].met


def test_where_models_take_next_to_nothing_the_rest_may_be_more() -> None:
    found = figures({"cvib": 0.75, "reviewer": 0.25})
    assert found["x_cpu_but_models"].target == "at most 30"
    assert found["x_cpu_but_models"].met


def test_the_ratio_to_the_models_alone() -> None:
    assert figures({"whisper": 8.0, "triton": 2.0}, models=7.0)["x_cpu"].ratio == pytest.approx(0.7)


def test_the_detectors_time_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SileroVad, "step", SileroVad.step)  # to be put back
    np.zeros(1).tofile(tmp_path / "spent")
    timed.count_steps(np.memmap(tmp_path / "spent", dtype=np.float64, shape=(1,)))
    zeros = np.zeros((4, STATE), np.float32)
    SileroVad().step(np.zeros((4, CONTEXT + WINDOW), np.float32), zeros, zeros)
    assert 0 < float(np.fromfile(tmp_path / "spent")[0]) < 5
