"""Tests 18 and 19: hostile audio. An answer or a typed refusal, within 2 s of CPU and 256 MB a chunk; the child lives on."""

from __future__ import annotations

import random
import zlib
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import numpy as np
import psutil
import pytest
import pytest_asyncio

from errors import Permanent
from stream.audio import encode_flac
from stream.events import AudioChunk, Topics, parse_audio
from stream.reasons import REASONS
from stream.records import Record
from tests.faults.results import Figures
from tests.stream import bad
from tests.stream.strategies import as_record
from workers.decoder import Decoder

SEED = 18
CPU_SECONDS, MEMORY = 2, 256 << 20
TOPICS = Topics()
#: How a decoder that a record killed is reported; it is none of the parser's reasons.
KILLED = "kills_decoder"


@pytest_asyncio.fixture
async def decoder() -> AsyncIterator[Decoder]:
    made = Decoder(memory_bytes=MEMORY, cpu_seconds=CPU_SECONDS)
    yield made
    made.close()


def seeds() -> list[AudioChunk]:
    """Sound chunks of every container, width, rate and layout."""
    noise = bad.NOISE
    out = [bad.chunk(codec="wav", value=bad.wav(noise, subtype=one)) for one in ("PCM_16", "PCM_24", "PCM_U8", "ULAW")]
    for rate in (8_000, 16_000, 44_100, 48_000):
        pcm = np.resize(noise, (rate // 5, 2))
        out.append(bad.chunk(codec="flac", rate=rate, value=encode_flac(pcm, rate)))
        out.append(bad.chunk(codec="wav", rate=rate, value=bad.wav(pcm, rate)))
    mono = noise[:, :1].copy()
    out.append(bad.chunk(codec="flac", channels=1, roles=("agent",), value=encode_flac(mono, 8_000)))
    return out


def flip(value: bytearray, dice: random.Random) -> None:
    for _ in range(dice.randint(1, 8)):
        value[dice.randrange(len(value))] ^= 1 << dice.randrange(8)


def head(value: bytearray, dice: random.Random) -> None:
    """Most of what a decoder believes stands in the first bytes."""
    at = dice.randrange(min(60, len(value) - 4))
    value[at : at + 4] = dice.choice([b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", dice.randbytes(4)])


def cut(value: bytearray, dice: random.Random) -> None:
    del value[dice.randrange(len(value)) :]


def insert(value: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(value))
    value[at:at] = dice.randbytes(dice.randint(1, 200))


def double(value: bytearray, dice: random.Random) -> None:
    at = dice.randrange(len(value))
    value[at:at] = value[at : at + dice.randint(1, 2_000)]


MUTATIONS: tuple[Callable[[bytearray, random.Random], None], ...] = (flip, head, head, cut, insert, double)
HEADERS = (
    "codec",
    "rate",
    "channels",
    "channel_roles",
    "seq",
    "offset_ms",
    "duration_ms",
    "call_started_at",
    "ce_type",
)
WORDS = (b"", b"0", b"-1", b"1", b"3", b"65535", b"2147483648", b"9" * 40, b"wav", b"flac", b"l16", b"8000.0", b"\xff")


def mutated(chunk: AudioChunk, dice: random.Random) -> Record:
    record = as_record(chunk.to_message(TOPICS))
    value = bytearray(record.value or b"")
    for _ in range(dice.randint(0, 3)):
        if len(value) > 8:
            dice.choice(MUTATIONS)(value, dice)
    headers = dict(record.headers)
    if dice.random() < 0.3:
        headers[dice.choice(HEADERS)] = dice.choice(WORDS)
    return replace(record, value=bytes(value), headers=tuple(headers.items()))


def newest_child() -> psutil.Process:
    """The decoder's, once it has decoded something."""
    return max(psutil.Process().children(), key=lambda one: one.create_time())


def cpu_of(child: psutil.Process) -> float:
    """CPU seconds so far. Raises NoSuchProcess when a record has ended it."""
    times = child.cpu_times()
    return float(times.user + times.system)


async def fuzz(decoder: Decoder, figures: Figures, count: int) -> None:
    dice, sound = random.Random(SEED), seeds()
    outcomes: dict[str, int] = {}
    slowest = 0.0
    await decoder.decode(sound[0])  # its start is not the chunk's
    child = newest_child()
    for _ in range(count):
        record = mutated(dice.choice(sound), dice)
        before = cpu_of(child)
        try:
            chunk = parse_audio(record)
            if not isinstance(chunk, AudioChunk):
                continue
            pcm = await decoder.decode(chunk)
            assert (pcm.dtype, pcm.ndim, pcm.shape[1]) == (np.int16, 2, chunk.channels)
            outcome = "decoded"
        except Permanent as err:
            outcome = err.reason
        slowest = max(slowest, cpu_of(child) - before)
        outcomes[outcome] = outcomes.get(outcome, 0) + 1
    figures.note(
        load=f"{count} mutated chunks",
        seed=SEED,
        outcomes=len(outcomes),
        decoded=outcomes.get("decoded", 0),
        killed=outcomes.get(KILLED, 0),
        most_cpu_seconds=round(slowest, 2),
    )
    assert outcomes["decoded"] > count / 50, outcomes
    assert len(outcomes) > 8, outcomes
    assert KILLED not in outcomes, "no chunk came near the limits"
    assert set(outcomes) <= {"decoded", *REASONS}
    assert slowest < CPU_SECONDS


@pytest.mark.proof(18)
@pytest.mark.timeout(600)
async def test_fuzz(decoder: Decoder, figures: Figures) -> None:
    await fuzz(decoder, figures, 2_000)


@pytest.mark.slow
@pytest.mark.proof(18)
@pytest.mark.timeout(3_600)
async def test_long_fuzz(decoder: Decoder, figures: Figures) -> None:
    await fuzz(decoder, figures, 50_000)


def claims(offset: int, size: int, number: int) -> AudioChunk:
    """A WAV whose header has a number elsewhere than the truth is."""
    value = bytearray(bad.wav())
    value[offset : offset + size] = number.to_bytes(size, "little")
    return bad.chunk(codec="wav", value=bytes(value))


BOMBS: dict[str, Callable[[], AudioChunk]] = {
    "gzip of zeros": lambda: bad.chunk(codec="wav", value=gzip_of_zeros()),
    "FLAC that is a gzip": lambda: bad.chunk(codec="flac", value=gzip_of_zeros()),
    "10 hours of FLAC silence": bad.SOUND["10 hours of FLAC silence"][1],
    "10 hours of FLAC silence whose header says 1 s": bad.SOUND["10 hours of FLAC silence whose header says 1 s"][1],
    "WAV of 4 GB": lambda: claims(40, 4, 0xFFFFFFFF),
    "RIFF of 4 GB": lambda: claims(4, 4, 0xFFFFFFFF),
    "65,535 channels": lambda: claims(22, 2, 65_535),
    "no channels": lambda: claims(22, 2, 0),
    "rate of 1 Hz": lambda: claims(24, 4, 1),
    "rate of 2^31 Hz": lambda: claims(24, 4, 2**31),
    "no bytes a frame": lambda: claims(32, 2, 0),
    "65,535 bits a sample": lambda: claims(34, 2, 65_535),
}

#: Numbers that nobody needs: what writes a stream does not know them either. The audio itself is whole.
HARMLESS = {"RIFF of 4 GB", "no bytes a frame"}


def gzip_of_zeros() -> bytes:
    """500 MB in half a megabyte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(bytes(1 << 20)) for _ in range(500)) + packer.flush()


@pytest.mark.chaos
@pytest.mark.proof(19)
async def test_bombs(decoder: Decoder, figures: Figures) -> None:
    """Refused without being unpacked: the child's memory stays where it was."""
    await decoder.decode(bad.chunk(codec="flac", value=encode_flac(bad.NOISE, 8_000)))
    child = newest_child()
    before = child.memory_info().rss
    for name, make in BOMBS.items():
        parsed = parse_audio(as_record(make().to_message(TOPICS)))
        assert isinstance(parsed, AudioChunk)
        spent = cpu_of(child)
        if name in HARMLESS:
            assert np.array_equal(await decoder.decode(parsed), bad.NOISE)
        else:
            with pytest.raises(Permanent) as refused:
                await decoder.decode(parsed)
            assert refused.value.reason in REASONS, name
        assert cpu_of(child) - spent < CPU_SECONDS, name
    assert child.is_running()
    grown = (child.memory_info().rss - before) >> 20
    figures.note(load=f"{len(BOMBS)} bombs", faults=", ".join(BOMBS), grown_mb=grown)
    assert grown < 32
