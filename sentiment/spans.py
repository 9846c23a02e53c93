"""From tag scores to aspect spans with a confidence."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sentiment.metrics import softmax

__all__ = ["Found", "decode", "joined", "listed", "mentioned", "without_overlaps"]


# Alone these name nothing; the tagger now and then takes one for an aspect.
_NO_ASPECT = frozenset(
    re.findall(
        r"\w+", "a an the this that these those my your our his her its their it they he she we you i me us them"
    )
)
# What ends in one of these is the product as a whole, or nothing in particular: by our rule no aspect (sentiment/corpus).
# Not the list that takes marks off TSA-MD (corpora.py): that one knows what TSA-MD's annotators marked ("place", "work"), and
# a word there costs one label; here it would make an aspect unfindable. Another list would be another model, to be measured.
_WHOLE = frozenset(
    re.findall(
        r"\w+",
        "laptop laptops computer computers notebook netbook machine pc mac phone smartphone tablet device unit product item "
        "thing things restaurant hotel company brand store shop anything everything nothing",
    )
)


# Of those, what names a part behind another word: a coffee machine, an air conditioning unit, a gift shop. A gaming laptop or
# a Thai restaurant stays the whole: to let every such word through made up more spans on LAP14 and found none.
_HEADS = frozenset({"machine", "unit", "device", "store", "shop"})


def _names_a_part(text: str) -> bool:
    """`decode` has taken articles and pronouns off the front."""
    words = re.findall(r"\w+", text.casefold())
    if len(words) < 2:
        return bool(words) and words[0] not in _WHOLE | _NO_ASPECT
    return words[-1] not in _WHOLE - _HEADS


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """An aspect: characters [start, end) and the model's confidence 0..1 in all of its words' tags."""

    start: int
    end: int
    confidence: float


def joined(
    windows: Sequence[tuple[Sequence[tuple[int, int]], NDArray[np.floating]]],
) -> tuple[list[tuple[int, int]], NDArray[np.floating]]:
    """A sentence's words and logits [words, 3] from those of its windows, in order.

    A word that two windows share is judged by the one that sees more beside it: at its edge a window sees half an aspect.
    """
    chosen: dict[tuple[int, int], tuple[int, NDArray[np.floating]]] = {}
    for n, (words, logits) in enumerate(windows):
        before = 0 if n else len(words)  # a sentence's own beginning and end are no edges
        behind = 0 if n + 1 < len(windows) else len(words)
        for i, word in enumerate(words):
            room = min(i + before, len(words) - 1 - i + behind)
            if word not in chosen or room > chosen[word][0]:
                chosen[word] = room, logits[i]
    return list(chosen), np.array([row for _, row in chosen.values()]).reshape(-1, 3)


def decode(
    text: str,
    words: Sequence[tuple[int, int]],
    logits: NDArray[np.floating],
    *,
    temperature: float = 1.0,
    threshold: float = 0.0,
    only_parts: bool = True,
) -> list[Found]:
    """Spans from logits [words, 3] over O, B, I. A lone I opens a span; confidence is the least word's 1 - P(O).

    Dropped: spans under the threshold and, with `only_parts`, those without a letter or digit, of a mere pronoun or article,
    or naming a whole product.
    """
    p = softmax(logits, temperature)
    tags = p.argmax(axis=1)
    groups: list[list[int]] = []
    for i, tag in enumerate(tags):
        if tag == 0:
            continue
        if tag == 2 and groups and groups[-1][-1] == i - 1:
            groups[-1].append(i)
        else:
            groups.append([i])
    out = []
    for group in groups:
        while len(group) > 1 and text[slice(*words[group[0]])].casefold() in _NO_ASPECT:
            group = group[1:]  # "the battery": an article or pronoun is no part of a name, nor of its confidence
        start, end = words[group[0]][0], words[group[-1]][1]
        confidence = float(min(1.0 - p[i, 0] for i in group))
        if confidence >= threshold and (not only_parts or _names_a_part(text[start:end])):
            out.append(Found(start=start, end=end, confidence=confidence))
    return out


def without_overlaps(found: Sequence[Found], first: Sequence[Found] = ()) -> list[Found]:
    """Of those that overlap the surer one stays, the longer one if equal. `first` stay all."""
    kept: list[Found] = list(first)
    for f in sorted(found, key=lambda f: (-f.confidence, f.start - f.end, f.start)):
        if all(f.end <= k.start or k.end <= f.start for k in kept):
            kept.append(f)
    return sorted(kept, key=lambda f: f.start)


def listed(known: Sequence[str]) -> re.Pattern[str] | None:
    """A pattern for any of these words, the longest first, alone or in a simple plural; None for an empty list."""
    words = sorted({" ".join(one.split()) for one in known if one.strip()}, key=lambda one: (-len(one), one))
    if not words:
        return None
    either = "|".join(re.escape(one).replace(r"\ ", r"\s+") for one in words)
    return re.compile(rf"(?<!\w)(?:{either})(?:e?s)?(?!\w)", re.IGNORECASE)


def mentioned(
    text: str,
    words: Sequence[tuple[int, int]],
    logits: NDArray[np.floating],
    known: re.Pattern[str] | None,
    *,
    temperature: float = 1.0,
) -> list[Found]:
    """Where the text says one of the known words; confidence as of `decode`: the least word's 1 - P(O)."""
    out = []
    for match in known.finditer(text) if known is not None else ():
        start, end = match.span()
        inside = [i for i, (a, b) in enumerate(words) if a < end and start < b]
        if inside:
            p = softmax(logits[inside], temperature)
            out.append(Found(start=start, end=end, confidence=float(1.0 - p[:, 0].max())))
    return out
