"""What fits on a device: weights, room to compute, and slots of KV cache. Pure arithmetic, nothing is measured here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from speech.phi4.limits import Limits

__all__ = ["GRAPH_SIZES", "PHI4", "MemoryPlan", "ModelSize", "TooSmall", "plan", "table"]

GB = 10**9
#: Below, the unmerged model and a useful cache do not fit; at this size or above, both copies of the decoder do.
SMALLEST = 16 * GB
BOTH_COPIES = 32 * GB
#: Cards are sold by round numbers and report a little less (a 16 GB card 15.8 GB, a 24 GB card 23.6).
_SOLD = 0.97
#: Sizes of decode steps to capture; beyond the last, kernels take longer than launching them. All graphs share one pool, whose
#: logits of 128 rows are some 0.2 GB of the room to compute.
GRAPH_SIZES = (1, 2, 4, 8, 16, 32, 64, 128)


class TooSmall(ValueError):
    """The device cannot serve Phi-4; the sentence says what it has and what is needed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSize:
    """Parameters of a checkpoint's parts, and its KV cache: elements per token."""

    embeddings: int
    linears: int  # those of the decoder that the adapter changes
    adapter: int
    audio: int  # encoder and projector
    kv_elements: int

    @classmethod
    def of(
        cls,
        *,
        vocab: int,
        hidden: int,
        ffn: int,
        layers: int,
        heads: int,
        kv_heads: int,
        head_dim: int,
        rank: int,
        audio: int,
    ) -> ModelSize:
        """From a configuration: attention and MLP linears, a LoRA of `rank` on each, tied embeddings."""
        shapes = (
            (hidden, (heads + 2 * kv_heads) * head_dim),
            (heads * head_dim, hidden),
            (hidden, 2 * ffn),
            (ffn, hidden),
        )
        return cls(
            embeddings=vocab * hidden,
            linears=layers * sum(rows * columns for rows, columns in shapes),
            adapter=layers * rank * sum(rows + columns for rows, columns in shapes),
            audio=audio,
            kv_elements=2 * layers * kv_heads * head_dim,
        )


