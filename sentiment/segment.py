"""Where the sentences of a text lie, as character ranges of the original.

The models were trained on single sentences, so long reviews are read sentence by sentence; what has no punctuation
(speech recognition) stays whole and is cut into windows of tokens later (`encode`).
"""

from __future__ import annotations

import re

__all__ = ["sentence_at", "sentences"]

# An end mark, closing quotes, then space before something that can begin a sentence; or a line break.
_BREAK = re.compile(r"(?<=[.!?…])[\"'”’)\]]*\s+(?=[\"'“‘(\[]*[^\W_a-z])|[\r\n\v\f\x85\u2028\u2029]+")
_ABBREVIATED = re.compile(r"(?:\b(?:mr|mrs|ms|dr|st|vs|no|approx|e\.g|i\.e|etc)|\b[a-z])\.$", re.IGNORECASE)


def sentences(text: str) -> list[tuple[int, int]]:
    """Character ranges of the sentences, in order, without surrounding space; empty for blank text."""
    out: list[tuple[int, int]] = []
    start = 0
    for match in _BREAK.finditer(text):
        if _ABBREVIATED.search(text[max(start, match.start() - 8) : match.start()]) and "\n" not in match[0]:
            continue
        _add(text, start, match.end(), out)
        start = match.end()
    _add(text, start, len(text), out)
    return out


def _add(text: str, start: int, end: int, out: list[tuple[int, int]]) -> None:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    right = len(piece.rstrip())
    if right > left:
        out.append((start + left, start + right))


def sentence_at(ranges: list[tuple[int, int]], start: int, end: int) -> tuple[int, int]:
    """The range from the sentence that holds `start` to the one that holds `end`; the span itself when none does."""
    touched = [(a, b) for a, b in ranges if a < end and start < b]
    if not touched:
        return start, end
    return min(touched[0][0], start), max(touched[-1][1], end)
