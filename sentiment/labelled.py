"""A user's own labelled texts: CSV or JSONL, every wrong line named.

JSONL, a text a line:   {"text": "The screen is great.", "aspects": [{"from": 4, "to": 10, "polarity": "positive"}]}
or an aspect a line:    {"text": "The screen is great.", "from": 4, "to": 10, "polarity": "positive"}
CSV, an aspect a line:  text,from,to,polarity      or      text,aspect,polarity

Lines with the same text belong together; one without an aspect says that the text names none. `from` and `to` count
characters from 0, `to` excluded. `aspect`, the words themselves, will do where they occur once in the text; beside
`from` and `to` it must agree with them.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sentiment.data import POLARITIES, Mention, Sentence
from sentiment.language import foreign
from sentiment.segment import sentence_at, sentences

__all__ = ["FileProblem", "Line", "by_sentence", "not_english", "problems", "read_labelled", "rows"]

_MAX_PROBLEMS = 100
_WHOLE_NUMBER = re.compile(r"(-?[0-9]{1,9})(?:\.0*)?")  # pandas writes 4.0 where a cell of the column is empty


class FileProblem(Exception):
    """A line of a file is wrong; lines count from 1. No frozen dataclass: Python writes into an exception on its way."""

    def __init__(self, file: str, line: int, problem: str) -> None:
        super().__init__(file, line, problem)
        self.file, self.line, self.problem = file, line, problem

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}: {self.problem}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One labelled text of a file."""

    number: int
    text: str
    mentions: tuple[Mention, ...]


