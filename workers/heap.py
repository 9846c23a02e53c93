"""glibc's heap, told to stay one: with an arena for each thread a worker grows for hours, by what each has freed and keeps."""

from __future__ import annotations

import ctypes

__all__ = ["one_arena"]

M_ARENA_MAX = -8  # malloc.h


def one_arena() -> None:
    """For the whole process, before threads exist. Does nothing where the C library has no mallopt (musl, macOS)."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
