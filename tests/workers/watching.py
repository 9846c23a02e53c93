"""What tests of a pipeline watch: verdicts, calls that are done, and what the segmenter would cut from a recording at once."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from speech.segment import ChannelInput, ChannelState, Segmenter
from tests.workers.pipeline import Pipeline, Place
from tests.workers.sending import Pcm, messages, sample

__all__ = ["TALK", "cuts", "finished", "kinds", "send", "utterances", "verdicts"]

TALK = sample("calls/card-fee", 0, 16_000)  # four utterances, two of each speaker


@cache
def the_segmenter() -> Segmenter:
    return Segmenter()


def cuts(pcm: Pcm) -> list[tuple[int, int, int]]:
    """Channel, start and end in ms of what the segmenter cuts from a recording heard at once, in the order of time."""
    found: list[tuple[int, int, int]] = []
    for channel in range(pcm.shape[1]):
        state = ChannelState(rate=8_000)
        samples = np.ascontiguousarray(pcm[:, channel])
        mine = the_segmenter().advance([ChannelInput(state=state, samples=samples)])[0] + the_segmenter().flush(state)
        found += [(channel, cut.start_sample // 8, cut.end_sample // 8) for cut in mine]
    return sorted(found, key=lambda cut: (cut[1], cut[0]))


def utterances(p: Pipeline, call_id: str) -> list[tuple[int, int, int]]:
    return p.rows(
        "SELECT channel, start_ms, end_ms FROM ingest.utterances WHERE call_id = %s ORDER BY start_ms, channel", call_id
    )  # type: ignore[return-value]


def send(p: Pipeline, events: list[Any], partition: int | None = None) -> list[Place]:
    return p.produce(messages(p.topics, events), partition=partition)


def finished(p: Pipeline, call_id: str, state: str = "analysed") -> dict[str, Any]:
    """The call's row, once its run has reached this state."""

    def run_state() -> bool:
        return p.one("SELECT state FROM ingest.call_runs WHERE call_id = %s", call_id) == state

    p.wait(run_state, f"{call_id} is {state}")
    names = ("state", "close_reason", "gap_ms", "duration_ms", "late_chunks", "product", "last_seq")
    return dict(
        zip(names, p.rows(f"SELECT {', '.join(names)} FROM ingest.calls WHERE call_id = %s", call_id)[0], strict=True)
    )


def verdicts(p: Pipeline, stage: str, places: list[Place]) -> list[tuple[str, str | None]]:
    """One verdict an offset, in order."""
    found = [p.wait(lambda place=place: p.verdict(stage, place), f"a verdict for {place}") for place in places]  # type: ignore[misc]
    return [one for one in found if one is not None]


def kinds(p: Pipeline, places: list[Place]) -> list[str]:
    return [kind for kind, _ in verdicts(p, "segmenter", places)]
