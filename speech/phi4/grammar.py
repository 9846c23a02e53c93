"""JSON that follows a schema by construction, through llguidance; it is loaded when first needed, and may be missing."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech.phi4.generation import Constraint
from speech.phi4.refusals import EngineFailed

__all__ = ["Grammars"]


class Grammars:
    """Makes constraints for one `tokenizers.Tokenizer`; `end` is the token that ends an answer."""

    def __init__(self, tokenizer: Any, *, end: int) -> None:
        self._tokenizer = tokenizer
        self._end = end

    @property
    def available(self) -> bool:
        """Whether llguidance is installed."""
        return find_spec("llguidance") is not None

    def of_schema(self, schema: Mapping[str, Any]) -> Callable[[], Constraint]:
        """Constraints whose text is JSON of `schema`, keys in the schema's order; ValueError for what it cannot hold to."""
        from llguidance import LLMatcher

        # One space behind commas and colons, as models write JSON; free white space could go on for ever.
        options = {
            "whitespace_flexible": False,
            "item_separator": ", ",
            "key_separator": ": ",
            # Without \\u: half a surrogate pair is JSON but no text.
            "json_allowed_escapes": 'nrt"\\\\',
        }
        grammar = LLMatcher.grammar_from_json_schema(json.dumps(schema), defaults=options)
        error = LLMatcher.validate_grammar(grammar, self._vocabulary)
        if error:
            raise ValueError(f"schema: {error}")
        return lambda: _Json(LLMatcher(self._vocabulary, grammar), self._vocabulary.vocab_size)

    @cached_property
    def _vocabulary(self) -> Any:
        from llguidance import LLTokenizer

        # About a second for 200,000 tokens: warm-up asks for it.
        return LLTokenizer(self._tokenizer.to_str(), eos_token=self._end)


class _Json:
    """One answer's state."""

    def __init__(self, matcher: Any, vocabulary: int) -> None:
        self._matcher = matcher
        self._vocabulary = vocabulary

    def allowed(self) -> NDArray[np.bool_]:
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        return np.unpackbits(bits, bitorder="little")[: self._vocabulary].astype(np.bool_)

    def advance(self, token_id: int) -> None:
        self._matcher.consume_token(token_id)
        self._check()

    @property
    def finished(self) -> bool:
        return bool(self._matcher.is_stopped())

    def _check(self) -> None:
        if self._matcher.is_error():
            raise EngineFailed("the grammar of the answer could not be followed") from ValueError(
                self._matcher.get_error()
            )
