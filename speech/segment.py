"""Cutting channels into utterances: pure, causal, without a clock.

Windows of 32 ms go through the voice detector; a small state machine per channel turns its probabilities into
cuts. What a channel yields depends on its samples alone: not on how they were split into chunks, what else was
in the batch, or whether the state was saved and loaded in between.

Audio itself is the caller's: the state names the first sample that may still be needed (`keep_from`).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from speech.channel_state import ChannelState
from speech.resample import TARGET_RATE, resampler
from speech.twins import ChannelCorrelation, identical_channels
from speech.vad import CONTEXT, STATE, WINDOW, SileroVad, Vad

__all__ = [
    "ChannelCorrelation",
    "ChannelInput",
    "ChannelState",
    "Cut",
    "CutOptions",
    "Segmenter",
    "identical_channels",
]

# Raised whenever the same audio could be cut differently by new code.
_RULES_VERSION = 1
# Windows of one channel handled at a time: about a second, 74 KB of input to the detector.
_SLAB = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class CutOptions:
    """When speech begins and ends; probabilities 0..1, times in ms. Part of the cut version."""

    # Lower than Silero's 0.5 and 0.35: soft speech on telephone lines is lost there, and noise costs only time. At 0.3 and
    # 0.2 a real agent's "my pleasure, is that" is lost (2.9 % of the channel's words instead of 1.9).
    threshold: float = 0.2
    end_threshold: float = 0.15
    min_speech_ms: int = 200
    min_silence_ms: int = 640
    start_padding_ms: int = 210
    end_padding_ms: int = 250
    max_ms: int = 30_000
    search_ms: int = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One utterance: samples [start_sample, end_sample) at the channel's own rate, from the channel's start."""

    start_sample: int
    end_sample: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelInput:
    """The next samples of one channel: int16 [n], n >= 0, at `state.rate`. The state is changed in place."""

    state: ChannelState
    samples: NDArray[np.int16]


@dataclass(slots=True, kw_only=True)
class _Job:
    """What is left to do for one channel within one `advance`."""

    state: ChannelState
    inputs: NDArray[np.int16]
    windows: int
    cuts: list[Cut]


