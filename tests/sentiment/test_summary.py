"""The report by aspect: counts, net sentiment with its interval, quotes."""

from __future__ import annotations

import random

import pytest

from sentiment.summary import Judged, Quote, by_group, net_sentiment, summarize


def judged(line: int, aspect: str, polarity: str, *, aspect_id: str = "product.lid", p: float = 0.9) -> Judged:
    shares = {"negative": 0.05, "neutral": 0.05, "positive": 0.05} | ({polarity: p} if polarity != "unsure" else {})
    return Judged(
        line=line,
        start=4,
        end=4 + len(aspect),
        aspect=aspect,
        aspect_id=aspect_id,
        confidence=0.9,
        polarity=polarity,
        **shares,
    )


def test_wilson_by_hand() -> None:
    net, low, high = net_sentiment(2, 0, 8)
    assert net == pytest.approx(0.6)
    assert (low, high) == (pytest.approx(-0.0196, abs=1e-3), pytest.approx(0.8867, abs=1e-3))  # 2 * (.4902, .9433) - 1
    assert net_sentiment(0, 0, 1)[1] < 0.0
    assert net_sentiment(0, 7, 0)[0] == 0.0


@pytest.mark.parametrize("shares", [(0.1, 0.1, 0.8), (0.3, 0.4, 0.3), (0.0, 0.5, 0.5)])
def test_the_interval_holds_the_truth_nineteen_times_in_twenty(shares: tuple[float, ...]) -> None:
    draw, truth, hits = random.Random(0), shares[2] - shares[0], 0
    for _ in range(1_000):
        seen = draw.choices(range(3), shares, k=30)
        _, low, high = net_sentiment(seen.count(0), seen.count(1), seen.count(2))
        hits += low <= truth <= high
    assert hits >= 930


def test_groups_by_id_and_by_words_where_there_is_none() -> None:
    texts = {1: "The lid is bad.", 2: "The Lids are good.", 3: "The grinder.", 4: "The Grinder!"}
    found = [
        judged(1, "lid", "negative"), judged(2, "Lids", "positive"), judged(2, "Lids", "unsure"),
        judged(3, "grinder", "neutral", aspect_id="other"), judged(4, "Grinder", "neutral", aspect_id="other"),
    ]  # fmt: skip
    lid, grinder = summarize(texts, found)
    assert (lid.aspect, lid.mentions, lid.texts, lid.unsure, lid.net) == ("product.lid", 3, 2, 1, 0.0)
    assert lid.quotes == {
        "negative": Quote(line=1, text="The lid is bad.", start=4, end=7),
        "positive": Quote(line=2, text="The Lids are good.", start=4, end=8),
    }
    assert (grinder.aspect, grinder.mentions, grinder.net, grinder.quotes) == ("grinder", 2, 0.0, {})


def test_an_aspect_of_which_nothing_is_sure_has_no_net() -> None:
    [one] = summarize({1: "The lid."}, [judged(1, "lid", "unsure")])
    assert (one.net, one.low, one.high) == (None, None, None)


def quoted(text: str) -> str:
    """What is quoted of a text whose lid is bad."""
    at = text.index("lid")
    one = Judged(
        line=1, start=at, end=at + 3, aspect="lid", aspect_id="x", confidence=1, polarity="negative",
        negative=0.9, neutral=0.05, positive=0.05,
    )  # fmt: skip
    quote = summarize({1: text}, [one])[0].quotes["negative"]
    assert quote.text[quote.start : quote.end] == "lid"
    return quote.text


def test_each_group_has_a_report_of_its_own() -> None:
    texts = {1: "The lid is bad.", 2: "The lid is good.", 3: "The lid is bad.", 4: "Nothing."}
    found = [judged(1, "lid", "negative"), judged(2, "lid", "positive"), judged(3, "lid", "negative")]
    reports = by_group(texts, found, {1: "pot", 2: "pan", 3: "pot", 4: None})
    assert [(group, [(one.mentions, one.net) for one in report]) for group, report in reports.items()] == [
        ("pot", [(2, -1.0)]),
        ("pan", [(1, 1.0)]),
        (None, []),
    ]


def test_a_quote_stands_on_one_line() -> None:
    assert quoted("Yes.  The\t lid\u00a0 is  bad. ") == "The lid is bad."


def test_a_long_quote_is_cut_around_the_aspect() -> None:
    text = "so " * 100 + "the lid is bad " + "so " * 100
    quote = quoted(text)
    assert "the lid is bad" in quote
    assert (quote[0], quote[-1], len(quote) <= 162) == ("…", "…", True)


@pytest.mark.parametrize(("before", "after"), [(100, 1), (1, 100)])
def test_only_a_side_that_was_cut_has_dots(before: int, after: int) -> None:
    text = "so " * before + "the lid is bad " + "so " * after + "yes."
    quote = quoted(text)
    assert (quote.startswith("…"), quote.endswith("…")) == (before > after, after > before)
