"""Where a clip is cut for another try, and how the texts of its pieces become one."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from speech.phi4.splitting import join_texts, quietest


def test_a_clip_is_cut_where_it_is_quietest() -> None:
    audio = np.ones(16_000, np.float32) * 0.5
    audio[10_000:11_700] = 0.01
    assert 10_000 < quietest(audio, 16_000) < 11_700
    audio[500:3_000] = 0  # quieter, but nearly at the edge
    assert 10_000 < quietest(audio, 16_000) < 11_700
    assert abs(quietest(np.zeros(8_000, np.float32), 8_000) - 4_000) <= 1
    assert 0 < quietest(np.ones(4, np.float32), 8_000) < 4


def test_pieces_are_joined_as_their_language_is_written() -> None:
    assert join_texts([" one two", "", "three. "]) == "one two three."
    assert join_texts(["你好", "世界。"]) == "你好世界。"
    assert join_texts(["你好", "world"]) == "你好 world"
