"""Log-mel features on the device: 80 bins every 10 ms, as the model was trained on them.

The steps and their precisions follow the published front end: frames without centring, pre-emphasis inside each
frame, Hamming window and transform in float64, magnitudes and mel sums in float32, natural logarithm of at least 1.
8 kHz audio takes the original processor's `fillzero` path: windows of 200 samples, a transform of 256, and its 128
lower bins stand for 0 to 4 kHz of the usual 257; all above is zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.phi4.audio import Clip, FrontEnd, Narrowband, audio_frames, front_end
from speech.phi4.config import CheckpointError, read_json
from speech.phi4.resampling import resample

__all__ = ["MELS", "check_preprocessor", "log_mel"]

MELS = 80
_BINS = 257
_PREEMPHASIS = 0.97
_FULL_SCALE = 32768.0
_HIGHEST = 7690.0  # Hz
_WINDOWS = ((400, 160), (200, 80))  # samples of a frame and from one to the next, at 16 and at 8 kHz
_CHUNK = 1 << 14  # frames at a time: 120 MB of float64 on the way
# What preprocessor_config.json must say where it says anything.
_EXPECTED = {
    "feature_size": MELS, "sampling_rate": 16_000, "hop_length": 160, "n_fft": 512, "win_length": 400,
    "preemphasis": _PREEMPHASIS, "audio_compression_rate": 8, "audio_downsample_rate": 1, "audio_feat_stride": 1,
}  # fmt: skip


def log_mel(
    clips: Sequence[Clip],
    *,
    device: torch.device,
    narrowband: Narrowband = Narrowband.FILLZERO,
    frames: Sequence[range] | None = None,
) -> list[Tensor]:
    """Features of each clip, float32 [frames, 80] on `device`; every clip must have a frame (see `audio_tokens`).

    `frames`: these frames of each clip alone, as they are in the whole.
    """
    wanted = [range(audio_frames(len(c.samples), c.rate, narrowband)) for c in clips] if frames is None else frames
    fronts = [front_end(clip.rate, narrowband) for clip in clips]
    features: list[list[Tensor]] = [[] for _ in clips]
    for narrow in (False, True):
        size, hop = _WINDOWS[narrow]
        waiting: list[tuple[int, Tensor]] = []
        for i, clip in enumerate(clips):
            if (fronts[i] is FrontEnd.FILLZERO) is narrow:
                samples = _samples(clip, fronts[i], wanted[i], device)
                waiting += [(i, part) for part in samples.unfold(0, size, hop).split(_CHUNK)]
        for batch in _batches(waiting):
            made = _log_mel(torch.cat([part for _, part in batch]), narrow)
            for (i, _), mel in zip(batch, made.split([len(part) for _, part in batch]), strict=True):
                features[i].append(mel)
    return [parts[0] if len(parts) == 1 else torch.cat(parts) for parts in features]


def _samples(clip: Clip, front: FrontEnd, frames: range, device: torch.device) -> Tensor:
    """The samples that these frames are made of, at the front end's own rate."""
    size, hop = _WINDOWS[front is FrontEnd.FILLZERO]
    span = range(frames.start * hop, (frames.stop - 1) * hop + size)
    if front is FrontEnd.RESAMPLED:
        return resample(clip.samples, clip.rate, device=device, outputs=span)
    # A copy, in order: the caller's array may be read-only or reversed, which torch does not share.
    return torch.tensor(np.ascontiguousarray(clip.samples[span.start : span.stop])).to(device)


def _batches(parts: Sequence[tuple[int, Tensor]]) -> list[list[tuple[int, Tensor]]]:
    """Parts in order, at most _CHUNK frames a batch."""
    batches: list[list[tuple[int, Tensor]]] = []
    room = 0
    for part in parts:
        if len(part[1]) > room:
            batches.append([])
            room = _CHUNK
        batches[-1].append(part)
        room -= len(part[1])
    return batches


def _log_mel(frames: Tensor, narrow: bool) -> Tensor:
    """[n, 400] (or [n, 200] at 8 kHz) to [n, 80]."""
    size = frames.shape[-1]
    # The first sample of a frame counts as its own predecessor.
    before = torch.cat([frames[:, :1], frames[:, :-1]], dim=1)
    emphasised = (frames - _PREEMPHASIS * before) * _FULL_SCALE
    window, filters = _tables(size, frames.device)
    spectrum = torch.fft.rfft(window * emphasised, n=256 if narrow else 512, dim=-1).to(torch.complex64)
    power = torch.abs(spectrum) ** 2
    if narrow:  # also the bin at 4 kHz itself is zero
        power = torch.nn.functional.pad(power[:, :-1], (0, _BINS - 128))
    return torch.log(torch.clamp(power @ filters, min=1.0))


@lru_cache(maxsize=8)
def _tables(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Window and filters, kept on the device: a copy would make the host wait for it."""
    window = torch.hamming_window(size, periodic=False, dtype=torch.float64).to(device)
    return window, torch.tensor(mel_filters()).to(device)


def mel_filters() -> NDArray[np.float32]:
    """Triangles of equal width on the mel scale, 0 to 7,690 Hz: float32 [257, 80]."""

    def mel(hertz: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.multiply(1127.0, np.log(1.0 + hertz / 700.0))

    bins = mel(16_000 / 512 * np.arange(_BINS, dtype=np.float64))
    corners = np.linspace(0.0, mel(np.array(_HIGHEST)), MELS + 2)
    widths = np.diff(corners)
    rising = (bins[:, None] - corners[:-2]) / widths[:-1]
    falling = (corners[2:] - bins[:, None]) / widths[1:]
    triangles: NDArray[np.float32] = np.maximum(0.0, np.minimum(rising, falling)).astype(np.float32)
    return triangles


def check_preprocessor(folder: Path) -> None:
    """Raises CheckpointError where preprocessor_config.json describes another front end; a missing file is fine."""
    path = folder / "preprocessor_config.json"
    if not path.is_file():
        return
    data = read_json(path)
    for key, value in _EXPECTED.items():
        if key in data and data[key] != value:
            raise CheckpointError(f"{path}: {key} is {data[key]}, this engine's front end has {value}")