class Segmenter:
    """Advances any number of channels, their windows batched in one call of the detector a step."""

    def __init__(self, vad: Vad | None = None, options: CutOptions | None = None) -> None:
        self._vad = vad or SileroVad()
        self.options = options or CutOptions()
        per_ms = TARGET_RATE // 1000
        self._before = self.options.start_padding_ms * per_ms
        self._after = self.options.end_padding_ms * per_ms
        self._max = self.options.max_ms * per_ms
        self._min_speech = self.options.min_speech_ms * per_ms
        self._min_silence = -(-self.options.min_silence_ms * per_ms // WINDOW)
        self._search = self.options.search_ms * per_ms // WINDOW
        if self.options.end_padding_ms > self.options.min_silence_ms:
            raise ValueError("end_padding_ms must not exceed min_silence_ms: the end must have been heard")
        if self._search < 3 or self._search * WINDOW + self._before + self._after >= self._max:
            raise ValueError("search_ms must be at least 96 ms and shorter than max_ms less the padding")

    @property
    def cut_version(self) -> str:
        """Names rules, options and detector: the same version cuts the same audio at the same samples."""
        spec = {"rules": _RULES_VERSION, "vad": self._vad.version, "options": asdict(self.options)}
        digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:12]
        return f"cut{_RULES_VERSION}-{digest}"

    def advance(self, inputs: Sequence[ChannelInput]) -> list[list[Cut]]:
        """Feed each channel its next samples; returns the utterances that ended, per input, in time order.

        Raises ValueError for samples that are not int16 [n], a flushed channel, or a channel named twice.
        """
        if len({id(item.state) for item in inputs}) != len(inputs):
            raise ValueError("a channel may appear only once in a batch")
        for item in inputs:
            if item.samples.dtype != np.int16 or item.samples.ndim != 1:
                raise ValueError("samples must be int16 [n]")
            if item.state.flushed:
                raise ValueError("this channel was flushed: no samples may follow")
        jobs = []
        for item in inputs:
            state = item.state
            state.received += len(item.samples)
            data = np.concatenate((state.tail, item.samples))
            windows = resampler(state.rate).complete(state.received) - state.windows
            jobs.append(_Job(state=state, inputs=data, windows=max(0, windows), cuts=[]))
        self._work(jobs)
        return [job.cuts for job in jobs]

    def flush(self, state: ChannelState) -> list[Cut]:
        """End of the channel: what was held back is analysed and an open utterance ends with the audio."""
        if state.flushed:
            raise ValueError("this channel was flushed before")
        filters = resampler(state.rate)
        total = -(-state.received * filters.up // filters.down)
        last = -(-total // WINDOW)
        cuts: list[Cut] = []
        if last > state.windows:
            wanted = filters.needs(last - 1)[1] - filters.needs(state.windows)[0]
            data = np.zeros(wanted, dtype=np.int16)
            data[: len(state.tail)] = state.tail
            job = _Job(state=state, inputs=data, windows=last - state.windows, cuts=cuts)
            self._work([job])
        if state.triggered:
            end = total if state.silence < 0 else min(total, state.silence * WINDOW + self._after)
            self._close(state, end, cuts)
        state.flushed = True
        return cuts

    def _work(self, jobs: Sequence[_Job]) -> None:
        unfinished = [job for job in jobs if job.windows]
        while unfinished:
            # The longest first: at step k the channels that still have a window are a prefix.
            unfinished.sort(key=lambda job: -job.windows)
            self._slab(unfinished)
            unfinished = [job for job in unfinished if job.windows]
        for job in jobs:
            job.state.tail = job.inputs.copy() if job.inputs.base is not None else job.inputs

    def _slab(self, jobs: Sequence[_Job]) -> None:
        counts = [min(job.windows, _SLAB) for job in jobs]
        batch = np.empty((counts[0], len(jobs), CONTEXT + WINDOW), dtype=np.float32)
        energies = [
            _prepare(job, count, batch[:count, i]) for i, (job, count) in enumerate(zip(jobs, counts, strict=True))
        ]
        h = np.empty((len(jobs), STATE), dtype=np.float32)
        c = np.empty((len(jobs), STATE), dtype=np.float32)
        for i, job in enumerate(jobs):
            h[i], c[i] = job.state.h, job.state.c
        size = len(jobs)
        for step in range(counts[0]):
            while counts[size - 1] <= step:
                size -= 1
            probabilities, h[:size], c[:size] = self._vad.step(batch[step, :size], h[:size], c[:size])
            for i, probability in enumerate(probabilities.tolist()):
                self._window(jobs[i].state, probability, energies[i][step], jobs[i].cuts)
        for i, job in enumerate(jobs):
            job.state.h, job.state.c = h[i].copy(), c[i].copy()

    def _window(self, state: ChannelState, probability: float, energy: int, cuts: list[Cut]) -> None:
        """One window's verdict. `state.silence` is the first window of a possible end, or -1."""
        options = self.options
        window = state.windows
        state.windows = window + 1
        if not state.triggered:
            if probability >= options.threshold:
                state.triggered = True
                state.begin = max(state.ended, window * WINDOW - self._before, 0)
                state.speech, state.silence, state.continued = window, -1, False
                state.energies = [energy]
            self._note(state)
            return
        state.energies.append(energy)
        if len(state.energies) > self._search:
            del state.energies[0]
        if probability >= options.threshold:
            state.silence = -1
        elif probability < options.end_threshold and state.silence < 0:
            state.silence = window
        if state.silence >= 0 and window + 1 - state.silence >= self._min_silence:
            self._close(state, state.silence * WINDOW + self._after, cuts)
        elif (window + 2) * WINDOW + self._after - state.begin > self._max:
            self._split(state, cuts)
        self._note(state)

    def _close(self, state: ChannelState, end: int, cuts: list[Cut]) -> None:
        """The utterance ends at 16 kHz sample `end`; too little speech in it is dropped as a click."""
        speech_end = end if state.silence < 0 else state.silence * WINDOW
        if state.continued or speech_end - state.speech * WINDOW >= self._min_speech:
            _emit(state, end, cuts)
        state.triggered = False
        state.energies = []

    def _split(self, state: ChannelState, cuts: list[Cut]) -> None:
        """Too long: cut in the middle of the quietest 96 ms of the last seconds, the latest of equals."""
        energies = state.energies
        sums = [energies[k - 1] + energies[k] + energies[k + 1] for k in range(1, len(energies) - 1)]
        quietest = len(sums) - sums[::-1].index(min(sums))  # index into energies of the middle window
        first = state.windows - len(energies)
        boundary = (first + quietest) * WINDOW + WINDOW // 2
        if 0 <= state.silence * WINDOW <= boundary:
            # Nothing was said after the boundary.
            self._close(state, min(boundary, state.silence * WINDOW + self._after), cuts)
            return
        _emit(state, boundary, cuts)
        state.begin = boundary
        state.speech, state.continued = first + quietest, True
        state.energies = energies[quietest + 1 :]

    def _note(self, state: ChannelState) -> None:
        position = state.begin if state.triggered else max(state.ended, state.windows * WINDOW - self._before, 0)
        state.kept = position


def _emit(state: ChannelState, end: int, cuts: list[Cut]) -> None:
    position = resampler(state.rate).position
    cuts.append(Cut(start_sample=position(state.begin), end_sample=min(position(end), state.received)))
    state.ended = end


def _prepare(job: _Job, count: int, out: NDArray[np.float32]) -> list[int]:
    """Resample `count` windows into `out` [count, 64 + 512]; returns the mean square of each window.

    All sums here are of integers that float64 holds exactly: no dependence on the order of addition.
    """
    state = job.state
    filters = resampler(state.rate)
    first = state.windows
    samples = filters.blocks(first, count, job.inputs)
    joined = np.concatenate((state.context, samples))
    step = joined.strides[0]
    rows = as_strided(joined, (count, CONTEXT + WINDOW), (step * WINDOW, step), writeable=False)
    np.multiply(rows, np.float32(1 / 32768), out=out)
    squares = samples.astype(np.float64).reshape(count, WINDOW)
    energies: list[int] = (np.einsum("ij,ij->i", squares, squares) // WINDOW).astype(np.int64).tolist()
    state.context = joined[-CONTEXT:].copy()
    job.inputs = job.inputs[filters.needs(first + count)[0] - filters.needs(first)[0] :]
    job.windows -= count
    return energies
