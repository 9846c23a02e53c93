"""What a checkpoint says about itself: config.json in transformers' native layout, as frozen dataclasses.

transformers leaves a key out of config.json where it equals the default of its own configuration class, so a missing
key means that default; the defaults below are those. What this engine does not implement is refused, never ignored.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

__all__ = ["AudioConfig", "CheckpointError", "Phi4Config", "RopeConfig", "parse_config", "read_config", "read_json"]

NATIVE_REVISION = "refs/pr/70"
_OLD_LAYOUT = (
    "{folder} holds the old remote-code layout of Phi-4-Multimodal, which neither current transformers nor this engine "
    f"can load: take the native layout, revision {NATIVE_REVISION} of microsoft/Phi-4-multimodal-instruct"
)


class CheckpointError(ValueError):
    """The folder is not a checkpoint that this engine can serve; the sentence says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeConfig:
    """Rotary embedding: `dims` of each head are rotated; short factors up to `original_positions`, long ones beyond."""

    dims: int
    theta: float
    short_factor: tuple[float, ...]
    long_factor: tuple[float, ...]
    original_positions: int
    attention_factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class AudioConfig:
    """The conformer encoder."""

    hidden: int
    ffn: int
    blocks: int
    heads: int
    mels: int
    conv_channels: int
    pointwise_channels: int
    kernel: int
    bias_distance: int
    time_reduction: int
    token_id: int
    activation: str
    conv_activation: str
    glu_activation: str
    subsample_activation: str

    @property
    def reduced_mels(self) -> int:
        """Mel bins that are left after the subsampler."""
        bins = self.mels
        for _ in range(self.stages):
            bins = (bins + 1) // 2
        return bins

    @property
    def stages(self) -> int:
        """Convolutions of stride 2 in the subsampler."""
        return self.time_reduction.bit_length() - 1

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads


@dataclass(frozen=True, slots=True, kw_only=True)
class Phi4Config:
    """The decoder, and the audio encoder in `audio`."""

    vocab: int
    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    max_positions: int
    norm_eps: float
    tied: bool
    eos_ids: tuple[int, ...]
    bos_id: int | None
    pad_id: int | None
    rope: RopeConfig
    audio: AudioConfig

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.hidden // self.heads

    @property
    def audio_token_id(self) -> int:
        """The token whose places in a prompt the audio embeddings take."""
        return self.audio.token_id

    def long_rope(self, tokens: int) -> bool:
        """Whether a sequence of at most `tokens` tokens (prompt and answer) needs the long factors; ask once, at admission.

        Raises ValueError beyond the model's last position.
        """
        if tokens > self.max_positions:
            raise ValueError(f"{tokens} tokens: the model has {self.max_positions} positions")
        return tokens > self.rope.original_positions

    def kv_bytes_per_token(self, element_bytes: int) -> int:
        """Bytes of KV cache that one token takes over all layers."""
        return 2 * self.layers * self.kv_heads * self.head_dim * element_bytes


