"""What the benchmarks send and wait for, on the real servers with the test models."""

from __future__ import annotations

import sys
from itertools import count
from pathlib import Path

import pytest

from bench import rig
from bench.rig import Rig
from bench.site import Site
from bench.sources import Reviews
from speech.whisper import DecodeOptions
from stack.process import Child
from stack.stack import Stack
from tests.workers.pipeline import template


class Borrowed(Rig):
    """The tests' servers as a rig."""

    def __init__(self, stack: Stack) -> None:
        self.stack, self.url, self.template = stack, stack.endpoints["postgres_url"], template(stack)
        self._numbers = count()


def test_reviews_in_flight_when_sending_stops_have_their_delay(stack: Stack) -> None:
    """The reviewer is held until then: every one of them is in flight, and slow."""
    source = Reviews()
    with Borrowed(stack).site("benched") as site:
        source.start(site, 2)
        with site.held():
            flow = source.flow(site, 50, warm=0.2, seconds=1)
            assert site.behind("reviewer") == 60
            assert not site.level("reviewer")
        delays = source.delays(site, flow, 30)
        assert 45 <= len(delays) <= 50
        assert max(delays) > 900  # ms: the window's first waited at least as long as the window
        assert source.throughput(site, flow) == 0
        done = source.backlog(site, 40, 30, print)
        assert done.amount == 40
        assert done.rate > 1
        assert done.parts["reviewer"] > 0
        leaves_once(site)


def leaves_once(site: Site) -> None:
    """One of several workers that asks to be started again is; the only one of its stage must not end unseen."""
    leaving = site.workers["reviewer3"] = Child(f"{site.name}-reviewer3", home=site.rig.stack.home)
    again: list[int] = []
    site._starts["reviewer3"] = lambda: again.append(1)
    leaving.start([sys.executable, "-c", "raise SystemExit(75)"], env={})
    site.wait(lambda: bool(again), 30)
    assert site.restarts >= 1
    site._several = False
    with pytest.raises(RuntimeError, match="reviewer3 ended with 75"):
        site.wait(lambda: False, 30)


def test_another_window_changes_nothing_else(tmp_path: Path) -> None:
    model = tmp_path / "whisper"
    model.symlink_to(rig.MODELS / "whisper", target_is_directory=True)
    before = (model / "config.pbtxt").read_text()
    rig.with_window(model, 30.0)
    after = (model / "config.pbtxt").read_text()
    options = DecodeOptions()
    assert options.canonical_json() in before
    assert after == before.replace('"window_seconds":15.0', '"window_seconds":30.0')
    assert (model / "1" / "model.py").is_file()
    assert (rig.MODELS / "whisper" / "config.pbtxt").read_text() == before


def test_a_configuration_without_a_window_is_an_error(tmp_path: Path) -> None:
    model = tmp_path / "aspects"
    model.symlink_to(rig.MODELS / "aspects", target_is_directory=True)
    with pytest.raises(ValueError, match="window_seconds"):
        rig.with_window(model, 30.0)
