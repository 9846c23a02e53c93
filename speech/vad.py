"""Silero's voice activity detector (v6, ONNX), many channels in one call.

The file comes with faster-whisper and is found without importing it. As shipped it runs one channel: its windows
are the LSTM's time axis. Two of its shapes are changed on loading (same length in bytes, same weights), so that
they become the batch axis instead and every channel brings its own state.
"""

from __future__ import annotations

import hashlib
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["CONTEXT", "STATE", "WINDOW", "SileroVad", "Vad", "silero_path"]

WINDOW = 512  # samples at 16 kHz that each step moves on
CONTEXT = 64  # samples before them that the model sees again
STATE = 128  # floats each of h and c

_PERM = b"\n\x04perm"
_TIME_AXIS = _PERM + b"\x40\x00\x40\x02\x40\x01"  # perm [0, 2, 1]: windows are time
_BATCH_AXIS = _PERM + b"\x40\x02\x40\x00\x40\x01"  # perm [2, 0, 1]: windows are channels
_ONE_STATE = b"\n\x02\x08\x01\n\x02\x08\x01\n\x03\x08\x80\x01"  # shape [1, 1, 128]
_ANY_STATE = b"\n\x02\x08\x01\n\x02\x1a\x00\n\x03\x08\x80\x01"  # shape [1, ?, 128]


class Vad(Protocol):
    """What the segmenter asks of a detector."""

    @property
    def version(self) -> str:
        """Names the weights; part of the cut version."""
        ...

    def step(
        self, windows: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """One window of n channels: windows [n, 576], h and c [n, 128] -> probability [n], new h and c."""
        ...


def silero_path() -> Path:
    """Where faster-whisper keeps the detector; FileNotFoundError with advice if it is missing."""
    spec = find_spec("faster_whisper")
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("package faster-whisper is not installed: the voice detector comes with it")
    path = Path(spec.submodule_search_locations[0]) / "assets" / "silero_vad_v6.onnx"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: install faster-whisper >=1.2.1,<1.3")
    return path


class SileroVad:
    """The detector on one CPU thread. A channel's result does not depend on what is batched with it."""

    def __init__(self, path: Path | None = None) -> None:
        self._bytes = (path or silero_path()).read_bytes()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        options.log_severity_level = 4
        self._session = onnxruntime.InferenceSession(
            _batched(self._bytes), sess_options=options, providers=["CPUExecutionProvider"]
        )
        self._batch = self._same_bits()

    @cached_property
    def version(self) -> str:
        return "silero-v6-" + hashlib.sha256(self._bytes).hexdigest()[:12]

    def step(
        self, windows: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        """See `Vad.step`."""
        if self._batch or len(windows) == 1:
            return self._run(windows, h, c)
        rows = [self._run(windows[i : i + 1], h[i : i + 1], c[i : i + 1]) for i in range(len(windows))]
        probabilities, hs, cs = zip(*rows, strict=True)
        return np.concatenate(probabilities), np.concatenate(hs), np.concatenate(cs)

    def _run(
        self, windows: NDArray[np.float32], h: NDArray[np.float32], c: NDArray[np.float32]
    ) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
        p, h2, c2 = self._session.run(None, {"input": windows, "h": h[None], "c": c[None]})
        return p, h2[0], c2[0]

    def _same_bits(self) -> bool:
        """Whether this processor's kernels give the same bits at every batch size; if not, go one by one.

        A cut must not depend on which other calls happened to be in the batch: it names the utterance.
        """
        random = np.random.default_rng(0)
        windows = random.standard_normal((9, WINDOW + CONTEXT), dtype=np.float32) / np.float32(10)
        h, c = random.standard_normal((2, 9, STATE), dtype=np.float32) / np.float32(4)
        alone = [self._run(windows[i : i + 1], h[i : i + 1], c[i : i + 1]) for i in range(9)]
        for size in (2, 3, 5, 8, 9):
            together = self._run(windows[:size], h[:size], c[:size])
            for got, want in zip(together, zip(*alone[:size], strict=True), strict=True):
                if not np.array_equal(got, np.concatenate(want)):
                    return False
        return True


def _batched(model: bytes) -> bytes:
    if model.count(_TIME_AXIS) != 1 or model.count(_ONE_STATE) != 5:
        raise ValueError("this is not the Silero VAD v6 file of faster-whisper 1.2: its graph differs")
    return model.replace(_TIME_AXIS, _BATCH_AXIS).replace(_ONE_STATE, _ANY_STATE)
