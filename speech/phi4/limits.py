"""What the engine allows: slots, queue, sizes of its steps, and what one request may ask for."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

__all__ = ["Limits"]

#: Slots for utterances and for summaries where neither a setting nor a GPU's memory plan says how many.
_SLOTS = (16, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Settings of one engine; its canonical JSON is part of a run. Seconds of audio, tokens of KV cache.

    Two sizes of slots: utterances, of which there are many, and summaries. A request takes the smallest that holds
    its prompt and its answer.
    """

    # null: what a GPU's memory holds (speech/phi4/memory.py), on a CPU 16 and 1.
    utterance_slots: int | None = None
    utterance_slot_tokens: int = 896  # 40 s of audio are 500, which leaves 9 tokens a second for the answer
    summary_slots: int | None = None
    summary_slot_tokens: int = 24_576  # 30 min of audio are 22,500
    # What begins many prompts is kept in slots of its own: a system prompt in each mode, with short and long RoPE factors.
    shared_slots: int = 4
    shared_slot_tokens: int = 512
    queue: int = 1_024  # requests that wait for a slot

    encode_clips: int = 32  # at once: one convolution's output passes 2**31 elements beyond 34 clips of 30 s
    encode_seconds: float = 960.0  # at once
    encode_blocks: int = 6  # of 40 s, of one longer clip in one step: between two parts everybody else gets a token
    prefill_tokens: int = 8_192  # in one step, all requests together
    chunk_tokens: int = 2_048  # of one long prompt in one step: between two chunks everybody else gets a token

    # Batch sizes for which a decode step becomes a CUDA graph; null: those that a GPU's memory plan names. None of them:
    # every step is launched kernel by kernel.
    graph_sizes: tuple[int, ...] | None = None

    min_audio_seconds: float = 0.05
    max_utterance_seconds: float = 40.0  # the encoder's block; trained on 30
    max_summary_seconds: float = 1_800.0
    max_text_characters: int = 1_000_000  # more than any slots hold, and half a second of the tokenizer's time
    max_new_tokens: int = 4_096  # the most a request may ask for
    summary_tokens: int = 1_024  # an answer's tokens where the request does not say: summaries, free text
    summary_parts: int = 16  # of a transcript that is too long for one prompt; the parts' notes are merged
    # No language is spoken faster than this many tokens a second: what is longer repeats itself or is invented.
    tokens_per_second: float = 12.0
    tokens_base: int = 16

    guard: bool = True  # stop loops
    split_levels: int = 2  # after a loop the clip is cut in two, at most so many times over
    split_seconds: float = 2.0  # a shorter clip is not cut

    def canonical_json(self) -> str:
        """The same text for the same limits."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> Limits:
        """What `canonical_json` wrote, or a part of it; ValueError for anything else."""
        try:
            values = json.loads(text)
            sizes = values.get("graph_sizes")
            return cls(**values | {"graph_sizes": None if sizes is None else tuple(sizes)})
        except (TypeError, AttributeError) as err:
            raise ValueError(f"limits: {err}") from err

    @property
    def pools(self) -> list[tuple[int, int]]:
        """Slots and their tokens, the smaller slots first; numbered in this order in the cache, shared slots last."""
        named = (self.utterance_slots, self.summary_slots)
        counts = [usual if count is None else count for count, usual in zip(named, _SLOTS, strict=True)]
        sizes = zip(counts, (self.utterance_slot_tokens, self.summary_slot_tokens), strict=True)
        return sorted(sizes, key=lambda size: size[1])

    @property
    def slot_sizes(self) -> list[int]:
        """The tokens of each slot of the cache, shared slots last."""
        sizes = [tokens for count, tokens in self.pools for _ in range(count)]
        return sizes + [self.shared_slot_tokens] * self.shared_slots

    def spoken_tokens(self, seconds: float) -> int:
        """The most tokens in which `seconds` of speech can be written down."""
        return self.tokens_base + int(self.tokens_per_second * seconds)
