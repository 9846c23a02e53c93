"""A batch of records is unpacked into bounded memory: a megabyte of gzip may hold a gigabyte, and brokers look at the megabyte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import cramjam
import numpy as np

from errors import Permanent
from stream.records import Record

__all__ = ["MOST_BYTES", "Unread", "places_of", "unpacked", "why_unread"]

#: Far more than a producer's buffer for a batch, in any client's defaults.
MOST_BYTES = 64 * 1024 * 1024
#: Stands in the headers of a record that nobody could read. Whoever sends it himself loses that record and no other.
UNREADABLE = "earful-unreadable-batch"

#: Kafka's record batch, version 2: first offset, length, leader epoch, version, CRC, attributes, last offset less the first,
#: first and last timestamp, producer's id and epoch, first sequence number, records (DefaultRecordBatch.java).
HEAD = struct.Struct(">qiibIhiqqqhii")
VERSION, VERSION_AT = 2, 16  # a byte
CODEC, CODEC_MASK = 5, 0b111  # a field
#: By Kafka's numbers. Snappy (2) cannot make a byte more than 22 of them, so aiokafka may unpack that.
UNPACK = {1: cramjam.gzip.decompress_into, 3: cramjam.lz4.decompress_into, 4: cramjam.zstd.decompress_into}


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A record of a batch that was not unpacked; only its place is known."""

    offset: int
    timestamp: int
    timestamp_type: int = 0
    key: None = None
    value: None = None
    headers: tuple[tuple[str, bytes], ...] = ((UNREADABLE, b""),)
    checksum: None = None


def unpacked(batch: memoryview) -> memoryview | None:
    """The same batch without compression; None if it takes more than MOST_BYTES or is damaged."""
    if len(batch) < HEAD.size or batch[VERSION_AT] != VERSION:
        return batch
    head = list(HEAD.unpack_from(batch))
    unpack = UNPACK.get(head[CODEC] & CODEC_MASK)
    if unpack is None:
        return batch
    room = np.empty(HEAD.size + MOST_BYTES, np.uint8).data  # memory is taken by what is written
    try:
        size = unpack(batch[HEAD.size :], room[HEAD.size :])
    except cramjam.DecompressionError:
        return None
    head[CODEC] &= ~CODEC_MASK
    HEAD.pack_into(room, 0, *head)
    return room[: HEAD.size + size]


def places_of(batch: memoryview) -> Iterator[Unread]:
    """What stands for the records of a batch that was not unpacked: each place needs a verdict."""
    first, _, _, _, _, _, last, timestamp, *_ = HEAD.unpack_from(batch)
    return (Unread(offset=first + place, timestamp=timestamp) for place in range(last + 1))


def why_unread(record: Record) -> Permanent | None:
    """Why nobody could read what was there."""
    if not any(name == UNREADABLE for name, _ in record.headers):
        return None
    return Permanent(
        "unreadable_batch", f"its batch is damaged, or unpacks to more than {MOST_BYTES >> 20} MB: send less at once"
    )
