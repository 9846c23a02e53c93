"""Speech code alone, without servers: cutting, and Whisper's windows. `python -m bench.speech` prints the figures as JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from bench.result import Result
from speech.pieces import cut_channels
from speech.segment import ChannelInput, ChannelState, Segmenter
from speech.vad import CONTEXT, STATE, WINDOW, SileroVad
from speech.whisper import DecodeOptions, Recognizer, resample

__all__ = ["cutting", "main", "windows"]

_CALLS = Path(__file__).resolve().parent.parent / "samples" / "calls"
_CHUNK_MS = 200
Say = Callable[[str], None]


class _Timed:
    """The detector, with the CPU time it takes."""

    def __init__(self) -> None:
        self._vad = SileroVad()
        self.version = self._vad.version
        self.seconds = 0.0

    def step(
        self, windows: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        begun = time.process_time()
        result = self._vad.step(windows, h, c)
        self.seconds += time.process_time() - begun
        return result


def cutting(say: Say, *, channels: int = 32, seconds: float = 20.0) -> Iterator[Result]:
    """Channel-seconds per CPU second at 200 ms chunks, states saved and loaded after each.

    Baseline: the detector alone in a tight loop at the same batch size.
    """
    voices, rate = _voices()
    say(f"{channels} channels of {seconds:g} s in chunks of {_CHUNK_MS} ms")
    detector = _detector(channels, seconds)
    vad = _Timed()
    segmenter = Segmenter(vad)
    states = [ChannelState(rate=rate) for _ in range(channels)]
    begun = time.process_time()
    size = rate * _CHUNK_MS // 1000
    for at in range(0, int(seconds * rate), size):
        inputs = [
            ChannelInput(state=state, samples=np.take(voices[i % len(voices)], range(at, at + size), mode="wrap"))
            for i, state in enumerate(states)
        ]
        segmenter.advance(inputs)
        states = [ChannelState.from_bytes(state.to_bytes()) for state in states]
    spent = time.process_time() - begun
    audio, unit = channels * seconds, "channel-s/CPU-s"
    whole, rest = audio / spent, audio / (spent - vad.seconds)
    yield Result(name="cutting", value=whole, unit=unit, baseline=detector, target="150", met=whole >= 150)
    yield Result(name="cutting_but_vad", value=rest, unit=unit, baseline=1000, target="1000", met=rest >= 1000)


def windows(say: Say, *, calls: int = 2) -> Iterator[Result]:
    """Audio seconds recognised per CPU second in the short window; baseline: the full 30 s, same utterances."""
    segmenter, audio = Segmenter(), []
    for path in sorted(_CALLS.glob("*.flac"))[:calls]:
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        for channel, cuts in enumerate(cut_channels(samples, rate, segmenter)):
            pieces = (samples[cut.start_sample : cut.end_sample, channel] for cut in cuts)
            audio += [resample(piece.astype(np.float32) / np.float32(32768), rate) for piece in pieces]
    say(f"{len(audio)} utterances in two windows")
    speeds = []
    for options in (DecodeOptions(), DecodeOptions(window_seconds=30.0)):
        recognizer = Recognizer(options=options)
        recognizer.transcribe(audio[0])
        begun = time.process_time()
        for piece in audio:
            recognizer.transcribe(piece)
        speeds.append(sum(len(piece) for piece in audio) / 16_000 / (time.process_time() - begun))
    short, full = speeds
    yield Result(name="recognition_short_window", value=short, unit="x real time", baseline=full)


def main() -> int:
    """Both benchmarks as JSON on the standard output."""

    def say(line: str) -> None:
        sys.stderr.write(f"{line}\n")

    results = [*cutting(say), *windows(say)]
    sys.stdout.write(json.dumps({one.name: one.entry() for one in results}, indent=1) + "\n")
    return 1 if any(one.met is False for one in results) else 0


def _voices() -> tuple[list[NDArray[np.int16]], int]:
    voices = []
    for path in sorted(_CALLS.glob("*.flac")):
        samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
        voices += [np.ascontiguousarray(samples[:, channel]) for channel in range(samples.shape[1])]
    return voices, rate


def _detector(channels: int, seconds: float) -> float:
    """Channel-seconds per CPU second of the detector alone."""
    vad = SileroVad()
    windows = np.random.default_rng(0).standard_normal((channels, CONTEXT + WINDOW), dtype=np.float32) / np.float32(10)
    h = c = np.zeros((channels, STATE), dtype=np.float32)
    steps = int(seconds * 16_000 / WINDOW)
    begun = time.process_time()
    for _ in range(steps):
        _, h, c = vad.step(windows, h, c)
    return channels * steps * WINDOW / 16_000 / (time.process_time() - begun)


if __name__ == "__main__":
    sys.exit(main())
