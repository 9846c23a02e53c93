"""Aspects and polarities in a process of one's own, without servers.

from sentiment.predict import aspects, polarity
found = aspects("The battery is great.")
polarity("The battery is great.", [(a.start, a.end) for a in found])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from sentiment.data import POLARITIES
from sentiment.serve import Aspect, AspectModel, InvalidInput, PolarityModel, UnsupportedLanguage, require_english

__all__ = ["MODEL_REPO", "Aspect", "InvalidInput", "Polarity", "UnsupportedLanguage", "aspects", "polarity"]

MODEL_REPO = Path(__file__).resolve().parent.parent / "model_repo"


@dataclass(frozen=True, slots=True, kw_only=True)
class Polarity:
    """Calibrated probabilities of one aspect's polarity; they add up to 1."""

    negative: float
    neutral: float
    positive: float

    @property
    def label(self) -> str:
        """The likeliest of negative, neutral, positive."""
        return max(POLARITIES, key=lambda name: float(getattr(self, name)))

    @property
    def confidence(self) -> float:
        """The likeliest one's probability."""
        return max(self.negative, self.neutral, self.positive)


@cache
def _aspects(folder: Path) -> AspectModel:
    return AspectModel(folder)


@cache
def _polarity(folder: Path) -> PolarityModel:
    return PolarityModel(folder)


def aspects(
    text: str, *, min_confidence: float | None = None, known: Sequence[str] = (), model: Path | None = None
) -> list[Aspect]:
    """The aspects that a text names, with character offsets. `model`: a serving folder; default: the shipped one.

    `min_confidence` 0..1 replaces the model's own; `known` words are aspects wherever they stand.
    Raises InvalidInput (too long), UnsupportedLanguage (not English).
    """
    require_english(text)
    return _aspects(model or MODEL_REPO / "aspects" / "1").find(text, threshold=min_confidence, known=known)


def polarity(text: str, spans: Sequence[tuple[int, int]], *, model: Path | None = None) -> list[Polarity]:
    """One polarity for each span of characters [start, end). `model`: a serving folder; default: the shipped one.

    Raises InvalidInput (a span outside the text, a text too long), UnsupportedLanguage (not English).
    """
    require_english(text)
    rows = _polarity(model or MODEL_REPO / "cvib" / "1").probabilities(text, spans)
    return [Polarity(negative=float(n), neutral=float(o), positive=float(p)) for n, o, p in rows]
