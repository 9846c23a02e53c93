"""glibc's heap, told to give memory back: otherwise a worker grows for hours by what it has freed."""

from __future__ import annotations

import ctypes

__all__ = ["settle_heap"]

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h
#: Half of glibc's first value. Setting it keeps glibc from raising it to 32 MB, after which audio lies on the heap.
LARGE_BYTES = 64 * 1024


def settle_heap() -> None:
    """For the whole process, before threads exist: one arena, and what is large comes from the system and goes back to it.

    Does nothing where the C library has no mallopt (musl, macOS).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_THRESHOLD, LARGE_BYTES)
