"""A text may name more aspects than a request of Triton may hold spans: none of them is lost, nor the text."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from sentiment.encode import TextEncoder
from sentiment.judge import Judges
from sentiment.predict import MODEL_REPO, polarity
from sentiment.serve import PolarityModel
from sentiment.triton import MAX_SPANS
from workers.aspects import find_mentions
from workers.deadline import Deadline
from workers.inference import AspectSpan, Polarity

TEXT = "Good food.\n" * 600
SPANS = [(11 * n + 5, 11 * n + 9) for n in range(600)]


def test_the_python_call_judges_them_all() -> None:
    found = polarity(TEXT, SPANS)
    assert (len(found), {one.label for one in found}) == (600, {"positive"})


def test_earful_aspects_judges_them_all() -> None:
    judged = Judges().judge(TEXT, min_confidence=0.3)
    assert (judged.refused, len(judged.aspects)) == (None, 600)


def test_a_sentence_of_many_aspects_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anew for each of 512, in 20,000 characters without punctuation, it was a third of the time."""
    model, read = PolarityModel(MODEL_REPO / "cvib" / "1"), list[str]()
    right = TextEncoder._encode
    monkeypatch.setattr(TextEncoder, "_encode", lambda self, text: read.append(text) or right(self, text))
    text = "the fan hums and the lid sticks\nthe lid sticks"
    assert len(model.pairs(text, [(4, 7), (21, 24), (36, 39), (4, 7)])) == 4
    assert read == ["the fan hums and the lid sticks", "the lid sticks"]


class Servers:
    """Stands for Triton: `cvib` refuses what sentiment/triton.py refuses."""

    def __init__(self, spans: int) -> None:
        self.asked: list[int] = []
        self._spans = [AspectSpan(start=n, end=n + 1, confidence=1.0, aspect_id="other") for n in range(spans)]

    async def aspects(
        self, _text: str, _deadline: Deadline, product: str | None = None
    ) -> tuple[list[AspectSpan], str]:
        return self._spans, "a"

    async def polarities(
        self, _text: str, spans: Sequence[AspectSpan], _deadline: Deadline
    ) -> tuple[list[Polarity], str]:
        assert len(spans) <= MAX_SPANS
        self.asked.append(len(spans))
        return [Polarity(negative=one.start / 1e4, neutral=0.0, positive=1 - one.start / 1e4) for one in spans], "c"


@pytest.mark.parametrize(("spans", "asked", "version"), [(1818, [512, 512, 512, 282], "a+c"), (0, [], "a")])
def test_a_worker_asks_in_slices(spans: int, asked: list[int], version: str) -> None:
    servers = Servers(spans)
    found = asyncio.run(find_mentions(servers, "x" * 20_000, Deadline.after(60)))  # type: ignore[arg-type]
    assert (servers.asked, found.made.model_version) == (asked, version)
    assert [one.polarity.negative for one in found.mentions] == [one.span.start / 1e4 for one in found.mentions]
    assert len(found.mentions) == spans
