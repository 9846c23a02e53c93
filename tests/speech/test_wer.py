"""Word errors are counted as the leaderboards do."""

from __future__ import annotations

import pytest

from speech.wer import normalize, word_errors


def test_normalization_and_counts() -> None:
    assert normalize("It's room three twelve, isn't it?") == normalize("it is room 312 is not it")
    errors = word_errors(["one fine cat sat there"], ["Fine cat sat here now!"])
    assert (errors.words, errors.deletions, errors.insertions, errors.substitutions) == (5, 1, 1, 1)
    assert errors.rate == pytest.approx(0.6)


def test_empty_texts() -> None:
    assert word_errors(["", "hello there"], ["um surprise", ""]).deletions == 2
    assert word_errors([""], ["two words"]).insertions == 2
    assert word_errors([""], [""]).rate == 0.0
    with pytest.raises(ValueError, match="as many"):
        word_errors(["a"], [])
