"""Ids are content: the same for a repeat, another for anything else, and fixed for ever."""

from __future__ import annotations

from uuid import UUID

from hypothesis import given
from hypothesis import strategies as st

from stream.ids import is_traceparent, utterance_id

_parts = st.tuples(st.text(max_size=20), st.integers(0, 1), st.integers(0, 2**40), st.text(max_size=10))


@given(_parts, _parts)
def test_equal_content_equal_id(one: tuple[str, int, int, str], other: tuple[str, int, int, str]) -> None:
    assert (utterance_id(*one) == utterance_id(*other)) == (one == other)


def test_the_id_of_a_known_utterance_never_changes() -> None:
    assert utterance_id("call-17", 1, 16_000, "cut-1") == UUID("8e18cd9f-33f1-55c3-bb64-7cbdecadd3f9")


def test_neighbours_cannot_run_together() -> None:
    assert utterance_id("a,1", 1, 1, "x") != utterance_id("a", 1, 11, "x")


def test_traceparents() -> None:
    assert is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert not is_traceparent("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01")
    assert not is_traceparent("ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    assert not is_traceparent("00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01")
