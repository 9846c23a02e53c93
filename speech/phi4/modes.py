"""The modes of Phi-4-Multimodal's mixture of LoRAs: the mode chooses adapter and projector."""

from __future__ import annotations

from enum import StrEnum

__all__ = ["Mode", "UnsupportedMode", "check_mode"]


class Mode(StrEnum):
    """What a sequence is made of. VISION and VISION_SPEECH are named as in the paper, and refused for now."""

    LANGUAGE = "language"  # text alone: no adapter
    SPEECH = "speech"  # speech LoRA and speech projector
    VISION = "vision"
    VISION_SPEECH = "vision_speech"


class UnsupportedMode(ValueError):
    """The engine serves LANGUAGE and SPEECH only: pictures are not implemented."""


def check_mode(mode: Mode) -> Mode:
    """`mode` if it is served; raises UnsupportedMode otherwise."""
    if mode not in (Mode.LANGUAGE, Mode.SPEECH):
        raise UnsupportedMode(f"mode {mode} is not implemented: this engine serves language and speech")
    return mode
