"""How words that no utterance holds are counted, and the whole way on a sample."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from bench import lost
from bench.lost import Lost, count


def test_a_word_is_lost_where_no_utterance_is() -> None:
    utterances = [(1.0, 2.0), (5.0, 6.0)]
    inside, at_the_edge, mostly_before, touching_only, between = (
        (1.2, 1.5),
        (1.9, 2.05),
        (0.4, 1.1),
        (2.0, 2.5),
        (3.0, 4.0),
    )
    assert count([inside, at_the_edge], utterances) == Lost(words=2, untouched=0, outside=0)
    assert count([mostly_before], utterances) == Lost(words=1, untouched=0, outside=1)
    assert count([touching_only, between], utterances) == Lost(words=2, untouched=2, outside=2)
    assert count([inside], []) == Lost(words=1, untouched=1, outside=1)


def test_each_channel_in_which_words_are_heard_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The recogniser's words are made up: one in the utterance, one where nobody speaks."""
    pcm, rate = soundfile.read(Path(__file__).parents[2] / "samples" / "calls" / "card-fee.flac", dtype="int16")
    quiet = np.zeros((10 * rate, 1), np.int16)
    soundfile.write(tmp_path / "talk.wav", np.concatenate([pcm[: 8 * rate, 1:], quiet]), rate)
    monkeypatch.setattr(lost, "words_of", lambda audio: [(1.0, 1.2), (15.0, 15.5)])
    whole, middle = lost.lost([tmp_path / "talk.wav"])
    assert (whole.name, whole.value, whole.unit, whole.met) == ("words_lost_talk_0", 50.0, "% of 2 words", False)
    assert (middle.name, middle.value, middle.met) == ("words_lost_middle_talk_0", 50.0, None)
    soundfile.write(tmp_path / "talk.wav", quiet, rate)
    assert [one.value for one in lost.lost([tmp_path / "talk.wav"])] == [100.0, 100.0], (
        "nothing was cut of this channel"
    )
    monkeypatch.setattr(lost, "words_of", lambda audio: [])
    assert list(lost.lost([tmp_path / "talk.wav"])) == []
