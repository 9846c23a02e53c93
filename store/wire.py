"""Kafka headers as JSON: [[name, base64 of the value], ...], in their order."""

from __future__ import annotations

import base64
from collections.abc import Iterable

__all__ = ["Headers", "dump", "load"]

Headers = tuple[tuple[str, bytes], ...]


def dump(headers: Iterable[tuple[str, bytes | None]]) -> list[list[str | None]]:
    """Ready for a jsonb column, which takes no NUL in a name."""
    return [
        [name.replace("\0", "\ufffd"), None if value is None else base64.b64encode(value).decode("ascii")]
        for name, value in headers
    ]


def load(stored: Iterable[tuple[str, str | None]]) -> Headers:
    """Back from a jsonb column; a header without a value comes back empty."""
    return tuple((name, base64.b64decode(value or "")) for name, value in stored)
