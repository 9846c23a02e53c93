"""The sample reviews and calls as labelled sentences: templated and not blind, so they stand beside the benchmarks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sentiment.data import CorpusError, Mention, Sentence

__all__ = ["SAMPLES", "call_labels", "sample_calls", "sample_reviews"]

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def sample_reviews(folder: Path = SAMPLES) -> list[Sentence]:
    """Each remaining review in its last version, with the aspects that reviews.truth.jsonl names. Raises CorpusError."""
    events = [json.loads(line) for line in (folder / "reviews.jsonl").read_text("utf-8").splitlines()]
    texts = {(e["review_id"], e["version"]): e["text"] for e in events if "text" in e}
    out = []
    for line in (folder / "reviews.truth.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        text, mentions = texts[row["review_id"], row["version"]], []
        for (term, polarity), (start, end) in zip(row["aspects"], row["spans"], strict=True):
            if text[start:end] != term:
                raise CorpusError(f"reviews.truth.jsonl, {row['review_id']}: {start}:{end} is not {term!r}")
            mentions.append(Mention(start=start, end=end, polarity=polarity))
        out.append(Sentence(text=text, mentions=tuple(mentions), domain="sample-reviews", group=row["review_id"]))
    return out


def sample_calls(folder: Path = SAMPLES) -> list[Sentence]:
    """The calls' labelled aspects, each in the first utterance that holds its words (in any case), the customer's first.

    The labels name no place, so an aspect whose words nobody says is left out.
    """
    out = []
    for call in _calls(folder):
        spoken = sorted(call["utterances"], key=lambda u: u["speaker"] != "customer")
        for term, polarity in call["aspects"]:
            for text in (u["text"] for u in spoken):
                start = text.casefold().find(term.casefold())
                if start >= 0:
                    mention = Mention(start=start, end=start + len(term), polarity=polarity)
                    out.append(Sentence(text=text, mentions=(mention,), domain="sample-calls", group=call["call_id"]))
                    break
    return out


def call_labels(folder: Path = SAMPLES) -> list[tuple[list[str], set[str]]]:
    """Of each call its utterances' texts and the names of its labelled aspects, casefolded. It may name more than those."""
    return [
        ([u["text"] for u in call["utterances"]], {term.casefold() for term, _ in call["aspects"]})
        for call in _calls(folder)
    ]


def _calls(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(path.read_text("utf-8")) for path in sorted((folder / "calls").glob("*.json"))]
