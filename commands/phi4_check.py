"""What a checkpoint's folder holds and what it needs, from the headers of its files."""

from __future__ import annotations

from math import prod
from pathlib import Path

from speech.phi4.checkpoint import audio_shapes
from speech.phi4.config import CheckpointError
from speech.phi4.limits import Limits
from speech.phi4.loading import check_checkpoint
from speech.phi4.memory import GB, ModelSize, TooSmall, plan

__all__ = ["CARDS_GB", "CheckpointError", "describe"]

CARDS_GB = (16, 24, 48, 80)


def describe(folder: Path) -> list[str]:
    """Lines for a person. Raises CheckpointError where this checkpoint cannot be served."""
    checked = check_checkpoint(folder)
    config, adapter = checked.config, checked.adapter.config if checked.adapter else None
    if adapter is None:
        raise CheckpointError(f"{folder} has no speech adapter")
    audio = sum(prod(shape) for shape in audio_shapes(config).values())
    size = ModelSize.of(
        vocab=config.vocab, hidden=config.hidden, ffn=config.ffn, layers=config.layers, heads=config.heads,
        kv_heads=config.kv_heads, head_dim=config.head_dim, rank=adapter.rank, audio=audio,
    )  # fmt: skip
    revision = folder / "REVISION"
    return [
        f"layout: native, {'commit ' + revision.read_text().strip() if revision.is_file() else 'no REVISION file'}",
        f"decoder: {config.layers} layers, {config.hidden} wide, {config.heads} heads ({config.kv_heads} of keys), "
        f"vocabulary {config.vocab:,}, {(size.embeddings + size.linears) / 1e9:.2f} B parameters",
        f"audio: {config.audio.blocks} blocks, {config.audio.hidden} wide, {audio / 1e6:,.0f} M parameters with projector",
        f"speech adapter: rank {adapter.rank}, alpha {adapter.alpha:g}, {size.adapter / 1e6:,.0f} M parameters",
        *(f"{gb} GB card: {_plan(gb, size)}" for gb in CARDS_GB),
    ]


def _plan(gb: int, size: ModelSize) -> str:
    try:
        return str(plan(gb * GB, limits=Limits(), size=size)).removeprefix("memory plan: ")
    except TooSmall as err:
        return str(err)