PHI4 = ModelSize.of(
    vocab=200_064, hidden=3_072, ffn=8_192, layers=32, heads=24, kv_heads=8, head_dim=128, rank=320, audio=460_000_000
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """How the bytes of a device are used. `merged`: a second copy of the decoder's linears holds the speech adapter."""

    merged: bool
    device_bytes: int
    weight_bytes: int
    work_bytes: int  # activations, features, the allocator's loss; and what others use
    kv_bytes_per_token: int
    utterance_slots: int
    utterance_slot_tokens: int
    summary_slots: int
    summary_slot_tokens: int
    shared_tokens: int

    @property
    def kv_tokens(self) -> int:
        """Tokens that all slots hold together."""
        own = self.utterance_slots * self.utterance_slot_tokens + self.summary_slots * self.summary_slot_tokens
        return own + self.shared_tokens

    @property
    def kv_bytes(self) -> int:
        """Bytes of all slots."""
        return self.kv_tokens * self.kv_bytes_per_token

    @property
    def graph_sizes(self) -> tuple[int, ...]:
        """Those of GRAPH_SIZES that these slots can fill."""
        return tuple(size for size in GRAPH_SIZES if size <= self.utterance_slots + self.summary_slots)

    def limits(self, base: Limits) -> Limits:
        """`base` with this plan's slots, which are its own where it names some, and graphs where it names none."""
        return replace(
            base,
            utterance_slots=self.utterance_slots,
            utterance_slot_tokens=self.utterance_slot_tokens,
            summary_slots=self.summary_slots,
            summary_slot_tokens=self.summary_slot_tokens,
            graph_sizes=self.graph_sizes if base.graph_sizes is None else base.graph_sizes,
        )

    def __str__(self) -> str:
        return (
            f"memory plan: {self.device_bytes / GB:.1f} GB = weights {self.weight_bytes / GB:.1f} "
            f"({'base and merged speech' if self.merged else 'one decoder, unmerged'}) + work {self.work_bytes / GB:.1f} + "
            f"KV cache {self.kv_bytes / GB:.1f} ({self.utterance_slots} slots of {self.utterance_slot_tokens} tokens, "
            f"{self.summary_slots} of {self.summary_slot_tokens}, {self.kv_bytes_per_token / 1024:g} KiB a token); "
            f"decode steps of up to {max(self.graph_sizes)} as CUDA graphs, unless limits say otherwise"
        )


def plan(
    device_bytes: int,
    *,
    limits: Limits,
    used_bytes: int = 0,
    size: ModelSize = PHI4,
    bf16: bool = True,
    merged: bool | None = None,
    summary_share: float = 0.25,
    most_utterances: int = 512,
) -> MemoryPlan:
    """The plan for a device with so many bytes in all, of which others use `used_bytes`; two bytes an element.

    As many slots as `limits` names; of those it does not, summaries get `summary_share` of the cache and one slot at
    least, utterances the rest. `merged` None: both copies from 32 GB on. Raises TooSmall under 16 GB, without bf16, or
    where the slots do not fit or none would be left.
    """
    if not bf16:
        raise TooSmall("this GPU has no bfloat16: Phi-4 needs one of compute capability 8.0 or later")
    if device_bytes < SMALLEST * _SOLD:
        raise TooSmall(f"this GPU has {device_bytes / GB:.1f} GB: Phi-4 needs 16 GB or more")
    if merged is None:
        merged = device_bytes >= BOTH_COPIES * _SOLD
    weights = 2 * (size.embeddings + size.linears + size.audio + (size.linears if merged else size.adapter))
    # One step's activations and logits grow with its tokens; the allocator and CUDA's context take the rest.
    work = max(2 * GB, device_bytes // 16)
    per_token = 2 * size.kv_elements
    shared = limits.shared_slots * limits.shared_slot_tokens
    free = device_bytes - used_bytes - weights - work - shared * per_token
    summary = limits.summary_slot_tokens * per_token
    utterance = limits.utterance_slot_tokens * per_token
    summaries, utterances = limits.summary_slots, limits.utterance_slots
    if summaries is None:
        left = free - (utterances or 0) * utterance
        summaries = max(1, min(int(free * summary_share), left) // summary)
    if utterances is None:
        utterances = max(1, min(most_utterances, (free - summaries * summary) // utterance))
    needed = summaries * summary + utterances * utterance
    if needed > free or not needed:
        raise TooSmall(
            f"{device_bytes / GB:.1f} GB leave {max(0, free) / GB:.1f} GB for the KV cache: slots for summaries ({summaries}) and "
            f"utterances ({utterances}) take {needed / GB:.1f} GB; make them smaller or fewer, or serve the adapter unmerged"
        )
    return MemoryPlan(
        merged=merged,
        device_bytes=device_bytes,
        weight_bytes=weights,
        work_bytes=work + used_bytes,
        kv_bytes_per_token=per_token,
        utterance_slots=utterances,
        utterance_slot_tokens=limits.utterance_slot_tokens,
        summary_slots=summaries,
        summary_slot_tokens=limits.summary_slot_tokens,
        shared_tokens=shared,
    )


def table(sizes_gb: Sequence[int] = (16, 24, 48, 80), limits: Limits | None = None) -> str:
    """The plans of cards of these sizes as a Markdown table; all of it calculated."""
    lines = [
        "| card | decoder | weights | work | KV cache | utterances in flight | summaries in flight |",
        "|---|---|---|---|---|---|---|",
    ]
    for gb in sizes_gb:
        one = plan(gb * GB, limits=limits or Limits())
        lines.append(
            f"| {gb} GB | {'base and merged' if one.merged else 'unmerged'} | {one.weight_bytes / GB:.1f} GB | "
            f"{one.work_bytes / GB:.1f} GB | {one.kv_bytes / GB:.1f} GB | {one.utterance_slots} | {one.summary_slots} |"
        )
    return "\n".join(lines)
