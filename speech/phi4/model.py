"""Phi-4-Multimodal's speech path behind one class: clips to embeddings, embeddings to logits, over a slotted cache.

    model = Phi4Model.load(folder, device="cpu", dtype=torch.float32)
    cache = model.new_cache(slots=4, slot_tokens=512)
    audio = model.encode([Clip(samples=samples, rate=16_000)])[0]
    logits = model.prefill(cache, [PrefillRow(slot=0, start=0, embeds=..., mode=Mode.SPEECH, long_rope=False)])
    logits = model.decode(cache, Mode.SPEECH, ids, slots, lengths, long)  # tensors on the device, a row a sequence

`decode_rows` does the same from the host's values, for tests and measurements. The model keeps no state but weights: slots,
lengths and stopping are the caller's. Not for concurrent use on one cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.phi4.attention import Rows
from speech.phi4.audio import (
    Clip,
    FrontEnd,
    Narrowband,
    audio_frames,
    audio_tokens,
    block_frames,
    check_clip,
    front_end,
)
from speech.phi4.cache import Cache
from speech.phi4.config import Phi4Config
from speech.phi4.decoder import Decoder
from speech.phi4.encoder import Encoder
from speech.phi4.loading import Checked, check_checkpoint, load_parts
from speech.phi4.lora import LoraMode
from speech.phi4.mel import log_mel
from speech.phi4.modes import Mode, UnsupportedMode, check_mode
from speech.phi4.projector import Projector

__all__ = [
    "Cache",
    "Clip",
    "DecodeRow",
    "FrontEnd",
    "LoraMode",
    "Mode",
    "Narrowband",
    "Phi4Model",
    "PrefillRow",
    "UnsupportedMode",
    "audio_tokens",
    "check_clip",
]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PrefillRow:
    """Some tokens of one prompt: `embeds` [n, hidden] go to positions `start`... of `slot`; start > 0 continues it."""

    slot: int
    start: int
    embeds: Tensor
    mode: Mode
    long_rope: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRow:
    """One sequence's next step: `token` goes to position `length`, which is how many tokens `slot` holds already."""

    slot: int
    length: int
    token: int
    mode: Mode
    long_rope: bool


Row = TypeVar("Row", PrefillRow, DecodeRow)


