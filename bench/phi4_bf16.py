"""python -m bench.phi4_bf16: how far bfloat16 is from float32, merged and unmerged, beside transformers' own bfloat16.

A random checkpoint stored in bfloat16; clips of mixed length, each answered greedily in float32 first. Then every engine is
led along those answers token by token: how often it would have chosen the same token, and the divergence (KL, in nats) of its
next-token distribution from float32's. Random weights have flat distributions and many near ties: a trained model agrees
more. What counts is the comparison of the rows.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from speech.phi4.model import Clip, DecodeRow, Mode, Phi4Model, PrefillRow
from speech.phi4.tiny import make_tiny, special_id

BEFORE = (special_id("<|user|>"),)
AFTER = (*range(40, 48), special_id("<|end|>"), special_id("<|assistant|>"))


def clips(count: int, seed: int = 0) -> list[Clip]:
    """Noise whose loudness comes and goes, 0.1 to 20 s."""
    drawn = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        time = np.arange(round(16_000 * float(np.clip(drawn.lognormal(1.2, 0.9), 0.1, 20.0)))) / 16_000
        loud = 0.02 + 0.2 * np.abs(np.sin(2 * np.pi * drawn.uniform(0.3, 3) * time))
        made.append(Clip(samples=(drawn.standard_normal(len(time)) * loud).astype(np.float32)))
    return made


def led(model: Phi4Model, audio: Sequence[Clip], answers: Sequence[Sequence[int]] | None, tokens: int) -> Tensor:
    """Logits [clips, tokens, vocabulary] along `answers`, or along the model's own greedy choice."""
    prompts = [torch.cat([model.embed(BEFORE), e, model.embed(AFTER)]) for e in model.encode(audio)]
    cache = model.new_cache(slot_tokens=[len(p) + tokens for p in prompts])
    rows = [
        PrefillRow(slot=i, start=0, embeds=p, mode=Mode.SPEECH, long_rope=False) for i, p in enumerate(prompts)
    ]  # fmt: skip
    logits = [model.prefill(cache, rows)]
    for step in range(tokens - 1):
        chosen = logits[-1].argmax(-1).tolist() if answers is None else [answer[step] for answer in answers]
        logits.append(
            model.decode_rows(
                cache,
                [
                    DecodeRow(slot=i, length=len(p) + step, token=t, mode=Mode.SPEECH, long_rope=False)
                    for i, (p, t) in enumerate(zip(prompts, chosen, strict=True))
                ],
            )
        )
    return torch.stack(logits, dim=1).float()


def stock(folder: Path, audio: Sequence[Clip], answers: Sequence[Sequence[int]]) -> Tensor:
    """The same by transformers in bfloat16 with PEFT's adapter, one clip at a time."""
    from transformers import Phi4MultimodalFeatureExtractor, Phi4MultimodalForCausalLM

    model: Any = Phi4MultimodalForCausalLM.from_pretrained(
        folder, dtype=torch.bfloat16, attn_implementation="sdpa"
    ).eval()
    model.load_adapter(str(folder / "speech-lora"))
    extract = Phi4MultimodalFeatureExtractor.from_pretrained(folder)
    logits = []
    for clip, answer in zip(audio, answers, strict=True):
        features = extract([clip.samples], sampling_rate=16_000, return_tensors="pt")
        places = [special_id("<|audio|>")] * int(features["audio_embed_sizes"][0])
        ids = torch.tensor([[*BEFORE, *places, *AFTER, *answer[:-1]]])
        with torch.no_grad():
            logits.append(model(input_ids=ids, **features).logits[0, -len(answer) :])
    return torch.stack(logits).float()


def distance(logits: Tensor, wanted: Tensor) -> tuple[float, float, float]:
    """Share of equal choices, mean and largest divergence in nats."""
    same = (logits.argmax(-1) == wanted.argmax(-1)).float().mean()
    p, q = wanted.double().log_softmax(-1), logits.double().log_softmax(-1)
    divergence = (p.exp() * (p - q)).sum(-1)
    return float(same), float(divergence.mean()), float(divergence.max())


def compare(folder: Path, count: int, tokens: int) -> dict[str, tuple[float, float, float]]:
    """Distances from float32 by engine; `folder` holds a checkpoint in bfloat16."""
    audio = clips(count)
    wanted = led(Phi4Model.load(folder), audio, None, tokens)
    answers = wanted.argmax(-1).tolist()
    found = {"float32 unmerged": distance(led(Phi4Model.load(folder, lora="unmerged"), audio, answers, tokens), wanted)}
    for lora in ("merged", "unmerged"):
        model = Phi4Model.load(folder, dtype=torch.bfloat16, lora=lora)
        found[f"bfloat16 {lora}"] = distance(led(model, audio, answers, tokens), wanted)
    found["transformers bfloat16, PEFT"] = distance(stock(folder, audio, answers), wanted)
    return found


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=32)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--weights", type=Path, help="a checkpoint instead of a random one of 120 k parameters")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.weights or make_tiny(Path(temporary) / "tiny", dtype=torch.bfloat16)
        print(f"{arguments.clips} clips, {arguments.tokens} tokens each, against float32 merged")
        print(f"{'':28} {'same choice':>12} {'KL mean':>10} {'KL largest':>11}")
        for name, (same, mean, largest) in compare(folder, arguments.clips, arguments.tokens).items():
            print(f"{name:28} {same:12.2%} {mean:10.2e} {largest:11.2e}")


if __name__ == "__main__":
    main()
