"""Whatever the model would like to say, the grammar's answer is JSON of its schema; and what is left of one cut off."""

from __future__ import annotations

import json
import random
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from hypothesis import given, settings
from hypothesis import strategies as st

from speech.phi4 import unfinished
from speech.phi4.grammar import Grammars
from speech.phi4.refusals import EngineFailed
from speech.phi4.summary import schema
from speech.phi4.unfinished import read_unfinished
from tests.speech.phi4 import rig

END = rig.ids("<|end|>")[0]
GRAMMARS = Grammars(rig.tokenizer(), end=END)


def validates(value: Any, numbers: set[int]) -> bool:
    """The schema by hand, so that the library does not judge itself."""

    def finding(one: Any, chars: int) -> bool:
        return (
            isinstance(one, dict)
            and list(one) == ["text", "utterances"]
            and isinstance(one["text"], str)
            and 1 <= len(one["text"]) <= chars
            and 1 <= len(one["utterances"]) <= 8
            and set(one["utterances"]) <= numbers
        )

    return (
        list(value) == ["issue", "outcome", "actions", "summary"]
        and all(value[name] is None or finding(value[name], 300) for name in ("issue", "outcome"))
        and len(value["actions"]) <= 5
        and all(finding(one, 300) for one in value["actions"])
        and finding(value["summary"], 800)
    )


@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    numbers=st.sets(st.integers(1, 300), min_size=1, max_size=40) | st.just({7}) | st.just(set(range(5, 120))),
)
def test_random_choices_among_the_allowed_tokens_always_end_in_valid_json(seed: int, numbers: set[int]) -> None:
    choose = random.Random(seed)
    constraint = GRAMMARS.of_schema(schema(numbers))()
    tokens: list[int] = []
    while not constraint.finished:
        allowed = constraint.allowed().nonzero()[0].tolist()
        assert END not in allowed or not allowed[1:], "an answer may not end early"
        # A quote closes a text soon; without it random letters go on to the longest text.
        quotes = [token for token in allowed if '"' in rig.vocabulary().text([token])]
        token = choose.choice(quotes) if quotes and choose.random() < 0.2 else choose.choice(allowed)
        tokens.append(token)
        constraint.advance(token)
    assert validates(json.loads(rig.vocabulary().text(tokens)), numbers)


def test_a_token_that_is_not_allowed_is_an_error_not_an_answer() -> None:
    constraint = GRAMMARS.of_schema(schema({1}))()
    with pytest.raises(EngineFailed):
        constraint.advance(rig.ids("x")[0])


def test_a_schema_that_cannot_be_followed_is_refused_before_anything_runs() -> None:
    with pytest.raises(ValueError, match="schema"):
        GRAMMARS.of_schema({"type": "object", "properties": 3})


WHOLE = {
    "issue": {"text": 'a "b" \\ né', "utterances": [4, 17]},
    "actions": [{"text": "c", "utterances": [31]}],
    "n": None,
}


def test_of_json_cut_anywhere_only_what_was_said_is_left() -> None:
    text = json.dumps(WHOLE)
    for end in range(1, len(text)):
        value = read_unfinished(text[:end])
        assert isinstance(value, dict)
        assert set(value) <= set(WHOLE)
        issue = value.get("issue") or {}
        assert set(issue.get("utterances", [])) <= {4, 17}, f"invented by cutting at {end}"
        assert WHOLE["issue"]["text"].startswith(issue.get("text", ""))  # type: ignore[index]
    assert read_unfinished(f"Here you are:\n```json\n{text}\n```") == WHOLE


@given(st.text(alphabet='{}[]",:\\u0d8 an1', max_size=80))
def test_no_text_makes_it_fail(text: str) -> None:
    value = read_unfinished(text)
    assert value is None or isinstance(value, dict)


def test_garbage_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[int] = []
    closed = unfinished._closed

    def counted(text: str) -> Any:
        tries.append(len(text))
        return closed(text)

    monkeypatch.setattr(unfinished, "_closed", counted)
    assert read_unfinished("{" + '","' * 20_000) is None
    assert 1 < len(tries) < 40
