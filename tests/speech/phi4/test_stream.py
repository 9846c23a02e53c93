"""Tokens become text without ever splitting a character, and the same text as the tokenizer's own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import BPE
from tokenizers.trainers import BpeTrainer

from speech.phi4.stream import TextStream, Vocabulary


def _tokenizer() -> Tokenizer:
    made = Tokenizer(BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        ["the thing, the café"], BpeTrainer(vocab_size=280, initial_alphabet=alphabet, show_progress=False)
    )
    made.add_special_tokens([AddedToken("<|end|>", special=True, normalized=False)])
    made.add_tokens(["日<plain>"])
    return made


TOKENIZER = _tokenizer()
VOCABULARY = Vocabulary(TOKENIZER)


@given(st.text(max_size=60))
def test_the_pieces_are_whole_characters_and_together_the_text(text: str) -> None:
    stream = TextStream(VOCABULARY)
    pieces = [stream.add(token) for token in TOKENIZER.encode(text).ids]
    assert "�" not in "".join(pieces) or "�" in text
    assert stream.end() == ""
    assert "".join(pieces) == stream.text == text.replace("<|end|>", "")


@given(st.lists(st.integers(0, TOKENIZER.get_vocab_size() + 5), max_size=60))
def test_any_tokens_give_what_the_tokenizer_gives(tokens: list[int]) -> None:
    """Broken bytes too, as a model of random weights writes them."""
    stream = TextStream(VOCABULARY)
    pieces = [stream.add(token) for token in tokens]
    pieces.append(stream.end())
    assert (
        "".join(pieces) == stream.text == VOCABULARY.text(tokens) == TOKENIZER.decode(tokens, skip_special_tokens=True)
    )


def test_half_a_character_is_kept_back() -> None:
    tokens = [TOKENIZER.token_to_id(character) for character in "ðŁĺĢ"]  # the four bytes of one emoji
    stream = TextStream(VOCABULARY)
    assert [stream.add(token) for token in tokens] == ["", "", "", "😀"]
    assert [stream.add(tokens[0]), stream.end()] == ["", "�"]


@pytest.mark.parametrize("token", ["<|end|>", "日<plain>"])
def test_added_tokens_are_text_unless_they_are_special(token: str) -> None:
    assert VOCABULARY.text([TOKENIZER.token_to_id(token)]) == ("" if token == "<|end|>" else token)
