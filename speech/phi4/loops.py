"""The loop guard: a decoder that repeats itself rarely stops, and what it writes is worthless."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["repeats"]

#: "No, no, no, no" is said; the same token twenty times over is not, nor are four equal sentences in a row.
_TIMES = 4
_TOKENS = 20
_PERIOD = 128
_EVERY = 4


def repeats(tokens: Sequence[int]) -> bool:
    """Whether the answer ends in the same tokens again and again: four times at least, and twenty tokens.

    Meant to be asked after each token: it looks at every fourth length only, so a loop is found up to three tokens late.
    """
    count = len(tokens)
    if count < _TOKENS or count % _EVERY:
        return False
    last = tokens[-1]
    for period in range(1, min(_PERIOD, count // _TIMES) + 1):
        length = max(_TIMES, -(-_TOKENS // period)) * period
        if length > count or tokens[-1 - period] != last:
            continue
        # A sequence has a period if it equals itself moved by that period.
        if list(tokens[-length:-period]) == list(tokens[count - length + period :]):
            return True
    return False
