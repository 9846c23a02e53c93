"""The speech LoRA: what its own adapter_config.json says, and the decoder's linear layers with and without it.

y = x W' for LANGUAGE; SPEECH adds scale * (x A') B', either merged into a copy of W once, or at every call.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import linear

from speech.phi4.checkpoint import TensorFiles, Tensors, check_shapes
from speech.phi4.config import CheckpointError, read_json
from speech.phi4.modes import Mode

__all__ = ["FOLDER", "Adapter", "AdapterConfig", "LoraMode", "ModalLinear", "open_adapter", "read_adapter_config"]

FOLDER = "speech-lora"
LoraMode = Literal["merged", "unmerged", "off"]  # off: SPEECH without the adapter, to show what the adapter does
_PREFIXES = ("base_model.model.", "base_model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterConfig:
    """Rank, scale and target of a LoRA. `target` is a regular expression, or the last parts of module names."""

    rank: int
    alpha: float
    rank_stabilised: bool
    target: str | tuple[str, ...]

    @property
    def scale(self) -> float:
        """The factor before B A."""
        return self.alpha / (math.sqrt(self.rank) if self.rank_stabilised else self.rank)

    def hits(self, module: str) -> bool:
        """Whether the adapter targets `module` (`model.layers.N...`), by PEFT's rules.

        An expression is also tried without the leading `model.`: adapters were trained around the inner model too.
        """
        names = (module, module.removeprefix("model."))
        if isinstance(self.target, str):
            return any(re.fullmatch(self.target, name) for name in names)
        return any(module == part or module.endswith("." + part) for part in self.target)


@dataclass(frozen=True, slots=True, kw_only=True)
class Adapter:
    """An opened adapter: for each module that it changes, the names of A [r, in] and B [out, r] in the file."""

    config: AdapterConfig
    files: Tensors
    names: Mapping[str, tuple[str, str]]

    def read(self, module: str, *, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """A and B of `module`; None where the adapter does not change it."""
        if module not in self.names:
            return None
        a, b = self.names[module]
        return self.files.read(a, device=device, dtype=dtype), self.files.read(b, device=device, dtype=dtype)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModalLinear:
    """One linear layer in both modes. `speech` is the merged weight; `a`, `b` the adapter where it is not merged."""

    base: Tensor
    speech: Tensor | None = None
    a: Tensor | None = None
    b: Tensor | None = None
    scale: float = 0.0

    def __call__(self, x: Tensor, mode: Mode) -> Tensor:
        """[..., in] to [..., out]."""
        if mode is Mode.LANGUAGE:
            return linear(x, self.base)
        if self.speech is not None:
            return linear(x, self.speech)
        y = linear(x, self.base)
        if self.a is not None and self.b is not None:
            y = y + linear(linear(x, self.a), self.b) * self.scale
        return y


def modal_linear(
    base: Tensor, adapter: Adapter | None, module: str, *, lora: LoraMode, device: torch.device, dtype: torch.dtype
) -> ModalLinear:
    """`module`'s layer on `device`; `base` is its weight as stored. Merging is done in float32 or wider."""
    stored = base.to(device=device, dtype=dtype)
    if adapter is None or lora == "off" or module not in adapter.names:
        return ModalLinear(base=stored)
    wide = torch.promote_types(dtype, torch.float32) if lora == "merged" else dtype
    pair = adapter.read(module, device=device, dtype=wide)
    assert pair is not None
    a, b = pair
    if lora == "unmerged":
        return ModalLinear(base=stored, a=a, b=b, scale=adapter.config.scale)
    merged = torch.addmm(base.to(device=device, dtype=wide), b, a, alpha=adapter.config.scale)
    return ModalLinear(base=stored, speech=merged.to(dtype))


def read_adapter_config(path: Path) -> AdapterConfig:
    """Reads adapter_config.json; raises CheckpointError for a kind of adapter that would be computed differently."""
    if not path.is_file():
        raise CheckpointError(f"{path} is missing: speech needs its adapter")
    data = read_json(path)
    if data.get("peft_type", "LORA") != "LORA":
        raise CheckpointError(f"{path}: peft_type {data['peft_type']!r} is not implemented, only LORA")
    # Each of these changes the arithmetic; none is used by the published adapter.
    for key in (
        "use_dora",
        "fan_in_fan_out",
        "rank_pattern",
        "alpha_pattern",
        "modules_to_save",
        "lora_bias",
        "layers_to_transform",
    ):
        if data.get(key):
            raise CheckpointError(f"{path}: {key} is not implemented")
    if data.get("bias", "none") != "none":
        raise CheckpointError(f"{path}: bias {data['bias']!r} is not implemented")
    try:
        target, rank, alpha = data["target_modules"], int(data["r"]), float(data["lora_alpha"])
    except (KeyError, TypeError, ValueError) as err:
        raise CheckpointError(f"{path} lacks r, lora_alpha or target_modules, or they are no numbers") from err
    if rank < 1 or not target:
        raise CheckpointError(f"{path}: r is {rank}, target_modules is {target!r}")
    return AdapterConfig(
        rank=rank,
        alpha=alpha,
        rank_stabilised=bool(data.get("use_rslora", False)),
        target=target if isinstance(target, str) else tuple(sorted(target)),
    )


def open_adapter(folder: Path, linears: Mapping[str, tuple[int, ...]]) -> Adapter:
    """The adapter in `folder` for the decoder's `linears` (name to [out, in]); raises CheckpointError.

    Every linear that the configuration targets must be there with its rank, and nothing else may be: an adapter that
    reaches the audio encoder would otherwise be half applied.
    """
    config = read_adapter_config(folder / "adapter_config.json")
    files = TensorFiles([folder / "adapter_model.safetensors"])
    found: dict[str, dict[str, str]] = {}
    for name in files.shapes:
        module, part = _module(name)
        if module not in linears:
            raise CheckpointError(f"{folder} adapts {module}, which is none of the decoder's linear layers")
        found.setdefault(module, {})[part] = name
    expected, names = dict[str, tuple[int, ...]](), dict[str, tuple[str, str]]()
    for module, (out, into) in linears.items():
        if not config.hits(module):
            continue
        parts = found.get(module, {})
        if set(parts) != {"A", "B"}:
            raise CheckpointError(f"{folder} targets {module} and holds no lora_A and lora_B for it")
        names[module] = (parts["A"], parts["B"])
        expected[parts["A"]], expected[parts["B"]] = (config.rank, into), (out, config.rank)
    if not names:
        raise CheckpointError(f"{folder}: target_modules {config.target!r} hits none of the decoder's linear layers")
    untargeted = sorted(set(found) - set(names))
    if untargeted:
        raise CheckpointError(f"{folder} adapts {untargeted[0]}, which its target_modules does not name")
    check_shapes(files.shapes, expected, str(folder))
    return Adapter(config=config, files=files, names=names)


def _module(name: str) -> tuple[str, str]:
    """`base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` to (`model.layers.0.mlp.down_proj`, `A`)."""
    match = re.fullmatch(r"(.+)\.lora_([AB])(?:\.\w+)?\.weight", name)
    if match is None:
        raise CheckpointError(f"{name} is no LoRA weight that this engine knows")
    module, part = match.groups()
    for prefix in _PREFIXES:
        module = module.removeprefix(prefix)
    return (module if module.startswith("model.") else f"model.{module}"), part
