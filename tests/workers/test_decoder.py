"""A real child process decodes what nobody vouches for; whatever that does, the worker goes on and decodes the next."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from errors import Permanent
from settings import PROJECT
from stream.audio import encode_flac
from tests.stream import bad
from tests.workers.hostile import Deadly, Endless
from workers.decoder import Decoder

GOOD = bad.chunk(codec="flac", value=encode_flac(bad.NOISE, 8_000))
pytestmark = pytest.mark.timeout(120)


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    made = Decoder(memory_bytes=256 << 20, cpu_seconds=1)
    yield made
    made.close()


async def test_decodes_in_the_child(decoder: Decoder) -> None:
    assert np.array_equal(await decoder.decode(GOOD), bad.NOISE)
    assert np.array_equal(await decoder.decode(bad.chunk(codec="wav", value=bad.wav())), bad.NOISE)


@pytest.mark.parametrize("name", bad.SOUND)
async def test_bad_sound_is_refused_and_the_child_lives(decoder: Decoder, name: str) -> None:
    reason, make = bad.SOUND[name]
    with pytest.raises(Permanent) as refused:
        await decoder.decode(make())
    assert refused.value.reason == reason
    assert np.array_equal(await decoder.decode(GOOD), bad.NOISE)


@pytest.mark.parametrize("chunk", [Endless(), Deadly()], ids=["endless", "deadly"])
async def test_a_chunk_that_kills_the_decoder(decoder: Decoder, chunk: Any) -> None:
    """Tried in two children, so that a machine's fault is not taken for the record's."""
    before = psutil.Process().children()
    with pytest.raises(Permanent) as refused:
        await decoder.decode(chunk)
    assert refused.value.reason == "kills_decoder"
    assert np.array_equal(await decoder.decode(GOOD), bad.NOISE)
    assert len(psutil.Process().children()) <= len(before) + 1


async def test_memory_is_limited() -> None:
    """5 s at 48 kHz in stereo are 960 kB of samples: more than this child may have."""
    pcm = np.random.default_rng(1).integers(-9_000, 9_000, (240_000, 2)).astype(np.int16)
    large = bad.chunk(codec="flac", rate=48_000, duration_ms=5_000, value=encode_flac(pcm // 64, 48_000))
    narrow = Decoder(memory_bytes=1 << 19, cpu_seconds=1)
    try:
        with pytest.raises(Permanent) as refused:
            await narrow.decode(large)
        assert refused.value.reason == "kills_decoder"
    finally:
        narrow.close()


PARENT = """
import asyncio, multiprocessing, sys
from tests.workers.test_decoder import GOOD
from workers.decoder import Decoder

async def main():
    await Decoder(memory_bytes=256 << 20, cpu_seconds=1).decode(GOOD)
    [child] = multiprocessing.active_children()
    print(child.pid, flush=True)
    await asyncio.Future()

asyncio.run(main())
"""


def test_the_child_does_not_outlive_a_worker_that_is_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True, cwd=PROJECT) as parent:
        assert parent.stdout is not None
        child = psutil.Process(int(parent.stdout.readline()))
        parent.kill()
    try:
        child.wait(20)
    finally:
        if child.is_running():
            child.kill()
