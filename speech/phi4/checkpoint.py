"""A checkpoint folder in the native layout: one or several safetensors files, tensors read one at a time.

    config.json  model.safetensors, or model-0000N-of-0000M.safetensors with model.safetensors.index.json
    speech-lora/adapter_config.json  speech-lora/adapter_model.safetensors     (speech.phi4.lora)

Shapes come from the files' headers, so a checkpoint can be checked without reading its weights.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from speech.phi4.config import CheckpointError, Phi4Config, old_layout

__all__ = [
    "AUDIO",
    "TensorFiles",
    "Tensors",
    "audio_shapes",
    "check_shapes",
    "decoder_linears",
    "decoder_shapes",
    "open_weights",
]

AUDIO = "model.embed_tokens_extend.audio_embed."
Shape = tuple[int, ...]


class Tensors(Protocol):
    """Tensors by name, made where and how they are wanted."""

    shapes: dict[str, Shape]

    def read(self, name: str, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """One tensor, converted; KeyError for an unknown name."""
        ...

    def read_all(self, names: Iterable[str], *, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Several tensors by name."""
        ...


class TensorFiles:
    """Tensors by name over one or several safetensors files."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files: dict[str, Path] = {}
        self.shapes: dict[str, Shape] = {}
        for path in paths:
            try:
                with safe_open(path, framework="pt") as file:
                    for name in file.keys():  # noqa: SIM118  # safe_open is no mapping
                        self._files[name] = path
                        self.shapes[name] = tuple(file.get_slice(name).get_shape())
            except FileNotFoundError as err:
                raise CheckpointError(f"{path} is missing: the download is incomplete") from err
            except SafetensorError as err:
                raise CheckpointError(f"{path} is damaged or cut off: {err}") from err

    def read(self, name: str, *, device: torch.device, dtype: torch.dtype) -> Tensor:
        """One tensor, converted; KeyError for an unknown name."""
        with safe_open(self._files[name], framework="pt") as file:
            return file.get_tensor(name).to(device=device, dtype=dtype)

    def read_all(self, names: Iterable[str], *, device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
        """Several tensors by name; each file is opened once."""
        by_file: dict[Path, list[str]] = {}
        for name in names:
            by_file.setdefault(self._files[name], []).append(name)
        tensors = {}
        for path, members in by_file.items():
            with safe_open(path, framework="pt") as file:
                for name in members:
                    tensors[name] = file.get_tensor(name).to(device=device, dtype=dtype)
        return tensors


def open_weights(folder: Path) -> TensorFiles:
    """The base weights of `folder`; raises CheckpointError for the old layout, missing or damaged files."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, AttributeError) as err:
            raise CheckpointError(f"{index} is not an index of safetensors files") from err
        # The index names files, never paths: a name with a folder in it is not transformers' and not followed.
        if any(Path(name).name != name for name in names):
            raise CheckpointError(f"{index} names files outside {folder}")
        paths = [folder / name for name in names]
    else:
        paths = [folder / "model.safetensors"]
    files = TensorFiles(paths)
    if any(".base_layer." in name for name in files.shapes):
        raise old_layout(folder)
    return files


def decoder_linears(config: Phi4Config) -> dict[str, Shape]:
    """The decoder's linear layers, which the speech LoRA adapts: name without `.weight` to [out, in]."""
    linears: dict[str, Shape] = {}
    query, both = config.heads * config.head_dim, (config.heads + 2 * config.kv_heads) * config.head_dim
    for layer in range(config.layers):
        prefix = f"model.layers.{layer}."
        linears[prefix + "self_attn.qkv_proj"] = (both, config.hidden)
        linears[prefix + "self_attn.o_proj"] = (config.hidden, query)
        linears[prefix + "mlp.gate_up_proj"] = (2 * config.ffn, config.hidden)
        linears[prefix + "mlp.down_proj"] = (config.hidden, config.ffn)
    return linears


