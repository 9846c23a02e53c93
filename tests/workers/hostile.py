"""Chunks that no producer can send: they stand for audio that finds a hole in a decoder."""

from __future__ import annotations

import os
from typing import Any

__all__ = ["Deadly", "Endless"]


class Endless:
    """A chunk whose decoding never ends."""

    codec, seq = "flac", 0

    @property
    def value(self) -> bytes:
        while True:
            pass

    def __getattr__(self, name: str) -> Any:
        return 1


class Deadly(Endless):
    """A chunk whose decoding crashes the process."""

    @property
    def value(self) -> bytes:
        os.abort()
