"""Aspects and polarities of a text together: what `earful aspects` shows. The Python calls are in sentiment/predict.py."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from sentiment.data import POLARITIES
from sentiment.predict import MODEL_REPO, InvalidInput
from sentiment.serve import AspectModel, PolarityModel, UnsupportedLanguage, require_english
from sentiment.summary import Judged
from sentiment.taxonomy import VERSION

__all__ = ["UNSURE", "JudgedText", "Judges"]

UNSURE = "unsure"


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedText:
    """One text's aspects; `refused` is a sentence where the text cannot be read, also where it is not English."""

    line: int
    text: str
    aspects: list[Judged] = field(default_factory=list)
    refused: str | None = None
    unsupported_language: bool = False


class Judges:
    """The extractor and the polarity model together. Folders default to the shipped ones."""

    def __init__(self, *, aspects: Path | None = None, cvib: Path | None = None) -> None:
        self._aspects = AspectModel(aspects or MODEL_REPO / "aspects" / "1")
        self._cvib = PolarityModel(cvib or MODEL_REPO / "cvib" / "1")
        #: Of what answers, as a run names them.
        self.versions = {"aspects": self._aspects.version, "cvib": self._cvib.version, "taxonomy": VERSION}

    def judge(
        self,
        text: str,
        *,
        line: int = 1,
        min_confidence: float | None = None,
        min_probability: float = 0.0,
        known: Sequence[str] = (),
    ) -> JudgedText:
        """One text. A polarity below `min_probability` becomes `unsure`; `known` words are aspects wherever they stand."""
        try:
            require_english(text)
            found = self._aspects.find(text, threshold=min_confidence, known=known)
            rows = self._cvib.probabilities(text, [(a.start, a.end) for a in found])
        except InvalidInput as err:
            foreign = isinstance(err, UnsupportedLanguage)
            return JudgedText(line=line, text=text, refused=str(err), unsupported_language=foreign)
        out = []
        for a, row in zip(found, rows.tolist(), strict=True):
            best = max(row)
            out.append(
                Judged(
                    line=line,
                    start=a.start,
                    end=a.end,
                    aspect=text[a.start : a.end],
                    aspect_id=a.aspect_id,
                    confidence=a.confidence,
                    negative=row[0],
                    neutral=row[1],
                    positive=row[2],
                    polarity=POLARITIES[row.index(best)] if best >= min_probability else UNSURE,
                )
            )
        return JudgedText(line=line, text=text, aspects=out)
