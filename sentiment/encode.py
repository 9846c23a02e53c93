"""From text to token ids, without torch: the pair [CLS] sentence [SEP] aspect [SEP] and the words of a sentence.

Offsets are characters (code points) of the original text throughout.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

__all__ = ["EncodedPair", "EncodedSentence", "EncodedWords", "TextEncoder", "pad"]

MAX_ASPECT_TOKENS = 24  # the longest aspect in MAMS has 17; what is longer is cut, the sentence keeps its room


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedSentence:
    """A sentence's tokens: `starts` and `ends` are the characters of each. All its aspects share it."""

    length: int
    ids: list[int]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedPair:
    """One (sentence, aspect) pair. `aspect` marks the aspect's tokens inside the sentence."""

    ids: list[int]
    types: list[int]
    aspect: list[int]

    @property
    def read(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """All that the encoder reads of it. Aspects of one sentence have it in common where the input is the sentence."""
        return tuple(self.ids), tuple(self.types)


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedWords:
    """One window of a sentence. `first[i]` is the position of word i's first token, `spans[i]` its characters."""

    ids: list[int]
    first: list[int]
    spans: list[tuple[int, int]]


class TextEncoder:
    """A tokenizer file with its special tokens; BERT's layout, or MPNet's where the file has `<s>`."""

    def __init__(self, tokenizer: Tokenizer, max_tokens: int = 128) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.max_tokens = max_tokens
        bert = tokenizer.token_to_id("<s>") is None  # MPNet's file also holds BERT's, which it was never trained on
        names = ("[CLS]", "[SEP]", "[PAD]") if bert else ("<s>", "</s>", "<pad>")
        ids = [tokenizer.token_to_id(name) for name in names]
        if None in ids:
            raise ValueError("the tokenizer has neither BERT's nor MPNet's special tokens")
        self._cls, self._sep, self.pad_id = (int(i) for i in ids if i is not None)
        self._middle = [self._sep] if bert else [self._sep, self._sep]

    @classmethod
    def load(cls, path: Path, max_tokens: int = 128) -> TextEncoder:
        """From a tokenizer.json."""
        return cls(Tokenizer.from_file(str(path)), max_tokens)

    def _encode(self, text: str) -> Encoding:
        return self._tokenizer.encode(text, add_special_tokens=False)

    def sentence(self, text: str) -> EncodedSentence:
        """What `pair` takes for each aspect of the sentence."""
        encoding = self._encode(text)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return EncodedSentence(length=len(text), ids=encoding.ids, starts=offsets[:, 0], ends=offsets[:, 1])

    def pair(self, sentence: EncodedSentence, start: int, end: int, *, second: bool = True) -> EncodedPair:
        """The pair for the aspect at its characters [start, end); a long sentence is cut to a window around the aspect.

        Without `second` the aspect stands only inside the sentence: [CLS] sentence [SEP].
        Raises ValueError when the span lies outside the sentence or holds no token (only spaces, say).
        """
        if not 0 <= start < end <= sentence.length:
            raise ValueError(f"span {start}:{end} is outside the text of {sentence.length} characters")
        marked = np.flatnonzero((sentence.starts < end) & (start < sentence.ends)).tolist()
        if not marked:
            raise ValueError(f"span {start}:{end} holds nothing to read")
        tail = [self._sep]
        if second:
            tail = [*self._middle, *[sentence.ids[i] for i in marked][:MAX_ASPECT_TOKENS], self._sep]
        room = self.max_tokens - len(tail) - 1
        low = 0
        if len(sentence.ids) > room:  # centre the window on the aspect, and keep it inside the sentence
            low = min(max(0, (marked[0] + marked[-1] + 1 - room) // 2), len(sentence.ids) - room)
            low = min(low, marked[0])
        body = sentence.ids[low : low + room]
        hit = set(marked)
        ids = [self._cls, *body, *tail]
        first = 1 + len(body) + (len(self._middle) if second else 1)
        types = [0] * first + [1] * (len(ids) - first)
        mask = [0, *(int(low + i in hit) for i in range(len(body)))]
        return EncodedPair(ids=ids, types=types, aspect=mask + [0] * (len(ids) - len(mask)))

    def words(self, text: str, overlap: int = 32) -> list[EncodedWords]:
        """Windows over the words of a text, `overlap` tokens shared between neighbours; none for text without tokens."""
        encoding = self._encode(text)
        groups: list[tuple[list[int], tuple[int, int]]] = []
        last: int | None = None
        for token, word, (a, b) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
            if groups and word is not None and word == last:
                groups[-1][0].append(token)
                groups[-1] = (groups[-1][0], (groups[-1][1][0], b))
            else:
                groups.append(([token], (a, b)))
            last = word
        room = self.max_tokens - 2
        groups = [(tokens[:room], span) for tokens, span in groups]
        out: list[EncodedWords] = []
        at = 0
        while at < len(groups):
            ids, first, spans = [self._cls], [], []
            stop = at
            while stop < len(groups) and len(ids) + len(groups[stop][0]) <= room + 1:
                first.append(len(ids))
                spans.append(groups[stop][1])
                ids.extend(groups[stop][0])
                stop += 1
            out.append(EncodedWords(ids=[*ids, self._sep], first=first, spans=spans))
            if stop == len(groups):
                break
            shared, back = 0, stop
            while back - 1 > at and shared + len(groups[back - 1][0]) <= overlap:
                back -= 1
                shared += len(groups[back][0])
            at = back
        return out


def pad(rows: Sequence[Sequence[int]], value: int = 0, length: int = 0) -> NDArray[np.int64]:
    """Rows of different lengths as one int64 array [rows, longest or `length`], filled with `value` on the right."""
    out = np.full((len(rows), max([length, *(len(r) for r in rows)])), value, dtype=np.int64)
    for i, row in enumerate(rows):
        out[i, : len(row)] = row
    return out
