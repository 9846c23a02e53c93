"""Write reviews.jsonl and reviews.truth.jsonl from the sentences of phrases.txt.

Run from anywhere: `python samples/make_reviews.py`. The same phrases give the same files.

reviews.jsonl has one event a line, in the order of sending: a review, an edit of it (same
review_id, higher version) or a deletion (`"deleted": true`). reviews.truth.jsonl has one line
for each review left in the end, in its last version: the aspects its text names, in
order, each with the polarity that the writer of the sentence meant, and their character spans.
A text may name more things than its truth holds (a breakfast's eggs, a card's statement).
"""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

__all__ = ["DAYS", "START", "Clause", "Product", "build", "load_phrases", "main"]

HERE = Path(__file__).resolve().parent
SEED = 20_260_920
START = datetime(2026, 9, 20, tzinfo=UTC)
DAYS = 60
PER_PRODUCT = 31  # with 8 products: 248 reviews
EDITS = 5
POLARITIES = ("positive", "neutral", "negative")
MARKS = {"+": "positive", "~": "neutral", "-": "negative"}
AUTHORS = (
    "Ana P.", "Ben", "Chidi O.", "D. Marsh", "Elif", "Farouk A.", "Grace L.", "H. Ivanov", "Imani",
    "Jonas", "K. Tanaka", "Lucía R.", "Marta", "N. Okafor", "Oskar", "Pooja S.", "Quentin", "R. Haddad",
    "Sofie", "Tomás", "U. Lind", "Vera", "Wes", "Xin Y.", "Yara", "Zoltán K.",
)  # fmt: skip
JOIN_SAME = (". ", ". ", ", and ", "; ", ". Also, ", ". What is more, ")
JOIN_OTHER = (", but ", ", but ", ". On the other hand, ", ", although ", ". Then again, ", ". Still, ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Clause:
    """One hand-written statement, its aspect terms still in [brackets]."""

    text: str
    polarity: str

    @property
    def joins(self) -> bool:
        """Whether it reads well inside a longer sentence."""
        return "," not in self.text and ":" not in self.text


@dataclass(slots=True, kw_only=True)
class Product:
    """A product's material as phrases.txt gives it."""

    name: str
    prefix: str
    aspects: dict[str, list[Clause]] = field(default_factory=dict)
    weights: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    openings: list[str] = field(default_factory=list)
    closings: list[str] = field(default_factory=list)
    without: list[str] = field(default_factory=list)


def load_phrases(path: Path = HERE / "phrases.txt") -> list[Product]:
    """Read the hand-written material; ValueError names the line that is not understood."""
    products: list[Product] = []
    aspect = ""
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        mark, _, rest = line.partition(" ")
        if not line or mark == "#":
            continue
        if mark == "=":
            name, _, prefix = rest.partition(" | ")
            products.append(Product(name=name, prefix=prefix))
        elif mark == "@":
            early, late = rest.split(" > ")
            *words, a, b, c = early.split()
            aspect = " ".join(words)
            products[-1].weights[aspect] = (
                (int(a), int(b), int(c)),
                tuple(int(weight) for weight in late.split()),
            )
        elif mark in MARKS:
            clause = Clause(text=rest, polarity=MARKS[mark])
            products[-1].aspects.setdefault(aspect, []).append(clause)
        elif mark == "^":
            products[-1].openings.append(rest)
        elif mark == "$":
            products[-1].closings.append(rest)
        elif mark == "0":
            products[-1].without.append(rest)
        else:
            raise ValueError(f"{path.name}, line {number}: unknown mark {mark!r}")
    return products


class _Writer:
    """Writes reviews of one product, taking the least used sentence first."""

    def __init__(self, product: Product, rng: random.Random) -> None:
        self.product = product
        self.rng = rng
        self.used: Counter[str] = Counter()
        self.written: set[str] = set()

    def _least_used(self, texts: Sequence[str]) -> str:
        fewest = min(self.used[text] for text in texts)
        text = self.rng.choice([text for text in texts if self.used[text] == fewest])
        self.used[text] += 1
        return text

    def _clause(self, aspect: str, late: bool) -> Clause:
        clauses = self.product.aspects[aspect]
        weights = self.product.weights[aspect][late]
        (polarity,) = self.rng.choices(POLARITIES, weights)
        fitting = [c for c in clauses if c.polarity == polarity]
        text = self._least_used([c.text for c in fitting])
        return next(c for c in fitting if c.text == text)

    def write(self, late: bool) -> tuple[str, list[Clause]]:
        """A text that was not written before, with brackets, and the clauses in it, in order."""
        while True:
            text, clauses = self._draft(late)
            if text not in self.written:
                self.written.add(text)
                return text, clauses

    def _draft(self, late: bool) -> tuple[str, list[Clause]]:
        (count,) = self.rng.choices((1, 2, 3, 4), (20, 40, 28, 12))
        aspects = self.rng.sample(sorted(self.product.aspects), count)
        clauses = [self._clause(aspect, late) for aspect in aspects]
        parts = [self._least_used(self.product.openings)] if self.rng.random() < 0.5 else []
        parts.append(self._body(clauses))
        if self.rng.random() < 0.4:
            parts.append(self._least_used(self.product.closings))
        return " ".join(parts), clauses

    def _body(self, clauses: list[Clause]) -> str:
        text = _capital(clauses[0].text)
        open_sentence = clauses[0].joins
        for before, clause in pairwise(clauses):
            join = self.rng.choice(JOIN_SAME if before.polarity == clause.polarity else JOIN_OTHER)
            if not join.startswith(".") and not (open_sentence and clause.joins):
                join = ". "
            open_sentence = clause.joins and join.startswith(".")
            text += join + (_capital(clause.text) if join == ". " else clause.text)
        end = "!" if clauses[-1].polarity == "positive" and self.rng.random() < 0.2 else "."
        return text + end


def _capital(text: str) -> str:
    first = 1 if text.startswith("[") else 0
    return text[:first] + text[first].upper() + text[first + 1 :]


def _unmark(marked: str) -> tuple[str, list[tuple[int, int]]]:
    """The text without brackets, and where in it the bracketed terms stand."""
    spans: list[tuple[int, int]] = []
    for nth, match in enumerate(re.finditer(r"\[(.+?)\]", marked)):
        start = match.start() - 2 * nth
        spans.append((start, start + len(match[1])))
    return re.sub(r"[\[\]]", "", marked), spans


def _truth(review: dict[str, object], version: int, marked: str, clauses: Sequence[Clause]) -> dict[str, object]:
    text, spans = _unmark(marked)
    polarities = [clause.polarity for clause in clauses for _ in range(clause.text.count("["))]
    return {
        "review_id": review["review_id"],
        "version": version,
        "aspects": [[text[a:b], p] for (a, b), p in zip(spans, polarities, strict=True)],
        "spans": [list(span) for span in spans],
    }


def _rating(clauses: Sequence[Clause], rng: random.Random) -> float | None:
    if rng.random() < 0.15:
        return None
    balance = sum((c.polarity == "positive") - (c.polarity == "negative") for c in clauses)
    mean = 3 + 2 * balance / max(1, len(clauses))
    return float(min(5, max(1, round(mean + rng.uniform(-0.7, 0.7)))))


def build() -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """(events in the order of sending, truth of what is left), as JSON-ready dicts."""
    rng = random.Random(SEED)
    rows: list[tuple[datetime, dict[str, object], dict[str, object], _Writer]] = []
    for turn, product in enumerate(load_phrases()):
        writer = _Writer(product, rng)
        for number in range(PER_PRODUCT):
            # Even over the period, so that no product has a hole; every other product a day later.
            day = min(DAYS - 1, number * (DAYS - 1) // (PER_PRODUCT - 1) + turn % 2)
            when = START + timedelta(days=day, seconds=rng.randrange(6 * 3600, 23 * 3600))
            marked, clauses = writer.write(late=day >= DAYS // 2)
            if number % 15 == 7:
                marked, clauses = product.without[number // 15], []
            review: dict[str, object] = {
                "review_id": f"{product.prefix}-{number + 1:03d}",
                "version": 1,
                "product": product.name,
                "author": rng.choice(AUTHORS),
                "rating": _rating(clauses, rng),
                "language": "en",
                "created_at": when.isoformat(timespec="seconds"),
                "text": _unmark(marked)[0],
            }
            rows.append((when, review, _truth(review, 1, marked, clauses), writer))
    rows.sort(key=lambda row: (row[0], str(row[1]["review_id"])))

    events = [review for _, review, _, _ in rows]
    truth = {str(review["review_id"]): known for _, review, known, _ in rows}
    changed = rng.sample(rows, EDITS + 2)
    for when, review, _, writer in changed[:EDITS]:
        marked, clauses = writer.write(late=when >= START + timedelta(days=DAYS // 2))
        marked = "Update: " + marked
        events.append({**review, "version": 2, "rating": _rating(clauses, rng), "text": _unmark(marked)[0]})
        truth[str(review["review_id"])] = _truth(review, 2, marked, clauses)
    for _, review, _, _ in changed[EDITS:]:
        events.append({"review_id": review["review_id"], "version": 2, "deleted": True})
        del truth[str(review["review_id"])]
    return events, list(truth.values())


def main(folder: Path = HERE) -> None:
    """Write both files into `folder`."""
    for name, rows in zip(("reviews.jsonl", "reviews.truth.jsonl"), build(), strict=True):
        lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        (folder / name).write_text(lines, "utf-8")


if __name__ == "__main__":
    main()
