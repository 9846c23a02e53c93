"""Word error rate as the leaderboards count it: Whisper's English normalizer, then jiwer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import cast

import jiwer
from whisper_normalizer.english import EnglishTextNormalizer

__all__ = ["WordErrors", "normalize", "word_errors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WordErrors:
    """Counts over a set of texts; `words` are the reference's."""

    words: int
    substitutions: int
    deletions: int
    insertions: int

    @property
    def rate(self) -> float:
        """Errors per reference word; 0 for no words and no errors."""
        errors = self.substitutions + self.deletions + self.insertions
        return errors / self.words if self.words else float(errors > 0)


@cache
def _normalizer() -> EnglishTextNormalizer:
    return EnglishTextNormalizer()


def normalize(text: str) -> str:
    """Lower case, numbers and contractions in one form, no punctuation."""
    return cast(str, _normalizer()(text))


def word_errors(references: Sequence[str], hypotheses: Sequence[str]) -> WordErrors:
    """Compare texts pair by pair; ValueError if their numbers differ."""
    if len(references) != len(hypotheses):
        raise ValueError("as many hypotheses as references")
    pairs = [(normalize(r), normalize(h)) for r, h in zip(references, hypotheses, strict=True)]
    spoken = [pair for pair in pairs if pair[0]]
    # jiwer takes no empty reference; every word found there is an insertion.
    extra = sum(len(h.split()) for r, h in pairs if not r)
    if not spoken:
        return WordErrors(words=0, substitutions=0, deletions=0, insertions=extra)
    found = jiwer.process_words([r for r, _ in spoken], [h for _, h in spoken])
    return WordErrors(
        words=found.hits + found.substitutions + found.deletions,
        substitutions=found.substitutions,
        deletions=found.deletions,
        insertions=found.insertions + extra,
    )
