"""Which special tokens stand around a sentence and its aspect: those that the encoder was trained with."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

from sentiment.encode import TextEncoder

BERT, MPNET = ["[PAD]", "[CLS]", "[SEP]"], ["<s>", "<pad>", "</s>"]


def encoder(*words: str) -> TextEncoder:
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    return TextEncoder(tokenizer)


@pytest.mark.parametrize(
    ("words", "expected", "padding"),
    [
        ([*BERT, "[UNK]", "good", "food"], "[CLS] good food [SEP] food [SEP]", "[PAD]"),
        # MPNet's vocabulary grew out of BERT's: it holds both, and was trained with its own.
        ([*MPNET, "[UNK]", *BERT, "good", "food"], "<s> good food </s> </s> food </s>", "<pad>"),
    ],
)
def test_a_pair_has_the_special_tokens_of_its_kind(words: list[str], expected: str, padding: str) -> None:
    tokens = encoder(*words)
    assert [words[i] for i in tokens.pair(tokens.sentence("good food"), 5, 9).ids] == expected.split()
    assert words[tokens.pad_id] == padding


def test_a_tokenizer_of_another_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="neither BERT's nor MPNet's"):
        encoder("[UNK]", "good", "food")
