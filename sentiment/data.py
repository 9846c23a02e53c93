"""Labelled sentences: readers for the public formats and for our own corpus, and the removal of leaks.

Every reader checks that each span's text is what the file says, and raises `CorpusError` with file and line or item.
"""

from __future__ import annotations

import json
import re
import unicodedata
import xml.etree.ElementTree as ET  # the files read here are the trainer's own, never a stranger's
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "POLARITIES",
    "CorpusError",
    "Mention",
    "Sentence",
    "drop_leaks",
    "normalise",
    "parse_marked",
    "read_arts",
    "read_json_spans",
    "read_own",
    "read_semeval14",
    "read_semeval15",
    "read_twitter",
]

POLARITIES = ("negative", "neutral", "positive")
_MARKS = {"-": "negative", "0": "neutral", "+": "positive"}


class CorpusError(ValueError):
    """A line or item of a corpus cannot be read: the message names it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mention:
    """One aspect in a sentence: characters [start, end) and its polarity."""

    start: int
    end: int
    polarity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sentence:
    """A text with every aspect it names (none: the annotator found none). `group` joins variants of one original.

    `variant` is ARTS's: "" the original, adv1 the target's polarity reversed, adv2 the others' reversed, adv3 aspects added.
    """

    text: str
    mentions: tuple[Mention, ...]
    domain: str
    group: str = ""
    variant: str = ""


def _checked(text: str, term: str, start: int, end: int, where: str) -> None:
    if not 0 <= start < end <= len(text):
        raise CorpusError(f"{where}: span {start}:{end} lies outside the text of {len(text)} characters")
    if text[start:end].casefold() != term.casefold():
        raise CorpusError(f"{where}: the span {start}:{end} is not the term it names")


def read_semeval14(path: Path, domain: str, *, conflict: bool = False) -> list[Sentence]:
    """SemEval-2014 task 4 and MAMS-ATSA XML.

    Aspects marked `conflict` are dropped, as everywhere in the literature on polarity, or kept (`conflict`): in the
    extraction of aspects they count as any other.
    """
    out = []
    for n, node in enumerate(ET.parse(path).getroot().iter("sentence")):
        text = node.findtext("text") or ""
        found = []
        for term in node.iter("aspectTerm"):
            start, end = int(term.attrib["from"]), int(term.attrib["to"])
            _checked(text, term.attrib["term"], start, end, f"{path.name} sentence {n}")
            if conflict or term.attrib["polarity"] in POLARITIES:
                found.append(Mention(start=start, end=end, polarity=term.attrib["polarity"]))
        out.append(Sentence(text=text, mentions=tuple(found), domain=domain, group=f"{path.stem}:{n}"))
    return out


def read_semeval15(path: Path, domain: str, *, conflict: bool = False) -> list[Sentence]:
    """SemEval-2015/16 XML: explicit targets; one of two categories once; one of two polarities dropped, or kept (`conflict`)."""
    out = []
    for n, node in enumerate(ET.parse(path).getroot().iter("sentence")):
        text = node.findtext("text") or ""
        spans: dict[tuple[int, int], set[str]] = {}
        for op in node.iter("Opinion"):
            if op.attrib.get("target", "NULL") == "NULL":
                continue
            start, end = int(op.attrib["from"]), int(op.attrib["to"])
            _checked(text, op.attrib["target"], start, end, f"{path.name} sentence {n}")
            spans.setdefault((start, end), set()).add(op.attrib["polarity"])
        found = [
            Mention(start=s, end=e, polarity=p.pop() if len(p) == 1 else "conflict")
            for (s, e), p in sorted(spans.items())
            if conflict or len(p) == 1
        ]
        out.append(Sentence(text=text, mentions=tuple(found), domain=domain, group=f"{path.stem}:{n}"))
    return out


def read_json_spans(path: Path, domain: str) -> list[Sentence]:
    """TSA-MD: a JSON list of {text, targets: [{text, location: {begin, end}, sentiment}]}."""
    out = []
    for n, item in enumerate(json.loads(path.read_text(encoding="utf-8"))):
        found = []
        for target in item["targets"]:
            start, end = int(target["location"]["begin"]), int(target["location"]["end"])
            _checked(item["text"], target["text"], start, end, f"{path.name} item {n}")
            if target["sentiment"] in POLARITIES:
                found.append(Mention(start=start, end=end, polarity=target["sentiment"]))
        found.sort(key=lambda m: (m.start, m.end))
        out.append(Sentence(text=item["text"], mentions=tuple(found), domain=domain, group=f"{path.stem}:{n}"))
    return out


def read_arts(path: Path, domain: str) -> list[Sentence]:
    """ARTS: one item a sentence; `group` is the original's id, so that an original and its variants can be joined.

    Items whose stated span is not their term (3 a domain) are placed at the term's first occurrence, or dropped.
    """
    out = []
    for key, item in json.loads(path.read_text(encoding="utf-8")).items():
        text, term, start = item["sentence"], item["term"], int(item["from"])
        if text[start : start + len(term)] != term:
            start = text.casefold().find(term.casefold())
        if start < 0 or item["polarity"] not in POLARITIES:
            continue
        mention = Mention(start=start, end=start + len(term), polarity=item["polarity"])
        variant = key.rpartition("_")[2] if "_adv" in key else ""
        out.append(Sentence(text=text, mentions=(mention,), domain=domain, group=item["id"], variant=variant))
    return out


def read_twitter(path: Path, domain: str = "twitter") -> list[Sentence]:
    """Three lines an example: text with $T$, target, polarity (Negative/Neutral/Positive or -1/0/1).

    $T$ stands for the target wherever it occurs; the first is marked.
    """
    words = {"-1": "negative", "0": "neutral", "1": "positive"}
    lines = path.read_text(encoding="utf-8").splitlines()
    if len(lines) % 3:
        raise CorpusError(f"{path.name}: {len(lines)} lines are not groups of three")
    out = []
    for n in range(0, len(lines), 3):
        raw, target, mark = (line.strip() for line in lines[n : n + 3])
        start = raw.find("$T$")
        polarity = words.get(mark, mark.lower())
        if start < 0 or polarity not in POLARITIES:
            raise CorpusError(f"{path.name} line {n + 1}: no $T$ or an unknown polarity")
        mention = Mention(start=start, end=start + len(target), polarity=polarity)
        text = raw.replace("$T$", target)
        out.append(Sentence(text=text, mentions=(mention,), domain=domain, group=f"{path.stem}:{n // 3}"))
    return out


_MARKED = re.compile(r"\[([^\[\]|]+)\|([-0+])\]")


def parse_marked(line: str, domain: str, where: str) -> Sentence:
    """One line of our own corpus: `The [battery life|+] is great but the [fan|-] hums.` A line without marks names no aspect."""
    text, found, at = "", [], 0
    for match in _MARKED.finditer(line):
        text += line[at : match.start()]
        found.append(Mention(start=len(text), end=len(text) + len(match[1]), polarity=_MARKS[match[2]]))
        text += match[1]
        at = match.end()
    text += line[at:]
    if any(c in text for c in "[]|") or not text.strip():
        raise CorpusError(
            f"{where}: a mark is not of the form [aspect|+], [aspect|-] or [aspect|0], or the line is empty"
        )
    for m in found:
        if text[m.start : m.end].strip() != text[m.start : m.end]:
            raise CorpusError(f"{where}: an aspect begins or ends with a space")
    return Sentence(text=text, mentions=tuple(found), domain=domain, group=where)


def read_own(path: Path) -> list[Sentence]:
    """Our own corpus: one sentence a line, `# domain: NAME` before each domain, other `#` lines are comments."""
    out, domain = [], ""
    for n, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        if line.startswith("# domain:"):
            domain = line.removeprefix("# domain:").strip()
        elif line.strip() and not line.startswith("#"):
            if not domain:
                raise CorpusError(f"{path.name} line {n}: no domain was named before it")
            out.append(parse_marked(line, domain, f"{path.name}:{n}"))
    return out


def normalise(text: str) -> str:
    """The form two texts are compared in: case, accents, punctuation and spacing do not count."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return re.sub(r"[^a-z0-9]+", "", plain)


def drop_leaks(pool: Sequence[Sentence], held_out: Iterable[Sentence]) -> list[Sentence]:
    """The pool without sentences whose normalised text also stands in the held-out set; order kept."""
    forbidden = {normalise(s.text) for s in held_out}
    return [s for s in pool if normalise(s.text) not in forbidden]