class Phi4Model:
    """See the module. Attributes: `config`, `device`, `dtype`, `lora`, `narrowband`."""

    def __init__(
        self,
        config: Phi4Config,
        encoder: Encoder,
        projector: Projector,
        decoder: Decoder,
        *,
        device: torch.device,
        dtype: torch.dtype,
        lora: LoraMode,
        narrowband: Narrowband,
    ) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        self.lora = lora
        self.narrowband = narrowband
        self._encoder = encoder
        self._projector = projector
        self._decoder = decoder

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        lora: LoraMode = "merged",
        narrowband: Narrowband = Narrowband.FILLZERO,
        stock_padding: bool = False,
        tile_frames: int = 4096,
    ) -> Phi4Model:
        """Loads a checkpoint in the native layout from a local folder; raises CheckpointError with what to do.

        lora: "merged" keeps a second copy of the decoder's linear layers; "unmerged" computes the adapter at every
        call and takes less memory; "off" leaves SPEECH without it. stock_padding: attend to the zeros of a clip's
        last block over 40 s, as transformers does. tile_frames: the subsampler's tiles, a multiple of 8.
        """
        return cls.build(
            check_checkpoint(Path(folder), lora=lora), device=device, dtype=dtype, lora=lora, narrowband=narrowband,
            stock_padding=stock_padding, tile_frames=tile_frames,
        )  # fmt: skip

    @classmethod
    def build(
        cls,
        checked: Checked,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
        lora: LoraMode = "merged",
        narrowband: Narrowband = Narrowband.FILLZERO,
        stock_padding: bool = False,
        tile_frames: int = 4096,
    ) -> Phi4Model:
        """`load` from a checkpoint that was checked before, or from weights that come from elsewhere (`synthetic`).

        Raises ValueError where the adapter is wanted and was not opened.
        """
        if lora != "off" and checked.adapter is None:
            raise ValueError(f"lora is {lora}, but the checkpoint was checked without its adapter")
        place = torch.device(device)
        with torch.inference_mode():
            parts = load_parts(
                checked, device=place, dtype=dtype, lora=lora, stock_padding=stock_padding, tile_frames=tile_frames
            )
        return cls(
            parts.config, parts.encoder, parts.projector, parts.decoder,
            device=place, dtype=dtype, lora=lora, narrowband=narrowband,
        )  # fmt: skip

    def audio_tokens(self, clip: Clip) -> int:
        """Audio tokens that `clip` takes in a prompt; raises InvalidRequest if it is too short or of a strange rate."""
        return audio_tokens(len(clip.samples), clip.rate, self.narrowband)

    def front_end(self, clip: Clip) -> FrontEnd:
        """Which way `clip` goes into features."""
        return front_end(clip.rate, self.narrowband)

    def encode(
        self, clips: Sequence[Clip], mode: Mode = Mode.SPEECH, *, blocks: Sequence[range] | None = None
    ) -> list[Tensor]:
        """Each clip's embeddings [audio tokens, hidden], computed as for the clip alone, whatever shares the call.

        Any number of clips of any length. Raises InvalidRequest for a clip that `check_clip` refuses. `blocks`: these
        blocks of each clip alone, of clips that were checked before; what they give is part of what the whole clip gives.
        """
        if check_mode(mode) is not Mode.SPEECH:
            raise UnsupportedMode("audio is encoded for speech only")
        frames: list[range] | None = None
        if blocks is None:
            for clip in clips:
                check_clip(clip)
        else:
            totals = [audio_frames(len(clip.samples), clip.rate, self.narrowband) for clip in clips]
            frames = [block_frames(part, total) for part, total in zip(blocks, totals, strict=True)]
        if not clips:
            return []
        with torch.inference_mode():
            features = log_mel(clips, device=self.device, narrowband=self.narrowband, frames=frames)
            encoded = self._encoder(features, [bool(part.start) for part in frames or [range(1)] * len(clips)])
            projected = self._projector(torch.cat(encoded))
        return list(projected.split([len(tokens) for tokens in encoded]))

    def new_cache(self, *, slots: int | None = None, slot_tokens: int | Sequence[int]) -> Cache:
        """A KV cache of `slots` slots of `slot_tokens` tokens each; or, with a sequence, one slot of each size in it."""
        if isinstance(slot_tokens, int):
            sizes = [slot_tokens] * (1 if slots is None else slots)
        else:
            sizes = list(slot_tokens)
        return Cache(
            sizes,
            layers=self.config.layers,
            kv_heads=self.config.kv_heads,
            head_dim=self.config.head_dim,
            device=self.device,
            dtype=self.dtype,
        )

    def embed(self, ids: Sequence[int] | Tensor) -> Tensor:
        """Token ids [n] to embeddings [n, hidden]."""
        with torch.inference_mode():
            return self._decoder.embed(torch.as_tensor(ids, dtype=torch.int64, device=self.device))

    def prefill(self, cache: Cache, rows: Sequence[PrefillRow]) -> Tensor:
        """Runs prompts, or parts of them, packed without padding; logits [rows, vocabulary] of each row's last token.

        Rows of both modes may be mixed, each slot at most once. Raises IndexError where a row does not fit its slot,
        ValueError for an empty row or a short sequence beyond the short factors' positions.
        """
        for row in rows:
            self._check(cache, row.slot, row.start + len(row.embeds), row.mode, row.long_rope)
            if len(row.embeds) < 1:
                raise ValueError("a prefill row needs at least one token")
        with torch.inference_mode():
            return self._by_mode(rows, lambda mode, chosen: self._prefill(cache, mode, chosen))

    def decode(self, cache: Cache, mode: Mode, ids: Tensor, slots: Tensor, lengths: Tensor, long: Tensor) -> Tensor:
        """One step of sequences of one mode; logits [rows, vocabulary].

        All on the model's device: `ids`, `slots`, `lengths` int64 [rows], `long` bool [rows]. On CUDA nothing here
        waits for the host or depends on values, so that a step can be captured in a graph; that a token fits its
        slot is therefore the caller's to see (`lengths` < slot size, and < 4,096 where not long).
        """
        with torch.inference_mode():
            starts = cache.starts[slots]
            rows = Rows(
                query_starts=torch.arange(len(ids) + 1, device=self.device, dtype=torch.int32),
                key_starts=torch.nn.functional.pad(starts, (0, 1)).to(torch.int32),
                key_lengths=(lengths + 1).to(torch.int32),
                most_queries=1,
                most_keys=cache.longest,
            )
            x = self._decoder.embed(ids)
            x = self._decoder(x, mode, cache, positions=lengths, long=long, places=starts + lengths, rows=rows)
            return self._decoder.logits(x)

    def decode_rows(self, cache: Cache, rows: Sequence[DecodeRow]) -> Tensor:
        """`decode` from the host's values and with both modes mixed; logits [rows, vocabulary]. Raises as `prefill`."""
        for row in rows:
            self._check(cache, row.slot, row.length + 1, row.mode, row.long_rope)

        def step(mode: Mode, chosen: Sequence[DecodeRow]) -> Tensor:
            values = torch.tensor([[row.token, row.slot, row.length, row.long_rope] for row in chosen])
            ids, slots, lengths, long = values.to(self.device).unbind(1)
            return self.decode(cache, mode, ids, slots, lengths, long.bool())

        with torch.inference_mode():
            return self._by_mode(rows, step)

    def _by_mode(self, rows: Sequence[Row], run: Callable[[Mode, Sequence[Row]], Tensor]) -> Tensor:
        """Runs the rows of each mode together; logits [rows, vocabulary] in the rows' order."""
        members = {mode: [i for i, row in enumerate(rows) if row.mode is mode] for mode in (Mode.LANGUAGE, Mode.SPEECH)}
        made = {mode: run(mode, [rows[i] for i in chosen]) for mode, chosen in members.items() if chosen}
        if len(made) == 1:
            return next(iter(made.values()))
        logits = torch.empty(len(rows), self.config.vocab, device=self.device, dtype=self.dtype)
        for mode, part in made.items():
            logits[members[mode]] = part
        return logits

    def _prefill(self, cache: Cache, mode: Mode, rows: Sequence[PrefillRow]) -> Tensor:
        counts = np.array([len(row.embeds) for row in rows])
        starts = np.array([row.start for row in rows])
        firsts = np.array([cache.first_tokens[row.slot] for row in rows])
        lasts = counts.cumsum()
        positions = np.arange(lasts[-1]) + np.repeat(starts - lasts + counts, counts)
        packed = Rows(
            query_starts=self._int32(np.append(0, lasts)),
            key_starts=self._int32(np.append(firsts, 0)),
            key_lengths=self._int32(starts + counts),
            most_queries=int(counts.max()),
            most_keys=int((starts + counts).max()),
        )
        x = self._decoder(
            torch.cat([row.embeds for row in rows]).to(self.dtype),
            mode,
            cache,
            positions=torch.tensor(positions).to(self.device),
            long=torch.tensor(np.repeat([row.long_rope for row in rows], counts)).to(self.device),
            places=torch.tensor(positions + np.repeat(firsts, counts)).to(self.device),
            rows=packed,
        )
        return self._decoder.logits(x[torch.tensor(lasts - 1).to(self.device)])

    def _int32(self, values: NDArray[np.int64]) -> Tensor:
        return torch.tensor(values.astype(np.int32)).to(self.device)

    def _check(self, cache: Cache, slot: int, end: int, mode: Mode, long: bool) -> None:
        check_mode(mode)
        if not 0 <= slot < len(cache.sizes) or end > cache.sizes[slot]:
            raise IndexError(f"{end} tokens do not fit slot {slot} of {len(cache.sizes)}")
        if not long and end > self.config.rope.original_positions:
            raise ValueError(
                f"{end} tokens with the short RoPE factors, which end at {self.config.rope.original_positions}"
            )
