"""The corpora: what ours promises, what the readers find, and that leaks are found."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from sentiment.benchmarks import ARTS, HELD_OUT_DOMAINS, OWN, benchmarks
from sentiment.corpora import clauses_without_aspect, lowered, shipped
from sentiment.data import (
    POLARITIES,
    CorpusError,
    Sentence,
    drop_leaks,
    normalise,
    parse_marked,
    read_arts,
    read_json_spans,
    read_own,
    read_semeval14,
    read_semeval15,
    read_twitter,
)
from sentiment.samples import SAMPLES, sample_calls, sample_reviews

ABSA = Path(__file__).resolve().parents[3] / "shared" / "data" / "absa"
needs_absa = pytest.mark.skipif(
    not ABSA.exists(), reason="the benchmarks (shared/data/absa beside the clone) are not here"
)


def leaks(pool: list[Sentence], held_out: list[Sentence]) -> list[Sentence]:
    """Sentences of the pool whose normalised text also stands in the held-out set."""
    forbidden = {normalise(s.text) for s in held_out}
    return [s for s in pool if normalise(s.text) in forbidden]


def test_own_sentences_are_what_the_card_says() -> None:
    own = read_own(OWN)
    assert len(own) >= 400
    assert len({s.domain for s in own}) >= 8
    assert set(HELD_OUT_DOMAINS) < {s.domain for s in own}
    assert 0.38 <= sum(not s.mentions for s in own) / len(own) <= 0.5
    assert max(Counter(normalise(s.text) for s in own).values()) == 1, "a sentence stands there twice"
    polarities = Counter(m.polarity for s in own for m in s.mentions)
    assert set(polarities) == set(POLARITIES)
    assert min(polarities.values()) >= 50


def test_own_spans_do_not_overlap_and_hold_whole_words() -> None:
    for s in read_own(OWN):
        end = 0
        for m in s.mentions:
            assert end <= m.start < m.end <= len(s.text), s.group
            assert m.start == 0 or not s.text[m.start - 1].isalnum(), s.group
            assert m.end == len(s.text) or not s.text[m.end].isalnum(), s.group
            end = m.end


@needs_absa
def test_own_sentences_stand_in_no_benchmark() -> None:
    benchmarks = [
        *read_semeval14(ABSA / "mams/ATSA/train.xml", "x"),
        *read_semeval14(ABSA / "mams/ATSA/test.xml", "x"),
        *read_json_spans(ABSA / "tsa_md/TSA-MD.train.json", "x"),
        *(s for f in sorted((ABSA / "semeval14_laptops").glob("*.xml")) for s in read_semeval14(f, "x")),
        *(s for f in sorted((ABSA / "semeval14_restaurants").glob("*.xml")) for s in read_semeval14(f, "x")),
    ]
    assert [s.group for s in leaks(read_own(OWN), benchmarks) if len(normalise(s.text)) > 20] == []


def test_marks_become_spans() -> None:
    s = parse_marked("The [screen|+] is fine, [fan|-] and [box|0].", "x", "line 1")
    assert s.text == "The screen is fine, fan and box."
    assert [(s.text[m.start : m.end], m.polarity) for m in s.mentions] == [
        ("screen", "positive"),
        ("fan", "negative"),
        ("box", "neutral"),
    ]


@pytest.mark.parametrize(
    "line", ["The [screen|?] is fine", "The [screen is fine", "a ] b", "[ screen|+] is fine", "   "]
)
def test_a_wrong_mark_names_its_line(line: str) -> None:
    with pytest.raises(CorpusError, match=r"own\.txt:7"):
        parse_marked(line, "x", "own.txt:7")


def test_a_planted_leak_is_found_and_dropped() -> None:
    def sentence(text: str) -> Sentence:
        return Sentence(text=text, mentions=(), domain="x")

    pool = [sentence("The café is NICE!"), sentence("Something else.")]
    test = [sentence("the cafe is nice")]
    assert drop_leaks(pool, test) == pool[1:]


def test_lowered_moves_the_spans_along() -> None:
    s = lowered(parse_marked('Well, the "[Wi-Fi|-]" died; [food|+] was OK.', "x", "1"))
    assert s.text == "well the wifi died food was ok"
    assert [s.text[m.start : m.end] for m in s.mentions] == ["wifi", "food"]


def test_lowered_keeps_the_place_behind_a_letter_that_lower_case_makes_two() -> None:
    s = lowered(parse_marked("İİ [Fan|-] hums", "x", "1"))
    assert [s.text[m.start : m.end] for m in s.mentions] == ["fan"]


def test_clauses_without_aspect_hold_none() -> None:
    s = parse_marked("The [food|+] was great, but we had to wait outside for an hour, sadly.", "x", "1")
    assert [c.text for c in clauses_without_aspect([s], 0)] == ["but we had to wait outside for an hour"]


def test_sample_reviews_and_calls_have_the_labels_of_their_files() -> None:
    rows = [json.loads(line) for line in (SAMPLES / "reviews.truth.jsonl").read_text("utf-8").splitlines()]
    got = [[(s.text[m.start : m.end], m.polarity) for m in s.mentions] for s in sample_reviews()]
    assert got == [[(term, polarity) for term, polarity in row["aspects"]] for row in rows]
    labels = [a for path in sorted((SAMPLES / "calls").glob("*.json")) for a in json.loads(path.read_text())["aspects"]]
    calls = sample_calls()
    spoken = [(s.text[m.start : m.end].casefold(), m.polarity) for s in calls for m in s.mentions]
    assert spoken == [(term.casefold(), polarity) for term, polarity in labels], "each is said in some utterance"


def test_own_sentences_stand_in_no_sample() -> None:
    samples = [*sample_reviews(), *sample_calls()]
    pieces = {normalise(piece) for s in samples for piece in [s.text, *re.split(r"(?<=[.!?])\s+", s.text)]}
    assert len(pieces) > 500
    assert [s.text for s in read_own(OWN) if normalise(s.text) in pieces] == []


def test_a_target_that_a_tweet_names_twice_stands_there_twice(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_text("the $T$ beats any $T$ .\nnew fan\n1\n", encoding="utf-8")
    [s] = read_twitter(tmp_path / "a.raw")
    assert (s.text, [(m.start, m.end) for m in s.mentions]) == ("the new fan beats any new fan .", [(4, 11)])


def whole_semeval14(path: Path) -> list[Sentence]:
    return read_semeval14(path, "x", conflict=True)


def counts(sentences: list[Sentence]) -> tuple[int, ...]:
    """Sentences, those without an aspect, positive, neutral, negative, conflict."""
    c = Counter(m.polarity for s in sentences for m in s.mentions)
    empty = sum(not s.mentions for s in sentences)
    return len(sentences), empty, *(c[p] for p in ("positive", "neutral", "negative", "conflict"))


#: The table of the data's README, row by row.
COUNTS: dict[str, tuple[Callable[[Path], list[Sentence]], tuple[int, ...]]] = {
    "semeval14_restaurants/*Train*.xml": (whole_semeval14, (3041, 1020, 2164, 633, 805, 91)),
    "semeval14_restaurants/*Test*.xml": (whole_semeval14, (800, 194, 728, 196, 196, 14)),
    "semeval14_laptops/*Train*.xml": (whole_semeval14, (3045, 1557, 987, 460, 866, 45)),
    "semeval14_laptops/*Test*.xml": (whole_semeval14, (800, 378, 341, 169, 128, 16)),
    "mams/ATSA/train.xml": (whole_semeval14, (4297, 0, 3380, 5042, 2764, 0)),
    "mams/ATSA/val.xml": (whole_semeval14, (500, 0, 403, 604, 325, 0)),
    "mams/ATSA/test.xml": (whole_semeval14, (500, 0, 400, 607, 329, 0)),
    "semeval15_restaurants/cvib_train.raw": (read_twitter, (1204, 0, 912, 36, 256, 0)),
    "semeval15_restaurants/cvib_test.raw": (read_twitter, (542, 0, 326, 34, 182, 0)),
    "semeval16_restaurants/cvib_train.raw": (read_twitter, (1748, 0, 1240, 69, 439, 0)),
    "semeval16_restaurants/cvib_test.raw": (read_twitter, (616, 0, 469, 30, 117, 0)),
    "twitter/train.raw": (read_twitter, (6248, 0, 1561, 3127, 1560, 0)),
    "twitter/test.raw": (read_twitter, (692, 0, 173, 346, 173, 0)),
}


@needs_absa
@pytest.mark.parametrize("pattern", COUNTS)
def test_loaders_find_the_published_counts(pattern: str) -> None:
    [path] = ABSA.glob(pattern)
    read, published = COUNTS[pattern]
    assert counts(read(path)) == published


@needs_absa
@pytest.mark.parametrize(("split", "published"), [("train", (761, 1212)), ("dev", (191, 311))])
def test_tsa_md_has_the_published_counts(split: str, published: tuple[int, int]) -> None:
    sentences = read_json_spans(ABSA / f"tsa_md/TSA-MD.{split}.json", "x")
    assert (len(sentences), sum(len(s.mentions) for s in sentences)) == published


@needs_absa
@pytest.mark.parametrize(
    ("pattern", "published"),  # sentences, opinions, of which without a target
    [
        ("semeval15_restaurants/*Train*.xml", (1315, 1654, 375)), ("semeval15_restaurants/*Test*.xml", (685, 845, 248)),
        ("semeval16_restaurants/*Train*.xml", (2000, 2507, 627)), ("semeval16_restaurants/*TEST*", (676, 859, 209)),
    ],
)  # fmt: skip
def test_opinions_with_a_target_are_each_read_once(pattern: str, published: tuple[int, int, int]) -> None:
    """Two opinions on one target (of two categories, say) are one aspect; the published counts are of opinions."""
    [path] = ABSA.glob(pattern)
    opinions = [
        (n, op.attrib["target"], int(op.attrib["from"]), int(op.attrib["to"]))
        for n, node in enumerate(ET.parse(path).getroot().iter("sentence"))
        for op in node.iter("Opinion")
    ]
    got = read_semeval15(path, "x", conflict=True)
    assert (len(got), len(opinions), sum(target == "NULL" for _, target, *_ in opinions)) == published
    named = {(n, start, end) for n, target, start, end in opinions if target != "NULL"}
    read = [(n, m.start, m.end) for n, s in enumerate(got) for m in s.mentions]
    assert (len(read), set(read)) == (len(named), named)


@needs_absa
@pytest.mark.parametrize(
    (
        "name",
        "published",
        "dropped",
    ),  # items: original, RevTgt, RevNon, AddDiff; one term stands nowhere in its sentence
    [("rest", (1120, 846, 444, 1120), (0, 1, 0, 0)), ("laptop", (638, 466, 135, 638), (0, 1, 0, 0))],
)
def test_arts_has_the_published_counts(name: str, published: tuple[int, ...], dropped: tuple[int, ...]) -> None:
    got = read_arts(ABSA / f"arts/{name}_test_enriched.json", "x")
    kinds = Counter(s.variant for s in got)
    found = tuple(kinds[v] for v in ("", "adv1", "adv2", "adv3"))
    assert found == tuple(a - b for a, b in zip(published, dropped, strict=True))
    assert len({s.group for s in got}) == published[0]


@needs_absa
def test_the_training_pool_holds_no_test_sentence() -> None:
    """None of any set that docs/cvib.md has scores of, ARTS and our own held-out domains among them."""
    pool = shipped(ABSA)
    sets = benchmarks(ABSA) | {name: read_arts(ABSA / "arts" / file, name) for name, file in ARTS.items()}
    assert set(sets) == {"MAMS", "REST14", "LAP14", "REST15", "REST16", "Twitter", "own-held-out", *ARTS}
    for name, sentences in sets.items():
        assert (name, leaks(pool.train, sentences), leaks(pool.dev, sentences)) == (name, [], [])
    assert leaks(pool.train, pool.dev) == []


@needs_absa
def test_a_test_set_that_is_missing_is_an_error(tmp_path: Path) -> None:
    """Where one is not there, what it holds would be trained on without a word."""
    for name in ("mams", "tsa_md", "arts", "twitter", "semeval14_restaurants", "semeval14_laptops"):
        (tmp_path / name).symlink_to(ABSA / name)
    (tmp_path / "semeval15_restaurants").mkdir()
    with pytest.raises(CorpusError, match="semeval15_restaurants"):
        shipped(tmp_path)
