"""The whole state of a training in one safetensors file: written once per epoch, and a killed run resumes where it stopped.

One file, moved into place when complete, so a kill while it is written leaves the epoch before it.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

__all__ = ["StaleCheckpoint", "digest", "fingerprint", "restore", "save"]


class StaleCheckpoint(ValueError):
    """The file belongs to a training with other settings or other data."""


def fingerprint(net: nn.Module) -> str:
    """SHA-256 of a network's weights and their names, hex."""
    found = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def digest(examples: Sequence[object]) -> str:
    """SHA-256 of examples (dataclasses of numbers and text), hex: their order counts."""
    found = hashlib.sha256()
    for one in examples:
        found.update(repr(one).encode())
    return found.hexdigest()


def save(
    path: Path, nets: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, rng: random.Random,
    identity: Mapping[str, object], progress: Mapping[str, object],
) -> None:  # fmt: skip
    """Networks, optimizer, both random generators, and `progress` (JSON). `identity` must be equal to continue."""
    tensors: dict[str, Tensor] = {"rng": torch.get_rng_state()}
    if torch.cuda.is_available():
        tensors["rng_cuda"] = torch.cuda.get_rng_state()
    for name, net in nets.items():
        tensors |= {f"net.{name}.{k}": v.detach().cpu().contiguous() for k, v in net.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"opt.{index}.{k}": v.detach().cpu().contiguous() for k, v in state.items()}
    notes = {"identity": identity, "progress": progress, "random": rng.getstate()}
    partial = path.with_name(path.name + ".partial")
    save_file(tensors, partial, {k: json.dumps(v) for k, v in notes.items()})
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def restore(
    path: Path, nets: Mapping[str, nn.Module], optimizer: torch.optim.Optimizer, rng: random.Random,
    identity: Mapping[str, object],
) -> dict[str, object] | None:  # fmt: skip
    """Puts everything back and returns `progress`; None where there is no file. Raises StaleCheckpoint."""
    if not path.exists():
        return None
    with safe_open(path, framework="pt") as file:
        notes = {k: json.loads(v) for k, v in file.metadata().items()}
        tensors = {k: file.get_tensor(k) for k in file.keys()}  # noqa: SIM118 - safe_open is no mapping
    expected = json.loads(json.dumps(identity))
    if notes["identity"] != expected:
        other = sorted(k for k in {*expected, *notes["identity"]} if expected.get(k) != notes["identity"].get(k))
        raise StaleCheckpoint(
            f"{path} is of another training ({', '.join(other)} differ): remove it or choose another folder"
        )
    for name, net in nets.items():
        start = f"net.{name}."
        net.load_state_dict({k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)})
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("opt."):
            _, index, name = key.split(".")
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    torch.set_rng_state(tensors["rng"])
    if "rng_cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["rng_cuda"])
    version, words, gauss = notes["random"]
    rng.setstate((version, tuple(words), gauss))
    progress: dict[str, object] = notes["progress"]
    return progress