def decoder_shapes(config: Phi4Config) -> dict[str, Shape]:
    """Every tensor of the decoder that this engine reads."""
    shapes = {"model.embed_tokens.weight": (config.vocab, config.hidden), "model.norm.weight": (config.hidden,)}
    if not config.tied:
        shapes["lm_head.weight"] = (config.vocab, config.hidden)
    for name, shape in decoder_linears(config).items():
        shapes[name + ".weight"] = shape
    for layer in range(config.layers):
        for norm in ("input_layernorm", "post_attention_layernorm"):
            shapes[f"model.layers.{layer}.{norm}.weight"] = (config.hidden,)
    return shapes


def audio_shapes(config: Phi4Config) -> dict[str, Shape]:
    """Every tensor of the audio encoder and the speech projector that this engine reads."""
    audio, shapes = config.audio, dict[str, Shape]()

    def linear(name: str, out: int, into: int, *kernel: int) -> None:
        shapes[f"{AUDIO}{name}.weight"] = (out, into, *kernel)
        shapes[f"{AUDIO}{name}.bias"] = (out,)

    def norm(name: str) -> None:
        shapes[f"{AUDIO}{name}.weight"] = shapes[f"{AUDIO}{name}.bias"] = (audio.hidden,)

    for name in ("global_mean", "global_invstd"):
        shapes[f"{AUDIO}encoder.encoder_embedding.{name}"] = (audio.mels,)
    linear("encoder.embed.conv.0", audio.conv_channels, 1, 3, 3)
    for stage in range(1, audio.stages):
        linear(f"encoder.embed.conv.{3 * stage - 1}", audio.conv_channels, 1, 3, 3)
        linear(f"encoder.embed.conv.{3 * stage}", audio.conv_channels, audio.conv_channels, 1, 1)
    linear("encoder.embed.out", audio.hidden, audio.conv_channels * audio.reduced_mels)
    shapes[f"{AUDIO}encoder.relative_attention_bias_layer.bias_values.weight"] = (2 * audio.bias_distance, audio.heads)
    for block in range(audio.blocks):
        prefix = f"encoder.encoders.{block}."
        for side in ("in", "out"):
            norm(f"{prefix}feed_forward_{side}.layer_norm")
            linear(f"{prefix}feed_forward_{side}.gate_up_proj", 2 * audio.ffn, audio.hidden)
            linear(f"{prefix}feed_forward_{side}.down_proj", audio.hidden, audio.ffn)
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            linear(f"{prefix}self_attn.{name}", audio.hidden, audio.hidden)
        for name in ("conv.layer_norm", "layer_norm_att", "layer_norm"):
            norm(prefix + name)
        linear(f"{prefix}conv.glu.ext_pw_conv_1d", 2 * audio.hidden, audio.hidden, 1)
        for name in ("b1", "b2"):
            shapes[f"{AUDIO}{prefix}conv.glu.{name}"] = (1, audio.hidden, 1)
        linear(f"{prefix}conv.dw_sep_conv_1d.dw_conv", audio.hidden, 1, audio.kernel)
        linear(f"{prefix}conv.dw_sep_conv_1d.pw_conv", audio.hidden, audio.hidden, 1)
        linear(f"{prefix}conv.ext_pw_conv_1d", audio.hidden, audio.hidden, 1)
    linear("up_proj_for_speech", config.hidden, audio.hidden)
    linear("down_proj_for_speech", config.hidden, config.hidden)
    return shapes


def check_shapes(found: Mapping[str, Shape], expected: Mapping[str, Shape], where: str) -> None:
    """Raises CheckpointError unless every expected tensor is there with its shape; names the first few that are not."""
    missing = [name for name in expected if name not in found]
    if missing:
        raise CheckpointError(f"{where} lacks {len(missing)} of {len(expected)} tensors, the first is {missing[0]}")
    wrong = [name for name, shape in expected.items() if found[name] != shape]
    if wrong:
        details = ", ".join(f"{name} is {list(found[name])}, not {list(expected[name])}" for name in wrong[:3])
        raise CheckpointError(f"{where} does not fit config.json: {details} ({len(wrong)} in all)")
