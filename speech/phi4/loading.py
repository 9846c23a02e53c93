"""From a checkpoint folder to the parts of the model: checks first, then weights, tensor by tensor onto the device."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from speech.phi4.checkpoint import (
    AUDIO,
    Tensors,
    audio_shapes,
    check_shapes,
    decoder_linears,
    decoder_shapes,
    open_weights,
)
from speech.phi4.config import CheckpointError, Phi4Config, read_config
from speech.phi4.decoder import Decoder, Layer
from speech.phi4.encoder import Encoder
from speech.phi4.lora import FOLDER, Adapter, LoraMode, ModalLinear, modal_linear, open_adapter
from speech.phi4.mel import check_preprocessor
from speech.phi4.projector import Projector
from speech.phi4.rope import RopeTables

__all__ = ["Checked", "Parts", "check_checkpoint", "load_parts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Checked:
    """A checkpoint whose configuration, shapes and adapter agree; no weight was read. `adapter` is None for lora off."""

    config: Phi4Config
    weights: Tensors
    adapter: Adapter | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a model is made of."""

    config: Phi4Config
    encoder: Encoder
    projector: Projector
    decoder: Decoder


def check_checkpoint(folder: Path, *, lora: LoraMode = "merged") -> Checked:
    """Checks layout, configuration against shapes, front end and adapter; raises CheckpointError with what to do."""
    config = read_config(folder)
    check_preprocessor(folder)
    if not (folder / "tokenizer.json").is_file():
        raise CheckpointError(f"{folder / 'tokenizer.json'} is missing: the download is incomplete")
    weights = open_weights(folder)
    check_shapes(weights.shapes, decoder_shapes(config) | audio_shapes(config), str(folder))
    adapter = None if lora == "off" else open_adapter(folder / FOLDER, decoder_linears(config))
    return Checked(config=config, weights=weights, adapter=adapter)


def load_parts(
    checked: Checked, *, device: torch.device, dtype: torch.dtype, lora: LoraMode, stock_padding: bool, tile_frames: int
) -> Parts:
    """Reads every weight once; the adapter is merged layer by layer, so no third copy of the decoder ever exists."""
    config, weights = checked.config, checked.weights
    audio = weights.read_all(audio_shapes(config), device=device, dtype=dtype)
    encoder_prefix = AUDIO + "encoder."
    encoder = Encoder(
        config.audio,
        {name.removeprefix(encoder_prefix): t for name, t in audio.items() if name.startswith(encoder_prefix)},
        stock_padding=stock_padding,
        tile_frames=tile_frames,
    )
    projector = Projector(
        tensors={name.removeprefix(AUDIO): t for name, t in audio.items() if not name.startswith(encoder_prefix)}
    )
    return Parts(config=config, encoder=encoder, projector=projector, decoder=_decoder(checked, device, dtype, lora))


def _decoder(checked: Checked, device: torch.device, dtype: torch.dtype, lora: LoraMode) -> Decoder:
    config, weights = checked.config, checked.weights
    plain = [name for name in decoder_shapes(config) if name.removesuffix(".weight") not in decoder_linears(config)]
    shared = weights.read_all(plain, device=device, dtype=dtype)

    def layer_linear(module: str) -> ModalLinear:
        # As stored: merging wants the checkpoint's own precision, not the model's.
        name = module + ".weight"
        base = weights.read(name, device=device, dtype=torch.promote_types(dtype, torch.float32))
        return modal_linear(base, checked.adapter, module, lora=lora, device=device, dtype=dtype)

    layers = [
        Layer(
            qkv=layer_linear(f"model.layers.{number}.self_attn.qkv_proj"),
            output=layer_linear(f"model.layers.{number}.self_attn.o_proj"),
            gate_up=layer_linear(f"model.layers.{number}.mlp.gate_up_proj"),
            down=layer_linear(f"model.layers.{number}.mlp.down_proj"),
            attention_norm=shared[f"model.layers.{number}.input_layernorm.weight"],
            mlp_norm=shared[f"model.layers.{number}.post_attention_layernorm.weight"],
        )
        for number in range(config.layers)
    ]
    return Decoder(
        config,
        layers=layers,
        embedding=shared["model.embed_tokens.weight"],
        norm=shared["model.norm.weight"],
        head=shared.get("lm_head.weight"),
        rope=RopeTables(config.rope, config.max_positions, device=device, dtype=dtype),
    )
