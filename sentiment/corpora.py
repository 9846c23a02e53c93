"""What the shipped models are trained on: MAMS-ATSA, TSA-MD and our own sentences, with their splits and hashes."""

from __future__ import annotations

import dataclasses
import hashlib
import random
import re
from dataclasses import dataclass
from pathlib import Path

from sentiment.data import Mention, Sentence, drop_leaks, read_json_spans, read_own, read_semeval14

__all__ = [
    "HELD_OUT_DOMAINS",
    "OWN",
    "Splits",
    "clauses_without_aspect",
    "file_hash",
    "lowered",
    "parts_only",
    "shipped",
]

OWN = Path(__file__).parent / "corpus" / "own.txt"
HELD_OUT_DOMAINS = ("gym", "car_service")  # wholly held out of training and selection: what a new domain gets


@dataclass(frozen=True, slots=True, kw_only=True)
class Splits:
    """Sentences for training, selection and the last test, and the SHA-256 of every file read."""

    train: list[Sentence]
    dev: list[Sentence]
    test_own: list[Sentence]
    files: dict[str, str]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def shipped(absa: Path, *, own: bool = True) -> Splits:
    """The pool of the models that ship. `absa` holds mams/ATSA and tsa_md; benchmarks' test sentences are dropped."""
    mams, tsa = absa / "mams" / "ATSA", absa / "tsa_md"
    paths = [mams / "train.xml", mams / "val.xml", tsa / "TSA-MD.train.json", tsa / "TSA-MD.dev.json"]
    train = read_semeval14(paths[0], "mams") + read_json_spans(paths[2], "tsa_md")
    dev = read_semeval14(paths[1], "mams") + read_json_spans(paths[3], "tsa_md")
    test_own: list[Sentence] = []
    if own:
        paths.append(OWN)
        for n, s in enumerate(read_own(OWN)):
            if s.domain in HELD_OUT_DOMAINS:
                test_own.append(s)
            else:  # every eighth line selects, the rest trains
                (dev if n % 8 == 7 else train).append(s)
    tests = read_semeval14(mams / "test.xml", "mams") + test_own
    for path in (absa / "semeval14_restaurants", absa / "semeval14_laptops"):
        for file in sorted(path.glob("*Test*.xml")):
            tests += read_semeval14(file, path.name)
    train = drop_leaks(train, tests + dev)
    return Splits(
        train=train, dev=drop_leaks(dev, tests), test_own=test_own, files={p.name: file_hash(p) for p in paths}
    )


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


# TSA-MD marks pronouns, verbs and the whole product or place too; our rule, and SemEval's, is parts and properties.
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
    text = "".join(s.text[i] for i in keep).lower()
    mentions = []
    for m in s.mentions:
        inside = [where[i] for i in range(m.start, m.end) if i in where]
        if inside:
            mentions.append(Mention(start=inside[0], end=inside[-1] + 1, polarity=m.polarity))
    return Sentence(text=text, mentions=tuple(mentions), domain=s.domain, group=s.group)
