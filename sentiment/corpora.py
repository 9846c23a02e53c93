"""What the shipped models are trained on: MAMS-ATSA, TSA-MD and our own sentences, with their splits and hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

from sentiment.benchmarks import HELD_OUT_DOMAINS, OWN, every_test_sentence
from sentiment.data import Mention, Sentence, drop_leaks, read_json_spans, read_own, read_semeval14

__all__ = [
    "HELD_OUT_DOMAINS",
    "OWN",
    "Splits",
    "clauses_without_aspect",
    "file_hash",
    "lowered",
    "own_sentences",
    "parts_only",
    "shipped",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Sentences for training and for selection, those of all tests, and the SHA-256 of every file trained on."""

    train: list[Sentence]
    dev: list[Sentence]
    tests: list[Sentence]
    files: dict[str, str]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def own_sentences() -> tuple[list[Sentence], list[Sentence]]:
    """Our own sentences without the held-out domains: every eighth line of the file selects, the rest trains (first)."""
    sides: tuple[list[Sentence], list[Sentence]] = ([], [])
    for n, s in enumerate(read_own(OWN)):
        if s.domain not in HELD_OUT_DOMAINS:
            sides[n % 8 == 7].append(s)
    return sides


def shipped(absa: Path, *, own: bool = True) -> Splits:
    """The pool of the models that ship, without any sentence that stands in a test set (sentiment/benchmarks.py).

    `absa` holds mams/ATSA, tsa_md and all test sets. Raises OSError or CorpusError where one is missing.
    """
    mams, tsa = absa / "mams" / "ATSA", absa / "tsa_md"
    paths = [mams / "train.xml", mams / "val.xml", tsa / "TSA-MD.train.json", tsa / "TSA-MD.dev.json"]
    train = read_semeval14(paths[0], "mams") + read_json_spans(paths[2], "tsa_md")
    dev = read_semeval14(paths[1], "mams") + read_json_spans(paths[3], "tsa_md")
    if own:
        paths.append(OWN)
        trains, selects = own_sentences()
        train, dev = train + trains, dev + selects
    tests = every_test_sentence(absa)
    files = {p.name: file_hash(p) for p in paths}
    return Splits(train=drop_leaks(train, tests + dev), dev=drop_leaks(dev, tests), tests=tests, files=files)


def clauses_without_aspect(sentences: list[Sentence], seed: int) -> list[Sentence]:
    """Clauses of at least four words that name no aspect, cut from annotated sentences at , ; : . and dashes.

    MAMS has no sentence without an aspect, so an extractor trained on it alone always finds one.
    """
    out: dict[str, Sentence] = {}
    for s in sentences:
        start = 0
        for i in range(len(s.text) + 1):
            if i < len(s.text) and s.text[i] not in ",;:.!?-":
                continue
            piece = s.text[start : i + 1]
            free = not any(m.start < i + 1 and start < m.end for m in s.mentions)
            if free and len(piece.split()) >= 4:
                text = piece.strip(" ,;:-")
                out[text] = Sentence(text=text, mentions=(), domain=f"{s.domain}_clause", group=s.group)
            start = i + 1
    found = list(out.values())
    random.Random(seed).shuffle(found)
    return found


# TSA-MD marks pronouns, verbs and the whole product or place too; our rule, and SemEval's, is parts and properties. For
# training alone; what the served extractor never names is in spans.py, which says why the lists differ.
_WHOLES = frozenset(
    re.findall(
        r"\w+",
        """it they them he she him her i me you we us this that these those there everything everyone nothing something
        thing things place restaurant hotel shop store phone smartphone mobile product products car computer laptop notebook
        tablet tv television console clinic hospital company brand book movie film game job buy purchase case time day days
        people work works money choice experience one ones way cheap fast tasted tastes sell worth stay""",
    )
)


def parts_only(s: Sentence) -> Sentence:
    """The sentence without mentions whose last word names a whole thing or nothing: those words are then tagged O."""
    kept = tuple(m for m in s.mentions if s.text[m.start : m.end].casefold().split()[-1] not in _WHOLES)
    return dataclasses.replace(s, mentions=kept)


def lowered(s: Sentence) -> Sentence:
    """The sentence as a recogniser without punctuation would write it: lower case, marks gone, spans moved along."""
    keep = [i for i, c in enumerate(s.text) if c.isalnum() or c in " '"]
    where = {old: new for new, old in enumerate(keep)}
    text = "".join(s.text[i].lower()[0] for i in keep)  # one for one: a Turkish dotted I alone would become two
    mentions = []
    for m in s.mentions:
        inside = [where[i] for i in range(m.start, m.end) if i in where]
        if inside:
            mentions.append(Mention(start=inside[0], end=inside[-1] + 1, polarity=m.polarity))
    return Sentence(text=text, mentions=tuple(mentions), domain=s.domain, group=s.group)
