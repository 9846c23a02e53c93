"""Words that cutting loses: what the same recogniser hears on a whole channel where the segmenter cut no utterance.

    python -m bench.lost FILE...     recordings of real talk; a table, and bench.json in the current folder

Whole means Whisper's own windows of 30 s over the channel, greedy, with its times of words.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from bench.result import Result, table, write
from speech.pieces import cut_channels
from speech.segment import Segmenter
from speech.whisper import find_weights, resample
from stream.files import read_file

if TYPE_CHECKING:
    from faster_whisper import WhisperModel

__all__ = ["Lost", "count", "lost", "main"]

#: The most that may be lost, percent of the channel's words.
MOST = 3.0
#: Of the table; a narrower screen breaks the lines, and not the words.
WIDTH = 120
Span = tuple[float, float]  # seconds from the start of the recording


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """Of a channel's words: those that touch no utterance, and those whose middle lies in none."""

    words: int
    untouched: int
    outside: int


def count(words: Sequence[Span], utterances: Sequence[Span]) -> Lost:
    """Where words and utterances are, both in order of nothing."""
    return Lost(
        words=len(words),
        untouched=sum(not any(start < to and since < end for since, to in utterances) for start, end in words),
        outside=sum(not any(since <= (start + end) / 2 <= to for since, to in utterances) for start, end in words),
    )


def lost(files: Sequence[Path]) -> Iterator[Result]:
    """Two figures for each channel of each recording in which words are heard."""
    segmenter = Segmenter()
    for file in files:
        pcm, rate = read_file(file)
        for channel, cuts in enumerate(cut_channels(pcm, rate, segmenter)):
            words = words_of(resample(pcm[:, channel].astype(np.float32) / np.float32(32768), rate))
            if not words:
                continue
            spans = [(cut.start_sample / rate, cut.end_sample / rate) for cut in cuts]
            found, name, unit = count(words, spans), f"{file.stem}_{channel}", f"% of {len(words)} words"
            share = 100 * found.untouched / found.words
            target = f"at most {MOST:g}"
            yield Result(name=f"words_lost_{name}", value=share, unit=unit, target=target, met=share <= MOST)
            yield Result(name=f"words_lost_middle_{name}", value=100 * found.outside / found.words, unit=unit)


def words_of(audio: NDArray[np.float32]) -> list[Span]:
    """Of float32 [n] at 16 kHz."""
    segments, _ = _model().transcribe(
        audio, beam_size=1, temperature=0.0, condition_on_previous_text=False, word_timestamps=True
    )
    return [(word.start, word.end) for segment in segments for word in segment.words or ()]


@cache
def _model() -> WhisperModel:
    from faster_whisper import WhisperModel

    return WhisperModel(str(find_weights()), device="cpu", compute_type="int8", local_files_only=True)


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 when more is lost than may be."""
    parser = argparse.ArgumentParser(prog="python -m bench.lost", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="whatever FFmpeg reads")
    results = list(lost(parser.parse_args(arguments).files))
    Console(width=max(Console().width, WIDTH)).print(table(results))
    write(Path("bench.json"), results)
    return 1 if any(one.met is False for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
