"""Sentences, tokens, spans, taxonomy, scores: the parts that need no weights."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentiment.encode import TextEncoder, pad
from sentiment.metrics import calibration_error, classification, fit_temperature, softmax, span_scores
from sentiment.segment import sentence_at, sentences
from sentiment.spans import decode, joined
from sentiment.taxonomy import OTHER, TAXONOMY, VERSION, aspect_id

TOKENIZER = Path(__file__).resolve().parents[2] / "model_repo" / "cvib" / "1" / "tokenizer.json"


@pytest.fixture(scope="module")
def encoder() -> TextEncoder:
    return TextEncoder.load(TOKENIZER, 64)


def test_sentences_keep_their_place() -> None:
    text = '  It broke. "Why?" I asked!\nDr. Lee said 3.5 hours... ok then. Bye '
    got = [text[a:b] for a, b in sentences(text)]
    assert got == ["It broke.", '"Why?"', "I asked!", "Dr. Lee said 3.5 hours... ok then.", "Bye"]


@settings(deadline=None)
@given(st.text(max_size=300))
def test_sentences_are_ordered_and_lose_only_space(text: str) -> None:
    ranges = sentences(text)
    end = 0
    for a, b in ranges:
        assert end <= a < b
        assert not text[end:a].strip(" \t\r\n\v\f\x85\x1c\x1d\x1e\x1f\u2028\u2029\"'”’)]") or text[end:a].isspace()
        end = b
    assert not text[end:].strip()


def test_a_span_over_two_sentences_gets_both() -> None:
    text = "One here. Two there. Three."
    assert sentence_at(sentences(text), 4, 13) == (0, 20)


@pytest.mark.parametrize(
    "text", ["The café's Akku 🔋 is great", "𝒲ow: naïve 電池 life", "battery\u200blife ok", "ﬁne ﬁt"]
)
def test_pair_marks_the_aspect_whatever_the_characters(encoder: TextEncoder, text: str) -> None:
    sentence = encoder.sentence(text)
    for start in range(len(text)):
        for end in range(start + 1, len(text) + 1):
            if text[start:end].isalnum():
                pair = encoder.pair(sentence, start, end)
                assert sum(pair.aspect) >= 1
                assert len(pair.ids) == len(pair.types) == len(pair.aspect)


def test_pair_is_cls_sentence_sep_aspect_sep(encoder: TextEncoder) -> None:
    pair = encoder.pair(encoder.sentence("The battery life is great"), 4, 16)
    cls, sep = pair.ids[0], pair.ids[-1]
    assert pair.ids.count(cls) == 1
    assert [i for i, t in enumerate(pair.ids) if t == sep] == [6, 9]
    assert pair.ids[2:4] == pair.ids[7:9], "the aspect stands in the sentence and after it"
    assert pair.aspect == [0, 0, 1, 1, 0, 0, 0, 0, 0, 0]
    assert pair.types == [0] * 7 + [1] * 3


def test_two_occurrences_are_told_apart(encoder: TextEncoder) -> None:
    sentence = encoder.sentence("fan good fan bad")
    assert encoder.pair(sentence, 0, 3).aspect != encoder.pair(sentence, 9, 12).aspect


@pytest.mark.parametrize("where", [0, 500, 999])
def test_a_long_sentence_is_cut_around_the_aspect(encoder: TextEncoder, where: int) -> None:
    words = ["word"] * 1000
    words[where] = "battery"
    text = " ".join(words)
    start = text.index("battery")
    pair = encoder.pair(encoder.sentence(text), start, start + 7)
    assert len(pair.ids) <= 64
    assert sum(pair.aspect) == 1


@pytest.mark.parametrize("span", [(0, 0), (-1, 2), (3, 99), (5, 4), (3, 4)])
def test_a_span_of_nothing_is_refused(encoder: TextEncoder, span: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="span"):
        encoder.pair(encoder.sentence("The battery"), *span)


NARROW, WIDE = TextEncoder.load(TOKENIZER, 32), TextEncoder.load(TOKENIZER, 100_000)


@settings(deadline=None)  # a busy machine is no failure; pytest-timeout bounds the whole
@given(st.text(max_size=400))
def test_windows_cover_every_word_once_or_shared(text: str) -> None:
    whole = WIDE.words(text)
    windows = NARROW.words(text, overlap=8)
    spans = list(dict.fromkeys(s for w in windows for s in w.spans))
    assert spans == list(dict.fromkeys(s for w in whole for s in w.spans))
    assert all(len(w.ids) <= 32 for w in windows)
    assert all(len(w.first) == len(w.spans) for w in windows)


def test_pad_fills_on_the_right() -> None:
    assert pad([[1], [2, 3]], 9).tolist() == [[1, 9], [2, 3]]


def test_a_pronoun_is_no_aspect() -> None:
    assert decode("your fan", [(0, 4), (5, 8)], np.array([[0, 9, 0], [9, 0, 0]], np.float32)) == []


def test_tags_become_spans_with_the_least_confidence() -> None:
    text = "The battery life of it and , fan"
    words = [(0, 3), (4, 11), (12, 16), (17, 19), (20, 22), (23, 26), (27, 28), (29, 32)]
    logits = np.array(
        [[9, 0, 0], [0, 9, 0], [1, 0, 3], [9, 0, 0], [9, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]], np.float32
    )
    found = decode(text, words, logits)
    assert [text[f.start : f.end] for f in found] == ["battery life", ", fan"]
    p = softmax(logits[2])
    assert found[0].confidence == pytest.approx(1 - p[0])
    assert decode(text, words[:7], logits[:7], threshold=0.999) == []


def test_an_aspect_at_the_edge_of_a_window_is_taken_whole_from_its_neighbour() -> None:
    """The first window ends after `battery`, the third begins with `life`: both are sure of their half."""
    text = "so so so battery life so so so so"
    words = [(0, 2), (3, 5), (6, 8), (9, 16), (17, 21), (22, 24), (25, 27), (28, 30), (31, 33)]
    outside, sure, less = [9.0, 0.0, 0.0], [0.0, 9.0, 0.0], [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    windows = [
        (words[:4], np.array([outside, outside, outside, sure])),
        (words[1:7], np.array([outside, outside, *less, outside, outside])),
        (words[4:], np.array([sure, outside, outside, outside, outside])),
    ]
    together, logits = joined(windows)
    assert together == words
    assert [text[f.start : f.end] for f in decode(text, together, logits)] == ["battery life"]
    assert [(len(words), rows.shape) for words, rows in [joined([])]] == [(0, (0, 3))]


def test_aspect_ids() -> None:
    assert aspect_id("Battery Life") == "product.battery"
    assert aspect_id("laptop speakers") == "product.sound"
    assert aspect_id("the customer support") == "service.support"
    assert aspect_id("annual fee") == "money.fee"
    assert aspect_id("unicorn") == OTHER
    assert aspect_id("") == OTHER
    assert (aspect_id("Windows"), aspect_id("WINDOWS"), aspect_id("windows")) == (
        "software.system",
        "software.system",
        OTHER,
    )
    assert aspect_id("the window") == OTHER
    assert all(name.count(".") == 1 for name in TAXONOMY)


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("software.ads", ["ad", "ads", "the app's ads"]),
        ("product.battery", ["battery's", "charge", "the phone’s batteries"]),
        ("product.camera", ["lens", "lenses", "image quality"]),
        ("travel.flight", ["bus", "buses"]),
        ("money.fee", ["charges", "hidden charges", "standing charge", "service charges"]),
        ("network.signal", ["calls", "call quality"]),
        (OTHER, ["call", "gas"]),
        ("product.input", ["space bar"]),
        ("food.drinks", ["bar"]),
        ("travel.entertainment", ["film selection"]),
        ("food.menu", ["selection"]),
        ("service.wait", ["hold music"]),
        ("place.ambience", ["music"]),
        ("product.sound", ["speech quality", "sound bar"]),
        ("product.build", ["quality", "covers"]),
        ("terms.warranty", ["dental cover"]),
        ("network.router", ["streaming box"]),
        ("delivery.packaging", ["box"]),
        ("food.menu", ["menu", "The Menu", "kids' menu", "wine list"]),
        ("software.interface", ["menus", "settings menu", "menu bar"]),
        ("place.seating", ["table", "tables", "corner table", "chairs"]),
        ("travel.seat", ["seat", "tray table"]),
        ("food.food", ["sea bass", "FISH"]),
        ("product.sound", ["bass"]),
        ("place.room", ["room key", "room keys", "windows in our room"]),
        ("product.input", ["key", "keys"]),
    ],
)
def test_an_id_is_that_of_what_is_meant(name: str, texts: list[str]) -> None:
    assert [aspect_id(text) for text in texts] == [name] * len(texts)


def test_the_configured_taxonomy_is_the_one_listed() -> None:
    config = (Path(__file__).parents[2] / "model_repo" / "aspects" / "config.pbtxt").read_text()
    assert f'key: "taxonomy" value {{ string_value: "{VERSION}" }}' in config


def test_every_listed_word_has_one_id() -> None:
    words = [w for listed in TAXONOMY.values() for w in listed]
    assert len(words) == len(set(words)), sorted(w for w in set(words) if words.count(w) > 1)
    assert [(name, w) for name, listed in TAXONOMY.items() for w in listed if aspect_id(w) != name] == []


def test_classification_by_hand() -> None:
    got = classification(np.array([0, 0, 1, 2]), np.array([0, 1, 1, 0]))
    assert got["accuracy"] == 0.5
    assert got["macro_f1"] == pytest.approx((0.5 + 2 / 3 + 0) / 3)
    assert got["recall_0"] == 0.5


def test_calibration_by_hand() -> None:
    p = np.array([[0.9, 0.1, 0.0], [0.9, 0.1, 0.0]])
    assert calibration_error(p, np.array([0, 1])) == pytest.approx(0.4)


def test_temperature_cools_the_overconfident() -> None:
    rng = np.random.default_rng(0)
    gold = rng.integers(0, 3, 3000)
    logits = rng.normal(0, 1, (3000, 3))
    logits[np.arange(3000), gold] += 1.5
    assert fit_temperature(logits * 3, gold) == pytest.approx(3 * fit_temperature(logits, gold), rel=0.05)


def test_span_scores_by_hand() -> None:
    got = span_scores([[(0, 3), (5, 8)], [], []], [[(0, 3), (5, 9)], [(1, 2)], []])
    assert got["precision"] == pytest.approx(1 / 3)
    assert got["recall"] == 0.5
    assert got["false_span_rate"] == 0.5


def test_an_article_is_no_part_of_a_name() -> None:
    text = "My battery is fine"
    words = [(0, 2), (3, 10), (11, 13), (14, 18)]
    logits = np.array([[0.5, 1.0, 0.0], [0.0, 0.0, 9.0], [9.0, 0.0, 0.0], [9.0, 0.0, 0.0]])
    (found,) = decode(text, words, logits)
    assert text[found.start : found.end] == "battery"
    assert found.confidence > 0.99, "the article's doubt is not the name's"


def test_a_whole_product_is_no_aspect() -> None:
    logits = np.array([[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]])
    assert decode("gaming laptop", [(0, 6), (7, 13)], logits) == []
    assert len(decode("laptop fan", [(0, 6), (7, 10)], logits)) == 1


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("coffee machine", "coffee machine"),
        ("the coffee machine", "coffee machine"),
        ("air conditioning unit", "air conditioning unit"),
        ("gift shop", "gift shop"),
        ("the machine", None),
        ("this unit", None),
        ("store", None),
        ("thai restaurant", None),
    ],
)
def test_a_machine_of_some_kind_is_a_part(text: str, found: str | None) -> None:
    words = [match.span() for match in re.finditer(r"\w+", text)]
    logits = np.array([[0.0, 9.0, 0.0], *[[0.0, 0.0, 9.0]] * (len(words) - 1)])
    assert [text[f.start : f.end] for f in decode(text, words, logits)] == ([found] if found else [])
