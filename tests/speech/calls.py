"""The sample calls with their ground truth."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

__all__ = ["SampleCall", "sample_calls"]

_FOLDER = Path(__file__).resolve().parents[2] / "samples" / "calls"


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleCall:
    """One call: int16 [frames, 2], and the truth's utterances (speaker, channel, start_ms, end_ms, text)."""

    name: str
    samples: NDArray[np.int16]
    rate: int
    utterances: list[dict[str, Any]]


def sample_calls(*names: str) -> Iterator[SampleCall]:
    """The named calls, or all."""
    for path in sorted(_FOLDER.glob("*.flac")):
        if not names or path.stem in names:
            samples, rate = soundfile.read(path, dtype="int16", always_2d=True)
            truth = json.loads(path.with_suffix(".json").read_text())
            yield SampleCall(name=path.stem, samples=samples, rate=rate, utterances=truth["utterances"])
