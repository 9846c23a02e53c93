"""The test sets: what the models are measured on, and what no training may hold a sentence of."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sentiment.data import CorpusError, Sentence, read_arts, read_own, read_semeval14, read_semeval15, read_twitter

__all__ = ["ARTS", "HELD_OUT_DOMAINS", "OWN", "benchmarks", "every_test_sentence"]

OWN = Path(__file__).parent / "corpus" / "own.txt"
HELD_OUT_DOMAINS = ("gym", "car_service")  # wholly held out of training and selection: what a new domain gets
ARTS = {"ARTS-REST": "rest_test_enriched.json", "ARTS-LAP": "laptop_test_enriched.json"}

_Reader = Callable[..., list[Sentence]]
# name: folder, pattern of the test file, reader
_SETS: dict[str, tuple[str, str, _Reader]] = {
    "REST14": ("semeval14_restaurants", "*Test*.xml", read_semeval14),
    "LAP14": ("semeval14_laptops", "*Test*.xml", read_semeval14),
    "REST15": ("semeval15_restaurants", "*Test*.xml", read_semeval15),
    "REST16": ("semeval16_restaurants", "*TEST*", read_semeval15),
}


def benchmarks(absa: Path, *, conflict: bool = False) -> dict[str, list[Sentence]]:
    """The test sets by name, but ARTS; `own-held-out` are our sentences of the domains that no training saw.

    `conflict` keeps the aspects about which a sentence is of two minds: for extraction, not for polarity. Raises OSError
    or CorpusError where one is missing.
    """
    found = {"MAMS": read_semeval14(absa / "mams" / "ATSA" / "test.xml", "mams")}
    for name, (folder, pattern, read) in _SETS.items():
        path = min((absa / folder).glob(pattern), default=None)
        if path is None:
            raise CorpusError(f"{absa / folder} holds no test file ({pattern})")
        found[name] = read(path, name.lower(), conflict=conflict)
    found["Twitter"] = read_twitter(absa / "twitter" / "test.raw")
    found["own-held-out"] = [s for s in read_own(OWN) if s.domain in HELD_OUT_DOMAINS]
    return found


def every_test_sentence(absa: Path) -> list[Sentence]:
    """Those of `benchmarks` and of ARTS. Raises OSError or CorpusError where a set is missing: nothing may be forgotten."""
    found = [s for sentences in benchmarks(absa).values() for s in sentences]
    return found + [s for name, file in ARTS.items() for s in read_arts(absa / "arts" / file, name)]
