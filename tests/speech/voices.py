"""Sounds for tests, made here: a buzzing source through moving formants, which the detector takes for speech."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["babble", "speechlike"]


def babble(rate: int, seconds: float, seed: int = 0) -> NDArray[np.int16]:
    """`seconds` of voice-like sound, int16 [n]: syllables of harmonics of a wandering pitch, four a second."""
    random = np.random.default_rng(seed)
    n = int(rate * seconds)
    t = np.arange(n) / rate
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * t + random.uniform(0, 6)) + 10 * np.sin(2 * np.pi * 3.1 * t)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    first = 500 + 250 * np.sin(2 * np.pi * 2.3 * t + random.uniform(0, 6))
    second = 1500 + 600 * np.sin(2 * np.pi * 1.7 * t + random.uniform(0, 6))
    sound = np.zeros(n)
    for k in range(1, 30):
        frequency = k * pitch
        gain = np.exp(-(((frequency - first) / 150) ** 2)) + 0.5 * np.exp(-(((frequency - second) / 220) ** 2)) + 0.02
        sound += np.where(frequency < rate / 2.2, gain, 0) * np.sin(k * phase)
    envelope = 0.55 + 0.45 * np.sin(2 * np.pi * 4 * t)
    sound = sound * envelope + random.standard_normal(n) * 0.01
    return np.asarray(np.rint(sound / np.abs(sound).max() * 12_000), dtype=np.int16)


def speechlike(
    rate: int, *, seconds: tuple[float, ...], gap: float, seed: int = 0
) -> tuple[NDArray[np.int16], list[tuple[int, int]]]:
    """Stretches of babble with silence of `gap` seconds around each; the samples and the spans [start, end)."""
    silence = np.zeros(int(rate * gap), dtype=np.int16)
    parts, spans, at = [silence], [], len(silence)
    for i, length in enumerate(seconds):
        voice = babble(rate, length, seed + i)
        spans.append((at, at + len(voice)))
        parts += [voice, silence]
        at += len(voice) + len(silence)
    return np.concatenate(parts), spans