def rows(path: Path) -> Iterator[tuple[int, Mapping[str, object] | FileProblem]]:
    """Each line's number and fields, of .jsonl or .csv; what is no row is a problem instead."""
    kind = path.suffix.lower()
    if kind not in (".jsonl", ".csv"):
        yield 1, FileProblem(path.name, 1, "texts with labels come as .jsonl or .csv")
        return
    try:
        raw = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as err:
        at = path.read_bytes()[: err.start].count(b"\n") + 1
        yield at, FileProblem(path.name, at, "it is not UTF-8")
        return
    if kind == ".csv":
        yield from _csv_rows(path.name, raw)
        return
    for number, line in enumerate(raw.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as err:
            yield number, FileProblem(path.name, number, f"it is not JSON ({err})")
            continue
        yield number, row if isinstance(row, dict) else FileProblem(path.name, number, "it is not a JSON object")


def _csv_rows(name: str, raw: str) -> Iterator[tuple[int, Mapping[str, object] | FileProblem]]:
    """A record's number is that of its first line; a field in quotes may go over several."""
    reader = csv.reader(io.StringIO(raw, newline=""), strict=True)
    columns: list[str] = []
    first = 1
    try:
        for cells in reader:
            if cells and not columns:
                columns = cells
            elif len(cells) > len(columns):
                yield first, FileProblem(name, first, "more fields than columns")
            elif cells:
                yield first, dict(itertools.zip_longest(columns, cells))
            first = reader.line_num + 1
    except csv.Error as err:
        yield first, FileProblem(name, first, f"it is not CSV ({err})")


def read_labelled(path: Path) -> list[Line]:
    """The texts of a file in order. Raises FileProblem for its first wrong line."""
    found = list(_lines(path))
    for one in found:
        if isinstance(one, FileProblem):
            raise one
    return [one for one in found if isinstance(one, Line)]


def problems(path: Path) -> list[FileProblem]:
    """What keeps a file from being trained on, 100 at most: every wrong line, and every text that is not English."""
    found = list(_lines(path))
    wrong = [one for one in found if isinstance(one, FileProblem)]
    wrong += not_english(path.name, [one for one in found if isinstance(one, Line)])
    return sorted(wrong, key=lambda one: one.line)[:_MAX_PROBLEMS]


def not_english(file: str, lines: Sequence[Line]) -> list[FileProblem]:
    """The texts that the models would refuse, by line."""
    found = [(line.number, foreign(line.text)) for line in lines]
    return [
        FileProblem(
            file, number, f"the text is not English (it looks like {language}), which the models refuse: leave it out"
        )
        for number, language in found
        if language is not None
    ]


def _lines(path: Path) -> Iterator[Line | FileProblem]:
    texts: dict[str, tuple[int, dict[tuple[int, int], Mention]]] = {}
    for number, row in rows(path):
        if isinstance(row, FileProblem):
            yield row
            continue
        try:
            text = _text(row)
            found = texts.setdefault(text, (number, {}))[1]
            for mention in _mentions(row, text):
                other = found.setdefault((mention.start, mention.end), mention)
                if other.polarity != mention.polarity:
                    raise ValueError(f"the span {mention.start}:{mention.end} is {other.polarity} on an earlier line")
        except ValueError as err:
            yield FileProblem(path.name, number, str(err))
    for text, (number, mentions) in texts.items():
        ordered = sorted(mentions.values(), key=lambda m: (m.start, m.end))
        crossing = [b for a, b in itertools.pairwise(ordered) if b.start < a.end]
        if crossing:
            yield FileProblem(path.name, number, f"the span {crossing[0].start}:{crossing[0].end} overlaps another")
        else:
            yield Line(number=number, text=text, mentions=tuple(ordered))


def _text(row: Mapping[str, object]) -> str:
    text = row.get("text")
    if not isinstance(text, str) or not text.strip():
        raise ValueError("`text` is missing")
    try:
        text.encode()
    except UnicodeEncodeError as err:
        raise ValueError(
            f"character {err.start} of `text` is half a surrogate pair: write the whole character"
        ) from err
    return text


def _mentions(row: Mapping[str, object], text: str) -> Iterator[Mention]:
    listed = row.get("aspects")
    beside = [name for name in ("from", "to", "aspect", "polarity") if row.get(name) not in (None, "")]
    if isinstance(listed, list):
        if beside:
            raise ValueError(f"`{beside[0]}` stands beside `aspects`: it belongs into that list")
        for one in listed:
            if not isinstance(one, dict):
                raise ValueError("`aspects` is a list of {from, to, polarity}")
            yield _mention(one, text)
    elif listed not in (None, ""):
        raise ValueError("`aspects` is a list of {from, to, polarity}")
    elif beside:
        yield _mention(row, text)


def _mention(fields: Mapping[str, object], text: str) -> Mention:
    polarity = str(fields.get("polarity") or "").strip().lower()
    if polarity not in POLARITIES:
        raise ValueError(f"`polarity` is one of {', '.join(POLARITIES)}")
    start, end = span_of(fields, text)
    return Mention(start=start, end=end, polarity=polarity)


def span_of(fields: Mapping[str, object], text: str) -> tuple[int, int]:
    """`from` and `to`, or where `aspect` stands; where all are given they must agree. Raises ValueError."""
    words = str(fields.get("aspect") or "").strip()
    if words and all(fields.get(name) in (None, "") for name in ("from", "to")):
        start, end = _only_place(words, text)
    else:
        start, end = _given(fields, text)
        if words and text[start:end].casefold() != words.casefold():
            raise ValueError(
                f"`aspect` is not what stands at {start}:{end}: correct one of them, or leave `aspect` out"
            )
    if not any(_readable(c) for c in text[start:end]):  # the tokenizer drops the others
        raise ValueError(f"the span {start}:{end} holds nothing to read, only accents or invisible characters")
    return start, end


def _readable(c: str) -> bool:
    return unicodedata.category(c)[0] in "LNPS" and c != "\ufffd"


def _only_place(words: str, text: str) -> tuple[int, int]:
    pattern = rf"(?<!\w){re.escape(words)}(?!\w)"
    places = [match.span() for match in re.finditer(pattern, text, re.IGNORECASE)]
    if len(places) != 1:
        times = "does not occur" if not places else f"occurs {len(places)} times"
        raise ValueError(f"the aspect {times} in the text: give `from` and `to`")
    return places[0]


def _given(fields: Mapping[str, object], text: str) -> tuple[int, int]:
    found = [_WHOLE_NUMBER.fullmatch(str(fields.get(name)).strip()) for name in ("from", "to")]
    start, end = (int(match[1]) if match else None for match in found)
    if start is None or end is None:
        raise ValueError("`from` and `to` are numbers of characters")
    if not 0 <= start < end <= len(text):
        raise ValueError(f"the span {start}:{end} lies outside the text of {len(text)} characters")
    if text[start:end].strip() != text[start:end]:
        raise ValueError(f"the span {start}:{end} begins or ends with a space")
    return start, end


def by_sentence(line: Line, domain: str = "user") -> list[Sentence]:
    """The sentences of a text with their aspects, as the models read them."""
    ranges = sentences(line.text)
    wide = {sentence_at(ranges, m.start, m.end) for m in line.mentions}  # an aspect may hold a full stop
    ranges = [r for r in ranges if not any(low <= r[0] and r[1] <= high and r != (low, high) for low, high in wide)]
    out = []
    for low, high in sorted({*ranges, *wide}):
        inside = [
            Mention(start=m.start - low, end=m.end - low, polarity=m.polarity)
            for m in line.mentions
            if low <= m.start and m.end <= high
        ]
        out.append(Sentence(text=line.text[low:high], mentions=tuple(inside), domain=domain, group=str(line.number)))
    return out
