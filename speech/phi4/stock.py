"""transformers' own Phi-4-Multimodal, with the speech adapter on: what the engine is compared with, one clip at a time.

Its batched audio is encoded wrongly (padding is attended to), so answers are compared for single clips; for its speed it
is asked in batches, as its users do. Needs transformers and peft.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from speech.phi4.lora import FOLDER

__all__ = ["Stock", "StockAnswer"]

RATE = 16_000
Audio = NDArray[np.float32]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class StockAnswer:
    """Greedy tokens, the stop token included, and the logits [tokens, vocabulary] that each was chosen from."""

    tokens: list[int]
    logits: Tensor


class Stock:
    """The model of a checkpoint's folder, scaled-dot-product attention, the adapter unmerged."""

    def __init__(self, folder: Path, *, device: str, dtype: torch.dtype) -> None:
        from transformers import Phi4MultimodalFeatureExtractor, Phi4MultimodalForCausalLM
        from transformers.utils import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
        self.device = device
        self.dtype = dtype
        self.model: Any = Phi4MultimodalForCausalLM.from_pretrained(folder, dtype=dtype, attn_implementation="sdpa")
        self.model.load_adapter(str(folder / FOLDER))
        self.model.to(device).eval()
        self._extract = Phi4MultimodalFeatureExtractor.from_pretrained(folder)
        self._audio_token = int(self.model.config.audio_config.audio_token_id)
        self._pad = int(self.model.config.pad_token_id or 0)

    def answer(self, audio: Audio, before: Sequence[int], after: Sequence[int], max_new_tokens: int) -> StockAnswer:
        """The answer for one clip at 16 kHz between two parts of a prompt."""
        made = self._generate([audio], before, after, max_new_tokens, return_dict_in_generate=True, output_logits=True)
        tokens = made.sequences[0, -len(made.logits) :].tolist()
        return StockAnswer(tokens=tokens, logits=torch.cat(made.logits).float().cpu())

    def batch(
        self, clips: Sequence[Audio], before: Sequence[int], after: Sequence[int], new_tokens: int
    ) -> list[list[int]]:
        """Exactly `new_tokens` tokens for each clip, left-padded as one batch; for timing."""
        made = self._generate(clips, before, after, new_tokens, min_new_tokens=new_tokens)
        answers: list[list[int]] = made[:, -new_tokens:].tolist()
        return answers

    def _generate(
        self, clips: Sequence[Audio], before: Sequence[int], after: Sequence[int], new_tokens: int, **more: Any
    ) -> Any:
        features = dict(self._extract(list(clips), sampling_rate=RATE, return_tensors="pt"))
        prompts = [
            [*before, *[self._audio_token] * int(size), *after] for size in features["audio_embed_sizes"].tolist()
        ]
        longest = max(map(len, prompts))
        ids = torch.tensor([[self._pad] * (longest - len(prompt)) + prompt for prompt in prompts])
        mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
        features["audio_input_features"] = features["audio_input_features"].to(self.dtype)
        with torch.inference_mode():
            return self.model.generate(
                input_ids=ids.to(self.device), attention_mask=mask.to(self.device), do_sample=False,
                max_new_tokens=new_tokens, pad_token_id=self._pad,
                **{name: value.to(self.device) for name, value in features.items()}, **more,
            )  # fmt: skip
