"""Who gets a slot, and what the next step computes. Pure: no clock, no tensors, one thread.

A request waits, gets a slot of the smallest size that holds its prompt and its answer, is encoded and prefilled in one
or more parts, decodes a token a step, and leaves. Requests for slots of one size keep their order; those for the
other size never wait for them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Generic, TypeVar

from speech.contract import InvalidRequest
from speech.phi4.audio import BLOCK_SECONDS
from speech.phi4.limits import Limits
from speech.phi4.refusals import QueueFull

__all__ = ["Entry", "Phase", "Scheduler", "Slots"]


class Phase(Enum):
    """Where a request stands."""

    WAITING = auto()
    ENCODE = auto()
    PREFILL = auto()
    DECODE = auto()
    DONE = auto()


@dataclass(slots=True, kw_only=True, eq=False)
class Entry:
    """What the scheduler knows of a request: tokens of prompt and answer, seconds of audio (0: none)
    and how many blocks of the encoder they are."""

    prompt_tokens: int
    new_tokens: int
    seconds: float = 0.0
    blocks: int = 0
    phase: Phase = Phase.WAITING
    pool: int = -1
    slot: int = -1
    heard: int = 0  # blocks that are encoded
    cached: int = 0  # tokens of the prompt that are in the slot

    @property
    def tokens(self) -> int:
        """The most this request ever holds."""
        return self.prompt_tokens + self.new_tokens

    @property
    def unheard(self) -> int:
        """Blocks that are still to be encoded."""
        return self.blocks - self.heard

    @property
    def missing(self) -> int:
        """Tokens of the prompt that are still to be prefilled."""
        return self.prompt_tokens - self.cached


@dataclass(slots=True)
class Slots:
    """Slots of one size: which are free, the last freed first."""

    count: int
    tokens: int
    free: list[int]


One = TypeVar("One", bound=Entry)


class Scheduler(Generic[One]):
    """The queue and the running batch."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.pools: list[Slots] = []
        first = 0
        for count, tokens in limits.pools:
            self.pools.append(Slots(count, tokens, list(reversed(range(first, first + count)))))
            first += count
        self._waiting: list[deque[One]] = [deque() for _ in self.pools]
        self._running: dict[One, None] = {}

    def pool_for(self, tokens: int) -> int:
        """The pool of the smallest slots that hold so many tokens; InvalidRequest if none does."""
        for number, pool in enumerate(self.pools):
            if pool.count and tokens <= pool.tokens:
                return number
        most = max((pool.tokens for pool in self.pools if pool.count), default=0)
        raise InvalidRequest(
            f"prompt and answer may take {tokens} tokens: this engine holds at most {most} of one request"
        )

    def add(self, entry: One, *, front: bool = False, inside: bool = False) -> None:
        """Queue a request. InvalidRequest: it never fits; QueueFull: try later, but not if it is `inside` admitted work."""
        entry.pool = self.pool_for(entry.tokens)
        if not inside and self.waiting >= self._limits.queue:
            raise QueueFull(f"{self.waiting} requests wait already: try again later")
        if front:
            self._waiting[entry.pool].appendleft(entry)
        else:
            self._waiting[entry.pool].append(entry)

    def remove(self, entry: One) -> None:
        """Take a request out, wherever it stands; its slot is free for the next step."""
        if entry.phase is Phase.WAITING:
            self._waiting[entry.pool].remove(entry)
        elif entry.phase is not Phase.DONE:
            del self._running[entry]
            self.pools[entry.pool].free.append(entry.slot)
        entry.phase = Phase.DONE

    def admit(self) -> list[One]:
        """Give free slots to those who wait, oldest first."""
        admitted = []
        for pool, waiting in zip(self.pools, self._waiting, strict=True):
            while waiting and pool.free:
                entry = waiting.popleft()
                entry.slot = pool.free.pop()
                entry.phase = Phase.ENCODE if entry.seconds else Phase.PREFILL
                self._running[entry] = None
                admitted.append(entry)
        return admitted

    def to_encode(self) -> list[tuple[One, int]]:
        """The clips of the next encoder batch and how many blocks of each.

        Those of one block, up to the step's seconds, and beside them a part of the oldest longer one: neither starves.
        """
        limits = self._limits
        pending = list(self._in(Phase.ENCODE))
        long = next((entry for entry in pending if entry.blocks > 1), None)
        seconds = limits.encode_seconds / 2 if long else limits.encode_seconds
        batch: list[tuple[One, int]] = []
        for entry in pending:
            if entry.blocks > 1:
                continue
            seconds -= entry.seconds
            if batch and (len(batch) == limits.encode_clips or seconds < 0):
                break
            batch.append((entry, entry.blocks))
        if long:
            # Nobody waits for the end of this step: a larger part is faster.
            alone = not batch and next(self._in(Phase.DECODE), None) is None
            most = max(limits.encode_blocks, int(limits.encode_seconds) // BLOCK_SECONDS if alone else 0)
            batch.append((long, min(long.unheard, most)))
        return batch

    def to_prefill(self) -> list[tuple[One, int]]:
        """The next step's prompts and how many tokens of each.

        Short ones whole, up to the step's budget, and beside it one chunk of the oldest long one: neither starves.
        """
        chunk = self._limits.chunk_tokens
        pending = list(self._in(Phase.PREFILL))
        long = next((entry for entry in pending if entry.missing > chunk), None)
        # A chunk of a long prompt costs twice its tokens, since it looks back far.
        budget = self._limits.prefill_tokens // 2 if long else self._limits.prefill_tokens
        chunks: list[tuple[One, int]] = []
        for entry in pending:
            if entry.missing > chunk:
                continue
            if chunks and entry.missing > budget:
                break
            chunks.append((entry, entry.missing))
            budget -= entry.missing
        if long:
            # Nobody waits for the end of this step: a larger piece is faster.
            alone = not chunks and next(self._in(Phase.DECODE), None) is None
            chunks.append((long, min(long.missing, max(chunk, self._limits.prefill_tokens) if alone else chunk)))
        return chunks

    def to_decode(self) -> list[One]:
        """Everybody who gets a token in the next step."""
        return list(self._in(Phase.DECODE))

    @property
    def waiting(self) -> int:
        """Requests without a slot."""
        return sum(len(waiting) for waiting in self._waiting)

    @property
    def entries(self) -> Sequence[One]:
        """All requests: waiting and running."""
        return [*self._running, *(entry for waiting in self._waiting for entry in waiting)]

    @property
    def reserved_tokens(self) -> int:
        """KV tokens of the slots in use."""
        return sum((pool.count - len(pool.free)) * pool.tokens for pool in self.pools)

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do."""
        return not self._running and not self.waiting

    def _in(self, phase: Phase) -> Iterator[One]:
        return (entry for entry in self._running if entry.phase is phase)
