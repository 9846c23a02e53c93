"""The version of a checkpoint by its content, quickly: 12 GB are sampled, not read."""

from __future__ import annotations

import hashlib
from pathlib import Path

__all__ = ["weights_version"]

_BLOCK = 1 << 16
_BLOCKS = 64


def weights_version(folder: Path, *, dtype: str, lora: str) -> str:
    """Names weights, adapter, tokenizer and configuration in `folder`, and how they are computed.

    Small files are read whole; of a large one its size, its header and 64 blocks spread over it.
    """
    digest = hashlib.sha256()
    for pattern in ("*.json", "*.safetensors", "speech-lora/*.json", "speech-lora/*.safetensors"):
        for path in sorted(folder.glob(pattern)):
            size = path.stat().st_size
            digest.update(f"{path.relative_to(folder)} {size}\n".encode())
            with path.open("rb") as file:
                for place in _places(size):
                    file.seek(place)
                    digest.update(file.read(_BLOCK))
    return f"phi4-{dtype}-{lora}-{digest.hexdigest()[:12]}"


def _places(size: int) -> list[int]:
    if size <= _BLOCK * _BLOCKS:
        return list(range(0, size, _BLOCK))
    step = (size - _BLOCK) / (_BLOCKS - 1)
    return [round(step * n) for n in range(_BLOCKS)]
