"""The other side: transformers' generate with the adapter unmerged, in the largest batch up to 128 that runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from bench.phi4.roofline import synchronize
from bench.phi4.work import AFTER, BEFORE, RATE, SIZES, Clip, clips
from speech.phi4.synthetic import PUBLISHED
from speech.phi4.tiny import TARGET

__all__ = ["run"]


def run(*, size: str, device: str, most: int = 128) -> Iterator[dict[str, Any]]:
    """Figures for 30 s clips and for the mix; timed as the leaderboard does: features, generate, nothing before."""
    model, extract = _model(size, device)
    batch = most
    for mix in (False, True):
        while batch:
            wanted = sorted(clips(2 * batch, mix=mix), key=lambda clip: len(clip.audio))
            try:
                _answer(model, extract, wanted[-batch:], device)  # the longest: does it fit?
                seconds = _timed(model, extract, wanted, batch, device)
            except RuntimeError as err:  # out of memory, or a tensor of more than 2**31 values
                print(f"a batch of {batch}: {str(err).splitlines()[0]}", file=sys.stderr, flush=True)
                batch //= 2
                if device == "cuda":
                    torch.cuda.empty_cache()
                continue
            audio = sum(clip.seconds for clip in wanted)
            memory = torch.cuda.max_memory_allocated() / 1e9 if device == "cuda" else 0.0
            yield {
                "scenario": "mix" if mix else "30s", "batch": batch, "clips": len(wanted), "seconds": seconds,
                "rtfx": audio / seconds, "memory_gb": memory,
            }  # fmt: skip
            break


def _timed(model: Any, extract: Any, wanted: Sequence[Clip], batch: int, device: str) -> float:
    synchronize(device)
    begun = time.perf_counter()
    for first in range(0, len(wanted), batch):
        _answer(model, extract, wanted[first : first + batch], device)
    synchronize(device)
    return time.perf_counter() - begun


def _answer(model: Any, extract: Any, batch: Sequence[Clip], device: str) -> None:
    """One batch; it ends with its longest answer, as generate's batches do."""
    token = int(model.config.audio_config.audio_token_id)
    features = dict(extract([clip.audio for clip in batch], sampling_rate=RATE, return_tensors="pt"))
    prompts = [[*BEFORE, *[token] * int(count), *AFTER] for count in features["audio_embed_sizes"].tolist()]
    longest = max(map(len, prompts))
    ids = torch.tensor([[1] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    features["audio_input_features"] = features["audio_input_features"].to(model.dtype)
    new = max(clip.tokens for clip in batch)
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids.to(device), attention_mask=mask.to(device), do_sample=False, pad_token_id=1,
            max_new_tokens=new, min_new_tokens=new, **{name: value.to(device) for name, value in features.items()},
        )  # fmt: skip
    assert made.shape[1] == longest + new


def _model(size: str, device: str) -> tuple[Any, Any]:
    from peft import LoraConfig
    from transformers import Phi4MultimodalConfig, Phi4MultimodalFeatureExtractor, Phi4MultimodalForCausalLM
    from transformers.utils import logging

    logging.set_verbosity_error()
    overrides, rank = SIZES[size]
    keys = PUBLISHED | overrides
    if size == "tiny":  # the vision tower is made too, and never used
        keys["vision_config"] = {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
            "image_size": 28, "crop_size": 28, "image_token_id": 501,
        }  # fmt: skip
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            config = Phi4MultimodalConfig(**keys)
            config._attn_implementation = "sdpa"
            model: Any = Phi4MultimodalForCausalLM(config)
        model.add_adapter(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=TARGET, init_lora_weights=False))
    finally:
        torch.set_default_dtype(before)
    model.to(device=device, dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    return model, Phi4MultimodalFeatureExtractor()
