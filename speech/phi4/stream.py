"""Token ids to text, piece by piece and never half a character."""

from __future__ import annotations

import codecs
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["TextStream", "Vocabulary"]


def _byte_of_character() -> dict[str, int]:
    """Byte-level BPE writes each byte as a printable character: printable Latin-1 as itself, the others from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    return {chr(byte): byte for byte in printable} | {chr(0x100 + n): byte for n, byte in enumerate(others)}


_BYTES: Mapping[str, int] = _byte_of_character()


class Vocabulary:
    """The bytes of every token of a byte-level `tokenizers.Tokenizer`; special tokens have none."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._special = {token_id for token_id, token in tokenizer.get_added_tokens_decoder().items() if token.special}
        self._known: dict[int, bytes] = {}

    def bytes_of(self, token_id: int) -> bytes:
        """What the token adds to the text; nothing for special and unknown ids."""
        found = self._known.get(token_id)
        if found is None:
            found = self._known[token_id] = self._bytes_of(token_id)
        return found

    def text(self, token_ids: Iterable[int]) -> str:
        """The whole text, as the tokenizer decodes it without special tokens."""
        return b"".join(self.bytes_of(one) for one in token_ids).decode("utf-8", errors="replace")

    def _bytes_of(self, token_id: int) -> bytes:
        token = self._tokenizer.id_to_token(token_id)
        if token is None or token_id in self._special:
            return b""
        try:
            return bytes(_BYTES[character] for character in token)
        except KeyError:  # an added token is its own text
            return str(token).encode()


class TextStream:
    """One answer's text as it grows: `add` returns what is complete, `end` the rest, broken bytes as U+FFFD."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._pieces: list[str] = []

    def add(self, token_id: int) -> str:
        """The whole characters that this token completes; may be empty."""
        return self._keep(self._decoder.decode(self._vocabulary.bytes_of(token_id)))

    def end(self) -> str:
        """What is left when no token follows."""
        return self._keep(self._decoder.decode(b"", final=True))

    @property
    def text(self) -> str:
        """All that was returned so far."""
        return "".join(self._pieces)

    def _keep(self, piece: str) -> str:
        if piece:
            self._pieces.append(piece)
        return piece
