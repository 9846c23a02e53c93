"""`python -m bench.phi4` runs through with tiny sizes; its figures mean nothing here, and it says so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="phi4 runs in .venv-torch")

from bench.phi4 import engine
from bench.phi4.__main__ import targets
from bench.phi4.roofline import Rates, Work
from bench.phi4.work import SIZES
from speech.phi4.model import Phi4Model
from speech.phi4.refusals import EngineFailed
from speech.phi4.synthetic import published_config, synthetic

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.timeout(280)
def test_one_command_measures_both_sides(tmp_path: Path) -> None:
    arguments = ["--size", "tiny", "--device", "cpu", "--flight", "4", "--batch", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.phi4", *arguments],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True, text=True, timeout=260, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench-phi4.json").read_text())
    assert [one["scenario"] for one in found["engine"]] == [
        "card", "load", "30s", "mix", "shares", "one stream", "1 summaries", "16 summaries", "4 summaries beside 32 streams",
    ]  # fmt: skip
    assert found["engine"][-1]["deltas"] > 5_000, "without deltas no stall is seen"
    assert [one["scenario"] for one in found["baseline"]] == ["30s", "mix"]
    shares = found["engine"][4]
    assert sum(shares[f"{part}_share"] for part in ("encoder", "prefill", "decode")) == pytest.approx(1)
    assert all(one["rtfx"] > 0 for one in (*found["engine"][2:4], *found["baseline"]))
    assert {one["met"] for one in found["targets"]} == {"not measured"}


def test_what_does_not_fit_is_said_and_the_rest_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    """A card without room for 16 summaries tells so in a step, as the request's own error."""

    def full(handles: object) -> None:
        raise EngineFailed("OutOfMemoryError while computing")

    overrides, rank = SIZES["tiny"]
    model = Phi4Model.build(synthetic(published_config(**overrides), rank=rank))
    monkeypatch.setattr(engine, "_done", full)
    found = list(engine._summaries(model, seconds=2.0))
    assert [one["scenario"] for one in found] == ["1 summaries", "16 summaries", "4 summaries beside 32 streams"]
    assert all("OutOfMemoryError" in one["why"] for one in found)
    card = {"scenario": "card", "device": "NVIDIA H200"}
    assert {one["met"] for one in targets([card, *found], [])} == {"missed"}


def test_the_roofline_is_the_arithmetic_of_the_design() -> None:
    """A 30 s clip of 110 tokens on an H100: 790 TFLOP/s, 3.0 TB/s; published size."""
    work = Work.of(published_config(), 460_000_000)
    rates = Rates(matrix=790e12, copy=3.0e12)
    ideal = {flight: work.ideal_rtfx(rates, seconds=30, new_tokens=110, flight=flight) for flight in (1, 32, 128, 512)}
    assert ideal[1] == pytest.approx(104, rel=0.05)
    assert ideal[32] == pytest.approx(2_048, rel=0.05)
    assert ideal[128] == pytest.approx(3_725, rel=0.05)
    assert ideal[512] == pytest.approx(4_684, rel=0.05)


def test_targets_bind_on_the_cards_they_were_set_for() -> None:
    engine = [{"scenario": "card", "device": "NVIDIA H100 80GB HBM3"}, {"scenario": "30s", "rtfx": 1_600.0}]
    met = {one["target"][:12]: one["met"] for one in targets(engine, [{"scenario": "30s", "rtfx": 450.0}])}
    assert met["30 s clips, "] == "met"
    assert met["30 s clips: "] == "missed"
    assert met["one stream: "] == "missed", "what was not measured there was not met"
