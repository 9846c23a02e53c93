"""From a checkpoint to a running engine: which device, which precision, how many slots.

`auto` means: the GPU where there is one, in bfloat16, with slots planned from its memory; else the CPU, in the
precision in which the weights are stored, with the slots of `Limits`.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch

from speech.phi4.config import CheckpointError
from speech.phi4.hub import local_folder
from speech.phi4.limits import Limits
from speech.phi4.lora import LoraMode
from speech.phi4.memory import TooSmall, plan
from speech.phi4.model import Narrowband
from speech.phi4.service import Speech

__all__ = ["StartOptions", "start"]

_STORED = {"float64": torch.float64, "float32": torch.float32, "float16": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What may be chosen; see the module for `auto`."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "float32", "float64", "bfloat16"] = "auto"
    lora: Literal["auto", "merged", "unmerged", "off"] = "auto"
    narrowband: Narrowband = Narrowband.FILLZERO
    limits: Limits = field(default_factory=Limits)


def start(
    weights: Path | str, options: StartOptions | None = None, *, tell: Callable[[str], None] = lambda line: None
) -> Speech:
    """Loads the weights and starts the engine; `tell` gets the memory plan and what was chosen.

    `weights`: a folder, or a revision of the hub (speech/phi4/hub.py). Raises CheckpointError for them, TooSmall for the
    GPU, both with the sentence that helps.
    """
    options = options or StartOptions()
    folder = local_folder(weights)
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} holds no config.json: `earful phi4 fetch DIR` gets the weights")
    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    limits, lora = options.limits, options.lora
    if device == "cuda":
        if not torch.cuda.is_available():
            raise TooSmall("torch sees no GPU here: start with device cpu or auto, or install the driver")
        torch.empty(1, device="cuda")  # the driver's own share is taken before the memory is counted
        free, total = torch.cuda.mem_get_info()
        planned = plan(
            total,
            limits=limits,
            used_bytes=total - free,
            bf16=torch.cuda.is_bf16_supported(including_emulation=False),
            merged={"auto": None, "merged": True}.get(lora, False),
        )
        limits, chosen = planned.limits(limits), "merged" if planned.merged else "unmerged"
        tell(str(planned))
    else:
        chosen = "merged"
    mode: LoraMode = chosen if lora == "auto" else lora  # type: ignore[assignment]
    dtype = _dtype(folder, options.dtype, device)
    tell(f"phi4 on {device} in {str(dtype).removeprefix('torch.')}, adapter {mode}, limits {limits.canonical_json()}")
    return Speech.load(folder, limits=limits, device=device, dtype=dtype, lora=mode, narrowband=options.narrowband)


def _dtype(folder: Path, wanted: str, device: str) -> torch.dtype:
    if wanted != "auto":
        return _STORED[wanted]
    if device == "cuda":
        return torch.bfloat16
    config = json.loads((folder / "config.json").read_text("utf-8"))
    return _STORED.get(str(config.get("dtype") or config.get("torch_dtype")), torch.float32)
