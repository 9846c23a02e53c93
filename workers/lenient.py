"""What aiokafka would stop at, or die of, and all behind it with it, costs nobody else anything here.

A batch that would unpack to more memory than a worker has is not unpacked: workers/unpacking.py. A header's name that is not
UTF-8 is written with backslashes (`\\xff`): it is a header that nobody knows, and costs the record nothing.
Kafka's brokers take any bytes for a name. aiokafka's fast parser has no switch for that, so a batch that it refuses is parsed
once more by its Python one, over a buffer that reads names so.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import DefaultRecordBatch, _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from workers.unpacking import places_of, unpacked

__all__ = ["install"]

#: A batch begins with its first offset and the length of what follows.
HEAD = struct.Struct(">qi")


class Buffer(bytearray):
    """Slices of it decode whatever they hold."""

    def __getitem__(self, place: Any) -> Any:
        found = super().__getitem__(place)
        return Buffer(found) if isinstance(place, slice) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return super().decode(encoding, errors)


class LenientBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """The slow parser, for names of any bytes."""

    _buffer: Any

    def _maybe_uncompress(self) -> None:
        super()._maybe_uncompress()
        if not isinstance(self._buffer, Buffer):
            self._buffer = Buffer(self._buffer)


class Batch:
    """The fast parser's batch; from a record on that it refuses, the slow one's."""

    def __init__(self, fast: Any, raw: memoryview) -> None:
        self._fast = fast
        self._raw = raw

    def __getattr__(self, name: str) -> Any:
        return getattr(self._fast, name)

    def __next__(self) -> Any:
        return next(self._fast)

    def __iter__(self) -> Iterator[Any]:
        plain = unpacked(self._raw)
        if plain is None:
            yield from places_of(self._raw)
            return
        last = -1
        try:
            for record in self._fast if plain is self._raw else DefaultRecordBatch(plain):
                last = record.offset
                yield record
        except UnicodeDecodeError:
            yield from (record for record in LenientBatch(plain) if record.offset > last)


class Records:
    """What a broker sent of a partition, batch by batch."""

    def __init__(self, data: bytes) -> None:
        self._fast = MemoryRecords(data)
        self._data = memoryview(data)
        self._at = 0

    def size_in_bytes(self) -> int:
        size: int = self._fast.size_in_bytes()
        return size

    def has_next(self) -> bool:
        more: bool = self._fast.has_next()
        return more

    def next_batch(self) -> Any:
        _, length = HEAD.unpack_from(self._data, self._at)
        end = self._at + HEAD.size + length
        raw, self._at = self._data[self._at : end], end
        fast = self._fast.next_batch()
        return None if fast is None else Batch(fast, raw)


def install() -> None:
    """For every consumer of this process. Again is harmless."""
    fetcher.MemoryRecords = Records
