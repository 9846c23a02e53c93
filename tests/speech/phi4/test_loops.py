"""A loop is found soon; what people say is not taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speech.phi4.loops import repeats


@given(
    start=st.lists(st.integers(0, 50), max_size=60),
    cycle=st.lists(st.integers(0, 50), min_size=1, max_size=100),
)
def test_any_cycle_is_found_before_it_has_gone_round_often(start: list[int], cycle: list[int]) -> None:
    tokens = list(start)
    for count in range(5 * len(cycle) + 30):
        tokens.append(cycle[count % len(cycle)])
        if repeats(tokens):
            return
    raise AssertionError("an endless loop goes on")


@pytest.mark.parametrize(
    "tokens",
    [
        [],
        [1] * 16,  # "no no no ..." sixteen times
        [1, 2] * 8,
        list(range(15)) * 3,  # a sentence said three times
        list(range(200)),
        [*range(10), *range(10), *range(10), *range(9)],
    ],
)
def test_what_is_said_is_no_loop(tokens: list[int]) -> None:
    assert not any(repeats(tokens[:count]) for count in range(len(tokens) + 1))
