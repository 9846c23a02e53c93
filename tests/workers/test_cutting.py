"""Utterances do not depend on batches, also behind a gap where samples heard and time of the call differ."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from settings import PROJECT
from speech.segment import Segmenter
from stream.events import Message, Topics
from stream.files import read_file
from tests.workers.sending import STARTED
from workers.assembly import Assembly
from workers.cutting import Cutter, Draft, begin_channels
from workers.segmenter import SegmenterStage

CHUNK_MS = 200


def fake_stereo() -> tuple[np.ndarray[tuple[int, int], np.dtype[np.int16]], int]:
    """A word of less than half a second of sound, a pause, a sentence; the other channel the same, less loud."""
    pcm, rate = read_file(PROJECT / "samples" / "calls" / "card-fee.flac")
    speech = pcm[:, 0]
    word = int(rate * 0.45)
    begin = max(
        range(0, len(speech) - 2 * rate, rate // 20), key=lambda n: int((abs(speech[n : n + word]) > 200).sum())
    )
    quiet = np.zeros(rate * 3 // 2, np.int16)
    one = np.concatenate([quiet, speech[begin : begin + word], quiet, speech[begin : begin + 6 * rate], quiet])
    return np.stack([one, (one * 0.7).astype(np.int16)], axis=1), rate


def utterances(cutter: Cutter, offset_ms: int, batch: int) -> list[tuple[bytes, ...]]:
    pcm, rate = fake_stereo()
    frames = rate * CHUNK_MS // 1000
    chunks = [pcm[first : first + frames] for first in range(0, len(pcm), frames)]
    call = Assembly(call_id="c", call_started_at=STARTED, channels=2, roles=("customer", "agent"), rate=rate)
    draft = Draft(call=call, audio=[])
    begin_channels(draft, 0)
    out = []
    for first in range(0, len(chunks), batch):
        draft.stretches = []
        for seq in range(first, min(first + batch, len(chunks))):
            draft.stretches += call.add(seq, offset_ms + seq * CHUNK_MS, chunks[seq], 20)
        if first + batch >= len(chunks):
            draft.stretches += call.close("ended", len(chunks) - 1)
        out += cutter.cut([draft])[0]
    fields = ("utterance_id", "channel", "role", "start_ms", "end_ms")
    return [tuple(value for name, value in message.headers if name in fields) for message in out]


@pytest.mark.parametrize("offset_ms", [0, 3_600_000], ids=["from_the_start", "behind_a_gap"])
def test_batches_do_not_change_what_a_fake_stereo_recording_becomes(offset_ms: int) -> None:
    cutter = Cutter(Segmenter(), Topics())
    whole = utterances(cutter, offset_ms, 1_000)
    assert [one[1:3] for one in whole] == [
        (b"0", b"customer"),
        (b"1", b"agent"),
        (b"0", b"unknown"),
        (b"0", b"unknown"),
    ]
    assert utterances(cutter, offset_ms, 1) == whole
    assert utterances(cutter, offset_ms, 7) == whole


async def test_a_cut_that_is_given_up_is_waited_for() -> None:
    """Its thread cannot be called back: the next try would take its core."""
    going, may_end, at_once = threading.Event(), threading.Event(), list[int]()

    def cut(drafts: Any) -> tuple[list[Message], list[Message]]:
        at_once.append(1)
        assert sum(at_once) == 1
        going.set()
        may_end.wait(30)
        at_once.pop()
        return [], []

    stage = object.__new__(SegmenterStage)
    stage._cutting, stage._cutter = asyncio.Lock(), SimpleNamespace(cut=cut)  # type: ignore[assignment]
    first = asyncio.create_task(stage._cut([]))
    await asyncio.to_thread(going.wait, 30)
    first.cancel()
    second = asyncio.create_task(stage._cut([]))
    await asyncio.sleep(0)
    assert not first.done()
    may_end.set()
    assert await second == ([], [])
    with pytest.raises(asyncio.CancelledError):
        await first
