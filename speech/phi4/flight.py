"""Tokens that were computed and not read yet.

On a GPU a step is read after the next one was launched, which takes its input from here, on the device: nothing waits for
the host. A request that ended meanwhile was computed once more for nothing; its slot is given away only after that, in
the order of the one stream.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from speech.phi4.sequence import Running

__all__ = ["Choice", "Flight", "Tokens"]

Choice = tuple[int, float]  # a token and its log-probability


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Tokens:
    """The next token of each member: ids int64 [members] and log-probabilities [members], on the device."""

    members: Sequence[Running]
    ids: Tensor
    logprobs: Tensor


class Flight:
    """All tokens of one step."""

    def __init__(self) -> None:
        self._tokens: list[Tokens] = []
        self._copies: list[tuple[Tensor, Any]] = []
        self._places: dict[Running, int] = {}

    def add(self, tokens: Tokens) -> None:
        """Take tokens along and begin to copy them to the host."""
        copy = _copy(tokens)  # first: where it fails, nothing was taken along
        for running in tokens.members:
            self._places[running] = len(self._places)
        self._tokens.append(tokens)
        self._copies.append(copy)

    def place(self, running: Running) -> int:
        """Where in `ids` the request's token is; -1 if there is none."""
        return self._places.get(running, -1)

    def ids(self) -> Tensor:
        """All ids, int64 [tokens]."""
        return torch.cat([tokens.ids for tokens in self._tokens])

    @property
    def members(self) -> list[Running]:
        """Whose tokens they are, by place."""
        return list(self._places)

    def read(self) -> list[tuple[Running, Choice]]:
        """Wait for the copies; each member with its token."""
        found: list[tuple[Running, Choice]] = []
        for tokens, (copy, event) in zip(self._tokens, self._copies, strict=True):
            if event is not None:
                event.synchronize()
            ids, logprobs = copy.tolist()
            found += [
                (running, (int(token_id), logprob))
                for running, token_id, logprob in zip(tokens.members, ids, logprobs, strict=True)
            ]
        return found


def _copy(tokens: Tokens) -> tuple[Tensor, Any]:
    # float64 holds every id exactly, so one copy does for both.
    both = torch.stack([tokens.ids.double(), tokens.logprobs.double()])
    if not both.is_cuda:
        return both, None
    host = torch.empty(both.shape, dtype=both.dtype, pin_memory=True)
    host.copy_(both, non_blocking=True)
    event = torch.cuda.Event()
    event.record()
    return host, event
