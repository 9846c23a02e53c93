"""Prompts as token ids: the trained ones bare, the free ones behind a system prompt, and a caller's text as data only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech.phi4.config import CheckpointError
from speech.phi4.generation import Prompt
from speech.phi4.stream import Vocabulary

__all__ = [
    "CHAIN_SEPARATOR",
    "LANGUAGES",
    "SYSTEM",
    "TRANSCRIBE",
    "Prompts",
    "chain_instruction",
    "translate_instruction",
]

#: The languages of the speech adapter, by ISO 639-1.
LANGUAGES: Mapping[str, str] = {
    "en": "English", "zh": "Chinese", "de": "German", "fr": "French", "it": "Italian", "ja": "Japanese", "es": "Spanish",
    "pt": "Portuguese",
}  # fmt: skip

TRANSCRIBE = "Transcribe the audio clip into text."
CHAIN_SEPARATOR = "<sep>"
SYSTEM = (
    "You help to understand recorded calls. Rely only on what is said. Never infer or mention personal attributes of a "
    "speaker from the voice, such as age, gender, origin, accent, health or emotional state; if asked to, decline."
)
_TURNS = ("<|system|>", "<|user|>", "<|end|>", "<|assistant|>")


def translate_instruction(language: str) -> str:
    """The trained instruction of a translation into `language` (ISO 639-1)."""
    return f"Translate the audio to {LANGUAGES[language]}."


def chain_instruction(language: str) -> str:
    """The trained instruction of a translation that writes the transcript down first."""
    return (
        f"Transcribe the audio to text, and then translate the audio to {LANGUAGES[language]}. "
        f"Use {CHAIN_SEPARATOR} as a separator between the original transcript and the translation."
    )


class Prompts:
    """Prompts for one tokenizer; CheckpointError if it lacks the tokens that mark a chat's turns."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._vocabulary = Vocabulary(tokenizer)
        missing = [token for token in _TURNS if tokenizer.token_to_id(token) is None]
        if missing:
            raise CheckpointError(f"the tokenizer has no {', '.join(missing)}: it is not Phi-4's")
        self._system, self._user, self._end, self._assistant = (tokenizer.token_to_id(token) for token in _TURNS)
        added = tokenizer.get_added_tokens_decoder()
        self._added = frozenset(added)
        words = sorted((token.content for token in added.values() if token.content), key=len, reverse=True)
        # Looks ahead only, so that a mark that begins inside another one is found too.
        self._marks = re.compile(f"(?={'|'.join(map(re.escape, words))})")
        begin = (self._system, *self.data(SYSTEM), self._end)
        self._begin: tuple[int, ...] = begin

    def bare(self, instruction: str, audio: NDArray[np.float32], rate: int) -> Prompt:
        """As the adapter was trained: the audio, then one of our own instructions."""
        after = (*self._tokenizer.encode(instruction, add_special_tokens=False).ids, self._end, self._assistant)
        return Prompt(before=(self._user,), audio=audio, rate=rate, after=after)

    def free(self, text: str, audio: NDArray[np.float32] | None = None, rate: int = 16_000) -> Prompt:
        """Behind the system prompt, whose keys and values are shared; `text` may be a caller's."""
        return self.free_ids(self.data(text), audio, rate)

    def free_ids(self, ids: tuple[int, ...], audio: NDArray[np.float32] | None = None, rate: int = 16_000) -> Prompt:
        """`free` with what `data` made of the text."""
        return Prompt(
            before=(*self._begin, self._user),
            audio=audio,
            rate=rate,
            after=(*ids, self._end, self._assistant),
            shared=len(self._begin),
        )

    @property
    def free_tokens(self) -> int:
        """Tokens of a free prompt without its text."""
        return len(self._begin) + 3

    def text(self, ids: Iterable[int]) -> str:
        """The text of tokens, without the special ones."""
        return self._vocabulary.text(ids)

    def data(self, text: str) -> tuple[int, ...]:
        """A text's tokens; what looks like a special token in it becomes ordinary ones that spell it."""
        # Cut inside each mark, so that no piece holds it whole.
        cuts = [0, *(mark.start() + 1 for mark in self._marks.finditer(text)), len(text)]
        pieces = [text[begin:end] for begin, end in pairwise(cuts) if begin < end]
        ids = [one for piece in pieces for one in self._tokenizer.encode(piece, add_special_tokens=False).ids]
        if not self._added.isdisjoint(ids):
            raise ValueError("this tokenizer finds special tokens in text that holds none")
        return tuple(ids)