def read_config(folder: Path) -> Phi4Config:
    """The configuration of the checkpoint in `folder`; raises CheckpointError."""
    path = folder / "config.json"
    if not path.is_file():
        raise CheckpointError(f"{folder} holds no config.json: not a checkpoint")
    data = read_json(path)
    # Both layouts' old form names its Python files in auto_map; the native one has a model type of transformers' own.
    if data.get("model_type") == "phi4mm" or "auto_map" in data or "embd_layer" in data:
        raise CheckpointError(_OLD_LAYOUT.format(folder=folder))
    if data.get("model_type") != "phi4_multimodal":
        raise CheckpointError(f"{path}: model_type is {data.get('model_type')!r}, not 'phi4_multimodal'")
    # The published config.json names the end of a document only; the end of an answer is in generation_config.json.
    generation = folder / "generation_config.json"
    more = _ids(read_json(generation).get("eos_token_id")) if generation.is_file() else ()
    try:
        config = parse_config(data)
        return replace(config, eos_ids=tuple(dict.fromkeys((*config.eos_ids, *more))))
    except CheckpointError as err:
        raise CheckpointError(f"{path}: {err}") from err
    except (ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError) as err:
        raise CheckpointError(f"{path} is not a configuration of Phi-4-Multimodal: {err!r}") from err


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; raises CheckpointError."""
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise CheckpointError(f"{path} is missing: the download is incomplete") from err
    except ValueError as err:
        raise CheckpointError(f"{path} is not JSON: {err}") from err
    if not isinstance(data, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return data


def old_layout(folder: Path) -> CheckpointError:
    """The error for a checkpoint in the old remote-code layout."""
    return CheckpointError(_OLD_LAYOUT.format(folder=folder))


def parse_config(data: Mapping[str, Any]) -> Phi4Config:
    """Config.json's object as a Phi4Config; raises CheckpointError for what is not implemented."""
    hidden, heads = int(data.get("hidden_size", 3072)), int(data.get("num_attention_heads", 32))
    kv_heads = data.get("num_key_value_heads", 8)
    max_positions = int(data.get("max_position_embeddings", 131072))
    _require(hidden % heads == 0, f"hidden_size {hidden} is not a multiple of {heads} heads")
    _require(
        data.get("hidden_act", "silu") == "silu", f"hidden_act {data.get('hidden_act')!r}: only silu is implemented"
    )
    window = data.get("sliding_window")
    _require(window is None or window >= max_positions, f"sliding_window {window} is not implemented")
    config = Phi4Config(
        vocab=int(data.get("vocab_size", 200064)),
        hidden=hidden,
        ffn=int(data.get("intermediate_size", 8192)),
        layers=int(data.get("num_hidden_layers", 32)),
        heads=heads,
        kv_heads=heads if kv_heads is None else int(kv_heads),
        max_positions=max_positions,
        norm_eps=float(data.get("rms_norm_eps", 1e-5)),
        tied=bool(data.get("tie_word_embeddings", False)),
        eos_ids=_ids(data.get("eos_token_id")) or (199999, 200020),
        bos_id=data.get("bos_token_id", 199999),
        pad_id=data.get("pad_token_id", 199999),
        rope=_rope(data, hidden // heads, max_positions),
        audio=_audio(data.get("audio_config") or {}),
    )
    _require(
        config.heads % config.kv_heads == 0, f"{config.heads} heads do not share {config.kv_heads} KV heads evenly"
    )
    return config


def _ids(value: int | list[int] | None) -> tuple[int, ...]:
    if value is None:
        return ()
    return tuple(int(v) for v in value) if isinstance(value, list) else (int(value),)


def _rope(data: Mapping[str, Any], head_dim: int, max_positions: int) -> RopeConfig:
    # Since transformers 5 one dictionary; before, rope_theta and rope_scaling beside each other.
    rope = {**(data.get("rope_scaling") or {}), **(data.get("rope_parameters") or {})}
    kind = rope.get("rope_type", rope.get("type", "default"))
    _require(kind in ("default", "longrope", "su"), f"rope type {kind!r} is not implemented")
    portion = float(rope.get("partial_rotary_factor", data.get("partial_rotary_factor", 1.0)))
    original = int(
        rope.get("original_max_position_embeddings") or data.get("original_max_position_embeddings") or max_positions
    )
    dims = int(head_dim * portion)
    ones = [1.0] * (dims // 2)
    short, long = rope.get("short_factor", ones), rope.get("long_factor", ones)
    for name, factors in (("short_factor", short), ("long_factor", long)):
        _require(len(factors) == dims // 2, f"{name} has {len(factors)} values, {dims // 2} dimensions turn")
    attention = rope.get("attention_factor")
    if attention is None:
        stretch = float(rope.get("factor") or max_positions / original)
        # LongRoPE's own formula, 1.1902 for 4096 to 131072.
        attention = math.sqrt(1 + math.log(stretch) / math.log(original)) if kind != "default" and stretch > 1 else 1.0
    return RopeConfig(
        dims=dims,
        theta=float(rope.get("rope_theta", data.get("rope_theta", 10_000.0))),
        short_factor=tuple(float(f) for f in short),
        long_factor=tuple(float(f) for f in long),
        original_positions=original,
        attention_factor=float(attention),
    )


def _audio(data: Mapping[str, Any]) -> AudioConfig:
    _require(data.get("chunk_size", -1) == -1, "audio chunk_size other than -1 (streaming) is not implemented")
    _require(data.get("depthwise_multiplier", 1) == 1, "audio depthwise_multiplier other than 1 is not implemented")
    _require(data.get("downsample_rate", 1) == 1, "audio downsample_rate other than 1 is not implemented")
    _require(not data.get("bias_symmetric", False), "audio bias_symmetric is not implemented")
    reduction = int(data.get("time_reduction", 8))
    _require(reduction >= 2 and reduction & (reduction - 1) == 0, f"time_reduction {reduction} is not a power of two")
    audio = AudioConfig(
        hidden=int(data.get("hidden_size", 1024)),
        ffn=int(data.get("intermediate_size", 1536)),
        blocks=int(data.get("num_blocks", 24)),
        heads=int(data.get("num_attention_heads", 16)),
        mels=int(data.get("input_size", 80)),
        conv_channels=int(data.get("nemo_conv_channels", 1024)),
        pointwise_channels=int(data.get("ext_pw_out_channel", 1024)),
        kernel=int(data.get("kernel_size", 3)),
        bias_distance=int(data.get("bias_max_distance", 1000)),
        time_reduction=reduction,
        token_id=int(data.get("audio_token_id", 200011)),
        activation=str(data.get("activation", "swish")),
        conv_activation=str(data.get("conv_activation", "swish")),
        glu_activation=str(data.get("conv_glu_type", "swish")),
        subsample_activation=str(data.get("nemo_activation", "relu")),
    )
    # The modules only fit together when these widths agree, in transformers too.
    separable = int(data.get("depthwise_separable_out_channel", 1024))
    _require(
        audio.pointwise_channels == audio.hidden == separable,
        "ext_pw_out_channel and depthwise_separable_out_channel must equal the audio hidden_size",
    )
    return audio


def _require(condition: bool, sentence: str) -> None:
    if not condition:
        raise CheckpointError(sentence)
