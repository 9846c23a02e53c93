"""Untrusted audio is decoded in a child process with limits on memory and CPU time.

Only containers (WAV, FLAC) go there: mu-law, A-law and L16 are table look-ups that cannot hang or grow.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import resource
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import numpy as np
import structlog

from errors import Permanent
from stream.audio import decode_chunk
from stream.events import AudioChunk
from workers.orphan import end_with

__all__ = ["Decoder"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]
CONTAINERS = frozenset({"wav", "flac"})
log = structlog.get_logger()


class Decoder:
    """One child, one record at a time, so that a death is that record's fault."""

    def __init__(self, *, memory_bytes: int, cpu_seconds: int) -> None:
        self._memory_bytes = memory_bytes
        self._cpu_seconds = cpu_seconds
        self._turn = asyncio.Lock()
        self._pool: ProcessPoolExecutor | None = None

    async def decode(self, chunk: AudioChunk) -> Pcm:
        """int16 [frames, channels]. Raises Permanent: undecodable, or it killed the decoder twice."""
        if chunk.codec not in CONTAINERS:
            return decode_chunk(chunk)
        async with self._turn:
            for _ in range(2):  # the second child tells a poisonous record from a killed machine
                pool = self._pool = self._pool or self._new()
                try:
                    return await asyncio.get_running_loop().run_in_executor(pool, limited, chunk, self._cpu_seconds)
                except BrokenProcessPool:
                    log.warning("decoder.died", codec=chunk.codec, seq=chunk.seq)
                    self.close()
                except MemoryError:
                    break
        raise Permanent(
            "kills_decoder",
            f"decoding it takes more than {self._cpu_seconds} s of CPU or {self._memory_bytes >> 20} MB",
        )

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=False, cancel_futures=True)
            self._pool = None

    def _new(self) -> ProcessPoolExecutor:
        return ProcessPoolExecutor(
            max_workers=1,
            mp_context=multiprocessing.get_context("spawn"),
            initializer=begin,
            initargs=(os.getpid(), self._memory_bytes),
        )


def begin(parent: int, memory_bytes: int) -> None:
    """In the child. The limit is on top of what it has mapped already, which is mostly libraries."""
    end_with(parent)
    with open("/proc/self/statm") as statm:
        mapped = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + memory_bytes, mapped + memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def limited(chunk: AudioChunk, cpu_seconds: int) -> Pcm:
    """Each record gets its own allowance of CPU time; SIGXCPU ends the child that exceeds it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    allowance = int(used.ru_utime + used.ru_stime) + 1 + cpu_seconds
    resource.setrlimit(resource.RLIMIT_CPU, (allowance, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    return decode_chunk(chunk)
