"""State of the segmenter: what was saved is what is loaded."""

from __future__ import annotations

from uuid import uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from store import segmenter
from store.segmenter import SavedAudio, SavedCall
from tests.store.make import TOPIC


def pcm(samples: int, fill: int = 0) -> bytes:
    return bytes([fill % 256]) * (2 * samples)


async def test_saved_is_loaded_by_partition(conn: AsyncConnection) -> None:
    await segmenter.save(
        conn,
        TOPIC,
        0,
        states=[("b", b"\x00b"), ("a", b"a")],
        appended=[("a", 1, 0, pcm(10, 1)), ("a", 0, 10, pcm(5, 2)), ("a", 0, 0, pcm(10, 3))],
        trimmed=[],
        closed=[],
    )
    await segmenter.save(conn, TOPIC, 1, states=[("a", b"other")], appended=[], trimmed=[], closed=[])
    await segmenter.save(conn, uuid4(), 0, states=[("a", b"other")], appended=[], trimmed=[], closed=[])
    assert await segmenter.load(conn, TOPIC, 0) == [
        SavedCall(
            call_id="a",
            state=b"a",
            audio=[
                SavedAudio(channel=0, start_sample=0, pcm=pcm(10, 3)),
                SavedAudio(channel=0, start_sample=10, pcm=pcm(5, 2)),
                SavedAudio(channel=1, start_sample=0, pcm=pcm(10, 1)),
            ],
        ),
        SavedCall(call_id="b", state=b"\x00b", audio=[]),
    ]


async def test_states_are_replaced_audio_is_appended_and_trimmed(conn: AsyncConnection) -> None:
    pieces = [("a", c, s, pcm(10, s)) for c in (0, 1) for s in (0, 10, 20)]
    await segmenter.save(conn, TOPIC, 0, states=[("a", b"1")], appended=pieces, trimmed=[], closed=[])
    await segmenter.save(
        conn,
        TOPIC,
        0,
        states=[("a", b"2")],
        appended=[("a", 0, 30, pcm(10))],
        trimmed=[("a", 0, 20), ("a", 1, 15)],
        closed=[],
    )
    [saved] = await segmenter.load(conn, TOPIC, 0)
    assert saved.state == b"2"
    # channel 1: the piece from 10 to 20 reaches over sample 15 and stays whole
    assert [(a.channel, a.start_sample) for a in saved.audio] == [(0, 20), (0, 30), (1, 10), (1, 20)]


async def test_a_closed_call_leaves_nothing(conn: AsyncConnection) -> None:
    for call_id in ("a", "b"):
        await segmenter.save(
            conn, TOPIC, 0, states=[(call_id, b"1")], appended=[(call_id, 0, 0, pcm(1))], trimmed=[], closed=[]
        )
    await segmenter.save(conn, TOPIC, 0, states=[], appended=[], trimmed=[], closed=["a"])
    assert [c.call_id for c in await segmenter.load(conn, TOPIC, 0)] == ["b"]


async def test_the_same_piece_twice_is_an_error(conn: AsyncConnection) -> None:
    piece = ("a", 0, 0, pcm(1))
    await segmenter.save(conn, TOPIC, 0, states=[("a", b"1")], appended=[piece], trimmed=[], closed=[])
    with pytest.raises(IntegrityError):
        await segmenter.save(conn, TOPIC, 0, states=[], appended=[piece], trimmed=[], closed=[])
