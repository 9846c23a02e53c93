"""The reference: transformers' own model and PEFT's own adapter, one clip at a time, and the engine driven likewise."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from transformers import Phi4MultimodalFeatureExtractor, Phi4MultimodalForCausalLM
from transformers.utils import logging

from speech.phi4.model import Clip, DecodeRow, Mode, Phi4Model, PrefillRow
from speech.phi4.tiny import special_id

__all__ = ["Answer", "Reference", "Request", "answer", "masked_last_block", "noise"]

logging.set_verbosity_error()
logging.disable_progress_bar()
RATE = 16_000


def noise(seconds: float, seed: int) -> NDArray[np.float32]:
    """Tones that come and go over noise: no two stretches are alike, so that no frame may be mixed up unseen."""
    rng = np.random.default_rng(seed)
    count = round(seconds * RATE)
    time = np.arange(count) / RATE
    tones = sum(
        np.sin(2 * np.pi * f * time + p) for f, p in zip(rng.uniform(100, 6000, 4), rng.uniform(0, 6, 4), strict=True)
    )
    loudness = 0.05 + 0.2 * np.abs(np.sin(2 * np.pi * rng.uniform(0.3, 3) * time))
    samples: NDArray[np.float32] = ((tones + rng.standard_normal(count)) * loudness * 0.2).astype(np.float32)
    return samples


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """Token ids before and after the audio; without audio the mode is LANGUAGE."""

    before: tuple[int, ...] = (special_id("<|user|>"),)
    after: tuple[int, ...] = (72, 101, 108, special_id("<|end|>"), special_id("<|assistant|>"))
    samples: NDArray[np.float32] | None = None
    rate: int = RATE

    @property
    def mode(self) -> Mode:
        return Mode.LANGUAGE if self.samples is None else Mode.SPEECH


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Answer:
    """Greedy tokens, and the logits [tokens, vocabulary] that each was chosen from."""

    tokens: list[int]
    logits: Tensor


class Reference:
    """transformers with its scaled-dot-product attention; the adapter is PEFT's, on for audio and off for text."""

    def __init__(self, folder: Path, dtype: torch.dtype, *, adapter: bool = True) -> None:
        self.model: Any = Phi4MultimodalForCausalLM.from_pretrained(
            folder, dtype=dtype, attn_implementation="sdpa"
        ).eval()
        self.dtype = dtype
        self._extract = Phi4MultimodalFeatureExtractor.from_pretrained(folder)
        self._adapter = adapter
        if adapter:
            self.model.load_adapter(str(folder / "speech-lora"))

    @property
    def audio(self) -> Any:
        """The encoder with its projectors."""
        return self.model.model.embed_tokens_extend.audio_embed

    def features(self, clips: Sequence[NDArray[np.float32]]) -> dict[str, Tensor]:
        """What the stock feature extractor makes of clips at 16 kHz, padded to the longest."""
        return dict(self._extract(list(clips), sampling_rate=RATE, return_tensors="pt"))

    def encode(self, clips: Sequence[NDArray[np.float32]]) -> list[Tensor]:
        """The stock encoder and speech projector over the clips as one batch; one clip is right, several are not."""
        made = self.features(clips)
        with torch.no_grad():
            x = self.audio.encoder(made["audio_input_features"].to(self.dtype), made.get("audio_attention_mask"))
            x = self.audio.down_proj_for_speech(torch.nn.functional.gelu(self.audio.up_proj_for_speech(x)))
        return [row[:size] for row, size in zip(x, made["audio_embed_sizes"].tolist(), strict=True)]

    def answer(self, request: Request, tokens: int) -> Answer:
        """transformers' generate, greedy."""
        inputs: dict[str, Any] = {}
        audio: list[int] = []
        if request.samples is not None:
            inputs = self.features([request.samples])
            audio = [special_id("<|audio|>")] * int(inputs["audio_embed_sizes"][0])
        if self._adapter:
            self.model.set_adapter("default") if request.samples is not None else None
            (self.model.enable_adapters if request.samples is not None else self.model.disable_adapters)()
        ids = torch.tensor([[*request.before, *audio, *request.after]])
        with torch.no_grad():
            out = self.model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, do_sample=False,
                return_dict_in_generate=True, output_logits=True, **inputs,
            )  # fmt: skip
        return Answer(tokens=out.sequences[0, ids.shape[1] :].tolist(), logits=torch.cat(out.logits))


def answer(model: Phi4Model, requests: Sequence[Request], tokens: int, *, chunk: int = 10**9) -> list[Answer]:
    """All requests as one batch through the model: packed prefill (in chunks), then steps until each has stopped."""
    cache = model.new_cache(slot_tokens=[_prompt_tokens(model, r) + tokens for r in requests])
    audio = iter(model.encode([Clip(samples=r.samples, rate=r.rate) for r in requests if r.samples is not None]))
    prompts = []
    for request in requests:
        middle = [] if request.samples is None else [next(audio)]
        prompts.append(torch.cat([model.embed(request.before), *middle, model.embed(request.after)]))
    last: list[Tensor] = [torch.empty(0)] * len(requests)
    for start in range(0, max(len(p) for p in prompts), chunk):
        members = [i for i, p in enumerate(prompts) if len(p) > start]
        rows = [
            PrefillRow(
                slot=i, start=start, embeds=prompts[i][start : start + chunk], mode=requests[i].mode, long_rope=False
            )
            for i in members
        ]
        for i, logits in zip(members, model.prefill(cache, rows), strict=True):
            last[i] = logits
    chosen: list[list[int]] = [[] for _ in requests]
    seen: list[list[Tensor]] = [[] for _ in requests]
    running = list(range(len(requests)))
    while running:
        for i in running:
            seen[i].append(last[i])
            chosen[i].append(int(last[i].argmax()))
        running = [i for i in running if len(chosen[i]) < tokens and chosen[i][-1] not in model.config.eos_ids]
        step = [
            DecodeRow(
                slot=i, length=len(prompts[i]) + len(chosen[i]) - 1, token=chosen[i][-1], mode=requests[i].mode, long_rope=False
            )
            for i in running
        ]  # fmt: skip
        for i, logits in zip(running, model.decode_rows(cache, step) if step else [], strict=True):
            last[i] = logits
    return [Answer(tokens=t, logits=torch.stack(s)) for t, s in zip(chosen, seen, strict=True)]


def masked_last_block(reference: Reference, samples: NDArray[np.float32]) -> Tensor:
    """The stock encoder on one clip over 40 s, the zeros that fill its last block masked as keys."""
    encoder = reference.audio.encoder
    frames = reference.features([samples])["audio_input_features"].shape[1]
    tokens = -(-frames // 8)

    def mask(hidden: Tensor, device: torch.device, _: object) -> Tensor:
        blocks, width, _width = hidden.shape
        keys = torch.arange(blocks * width, device=device).view(blocks, 1, width).expand(blocks, width, width)
        return torch.zeros(keys.shape, dtype=hidden.dtype).masked_fill(keys >= tokens, -torch.inf)

    stock = encoder.calculate_hs_mask
    encoder.calculate_hs_mask = mask
    try:
        return reference.encode([samples])[0]
    finally:
        encoder.calculate_hs_mask = stock


def _prompt_tokens(model: Phi4Model, request: Request) -> int:
    audio = 0 if request.samples is None else model.audio_tokens(Clip(samples=request.samples, rate=request.rate))
    return len(request.before) + audio + len(request.after)
