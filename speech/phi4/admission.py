"""What a request will take, before anything is computed: tokens of prompt and answer, and which RoPE factors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from speech.contract import InvalidRequest, UnsupportedTask
from speech.phi4.audio import Clip, audio_blocks, check_clip
from speech.phi4.config import Phi4Config
from speech.phi4.generation import Generation
from speech.phi4.limits import Limits
from speech.phi4.modes import Mode, UnsupportedMode, check_mode

__all__ = ["Need", "Sizes", "measure"]


class Sizes(Protocol):
    """What a model tells about sizes."""

    @property
    def config(self) -> Phi4Config:
        """Its configuration."""

    def audio_tokens(self, clip: Clip) -> int:
        """The tokens a clip becomes; InvalidRequest if it becomes none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """`long_rope` is chosen once, for the longest the sequence may become: keys in the cache cannot be turned again."""

    prompt_tokens: int
    new_tokens: int
    audio_blocks: int
    long_rope: bool


def measure(generation: Generation, model: Sizes, limits: Limits) -> Need:
    """The need of a request; InvalidRequest for audio that gives no text, a limit out of range, or too many positions;
    UnsupportedTask for the modes with pictures."""
    try:
        check_mode(generation.mode)
    except UnsupportedMode as err:
        raise UnsupportedTask(str(err)) from err
    prompt, heard = generation.prompt, 0
    tokens = len(prompt.before) + len(prompt.after)
    vocabulary = model.config.vocab
    if any(not 0 <= token < vocabulary for token in (*prompt.before, *prompt.after)):
        raise InvalidRequest(f"a token id is not one of the model's {vocabulary}")
    if prompt.audio is not None:
        if generation.mode is not Mode.SPEECH:
            raise InvalidRequest("audio needs the speech mode")
        clip = Clip(samples=prompt.audio, rate=prompt.rate)
        check_clip(clip)
        heard = model.audio_tokens(clip)
        tokens += heard
    if not tokens:
        raise InvalidRequest("the prompt is empty")
    if not 1 <= generation.max_new_tokens <= limits.max_new_tokens:
        raise InvalidRequest(f"the token limit must be 1 to {limits.max_new_tokens}")
    try:
        long_rope = model.config.long_rope(tokens + generation.max_new_tokens)
    except ValueError as err:
        raise InvalidRequest(str(err)) from err
    return Need(
        prompt_tokens=tokens,
        new_tokens=generation.max_new_tokens,
        audio_blocks=audio_blocks(heard),
        long_rope=long_rope,
    )
