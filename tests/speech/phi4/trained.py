"""A tiny checkpoint that really transcribes: trained on the spot, deterministic, in well under a minute of one core.

First the decoder alone learns some sentences as text, and is frozen. Then nothing but the speech LoRA and the speech
projector is trained, on a handful of other sentences with their recordings from the sample calls (8 kHz). The audio
encoder stays as it was drawn. transformers and PEFT train and write it; the engine only reads the result.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import Phi4MultimodalForCausalLM

from speech.phi4.audio import Clip
from speech.phi4.mel import log_mel
from speech.phi4.tiny import TARGET, make_tiny, special_id
from tests.speech.calls import sample_calls

__all__ = ["SILENCE", "Spoken", "instruction", "spoken_sentences", "train"]

RANK = 16
SILENCE = 1.5  # seconds; nothing is said in it, and nothing is to be written
_IGNORE = -100  # transformers' label for "no loss here"
_CPU = torch.device("cpu")


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Spoken:
    """A recording and what is said in it."""

    clip: Clip
    text: str


def spoken_sentences(most: int) -> tuple[list[Spoken], list[str]]:
    """The `most` shortest sentences with their recordings, and the next thirty as text."""
    found: dict[str, Spoken] = {}
    for call in sample_calls():
        for utterance in call.utterances:
            first, last = (int(utterance[key]) * call.rate // 1000 for key in ("start_ms", "end_ms"))
            samples = call.samples[first:last, utterance["channel"]].astype(np.float32) / 32768
            found.setdefault(
                utterance["text"], Spoken(clip=Clip(samples=samples, rate=call.rate), text=utterance["text"])
            )
    ordered = sorted(found.values(), key=lambda spoken: (len(spoken.text), spoken.text))
    return ordered[:most], [spoken.text for spoken in ordered[most : most + 30]]


def instruction(tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Token ids before and after the audio."""
    text = tokenizer.encode("Transcribe the audio clip into text.", add_special_tokens=False).ids
    return [special_id("<|user|>")], [*text, special_id("<|end|>"), special_id("<|assistant|>")]


def train(folder: Path, sentences: Sequence[Spoken], texts: Sequence[str]) -> Iterator[tuple[str, Path]]:
    """Yields ("base", folder before speech, adapter still random) and ("speech", folder after)."""
    base, speech = make_tiny(folder / "base", rank=RANK, alpha=2 * RANK), folder / "speech"
    torch.manual_seed(0)
    model = Phi4MultimodalForCausalLM.from_pretrained(base, attn_implementation="sdpa")
    tokenizer = Tokenizer.from_file(str(base / "tokenizer.json"))
    before, after = instruction(tokenizer)
    end = special_id("<|end|>")

    decoder = [p for name, p in model.named_parameters() if "embed_tokens_extend" not in name]
    with torch.no_grad():
        for parameter in decoder:
            if parameter.ndim > 1:
                parameter.normal_(0.0, 0.08)
    embed = model.get_input_embeddings()
    written = [[*tokenizer.encode(text).ids, end] for text in texts]

    def prompts() -> list[Tensor]:
        return [embed(torch.tensor([*before, *after]))] * len(written)

    _fit(model, decoder, prompts, written, steps=120, enough=0.2, rate=5e-3)
    model.save_pretrained(base)
    yield "base", base

    model.requires_grad_(False)
    clips = [*sentences, Spoken(clip=Clip(samples=np.zeros(round(SILENCE * 8000), np.float32), rate=8000), text="")]
    audio = model.model.embed_tokens_extend.audio_embed
    with torch.no_grad():
        encoded = [audio.encoder(mel[None], None)[0] for mel in log_mel([s.clip for s in clips], device=_CPU)]
    model.add_adapter(LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGET, lora_dropout=0.0))
    projector = [audio.up_proj_for_speech, audio.down_proj_for_speech]
    for module in projector:
        module.requires_grad_(True)

    def spoken() -> list[Tensor]:
        start, rest = embed(torch.tensor(before)), embed(torch.tensor(after))
        return [torch.cat([start, projector[1](torch.nn.functional.gelu(projector[0](x))), rest]) for x in encoded]

    answers = [[*tokenizer.encode(s.text).ids, end] for s in clips]
    _fit(model, [p for p in model.parameters() if p.requires_grad], spoken, answers, steps=600, enough=0.03, rate=4e-3)
    shutil.copytree(base, speech)
    adapter: dict[str, Any] = get_peft_model_state_dict(model)
    save_file(
        {f"base_model.model.{name}": tensor.contiguous() for name, tensor in adapter.items()},
        speech / "speech-lora" / "adapter_model.safetensors",
        metadata={"format": "pt"},
    )
    _replace_projector(speech, model)
    yield "speech", speech


def _fit(
    model: Any,
    parameters: Sequence[Any],
    prompts: Any,
    answers: Sequence[list[int]],
    *,
    steps: int,
    enough: float,
    rate: float,
) -> float:
    """Adam until the loss per token is `enough`; returns the last loss."""
    optimizer = torch.optim.Adam(parameters, lr=rate)
    embed, loss = model.get_input_embeddings(), torch.tensor(0.0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / 10)
        rows = [torch.cat([p, embed(torch.tensor(a))]) for p, a in zip(prompts(), answers, strict=True)]
        labels = torch.full((len(rows), max(map(len, rows))), _IGNORE)
        for i, (row, answer) in enumerate(zip(rows, answers, strict=True)):
            labels[i, len(row) - len(answer) : len(row)] = torch.tensor(answer)
        # Padding lies behind each row: a causal model never sees it.
        loss = model(
            inputs_embeds=torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), labels=labels, use_cache=False
        ).loss
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if float(loss.detach()) < enough:
            break
    return float(loss.detach())


def _replace_projector(folder: Path, model: Any) -> None:
    """Writes the trained projector into the checkpoint's base file, which holds it in the real layout too."""
    path, prefix = folder / "model.safetensors", "model.embed_tokens_extend.audio_embed."
    weights = load_file(path)
    for name, tensor in model.model.embed_tokens_extend.audio_embed.named_parameters():
        if "_proj_for_speech" in name:
            weights[prefix + name] = tensor.detach().contiguous()
    save_file(weights, path, metadata={"format": "pt"})
