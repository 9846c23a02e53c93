"""Parity with transformers, one clip at a time, in float64 and float32. Each name says what it proves.

The stock batch path of transformers runs through the same assertion and fails it: that is the mutant which shows that
the test can see the error this engine exists to avoid.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from bench.phi4_bf16 import compare  # noqa: E402
from speech.phi4.model import Phi4Model  # noqa: E402
from speech.phi4.tiny import make_tiny  # noqa: E402
from tests.speech.phi4.reference import Answer, Reference, Request, answer, noise  # noqa: E402

TOKENS = 12
#: Mixed lengths from the shortest that is accepted to the longest that ASR takes whole.
SECONDS = (0.05, 40.0, 0.3, 12.5, 1.0, 30.0, 2.2, 5.0, 0.08, 8.0, 20.0, 3.3, 0.6, 15.0, 1.7, 39.99,
           4.4, 0.9, 6.1, 2.9, 10.0, 0.15, 7.7, 1.2, 3.8, 25.0, 0.45, 5.6, 1.9, 9.3, 0.7, 2.5)  # fmt: skip
SIZES = (1, 2, 5, 8, 16, 32)


def requests(count: int) -> list[Request]:
    """Clips of mixed lengths; every fifth request is text, in LANGUAGE mode."""
    made = []
    for i in range(count):
        samples = None if i % 5 == 4 else noise(SECONDS[i], seed=i)
        made.append(Request(samples=samples, after=(*b"ab"[: 1 + i % 2], 40 + i, *Request().after[-2:])))
    return made


def assert_same(got: Answer, wanted: Answer, *, logits: float, tie: float) -> bool:
    """Tokens equal up to a tie of the reference's two best; logits equal, relative to their scale, as far as tokens are.

    Returns whether a tie was taken.
    """
    for step, (mine, theirs) in enumerate(zip(got.tokens, wanted.tokens, strict=False)):
        scale = float(wanted.logits[step].abs().max())
        difference = float((got.logits[step] - wanted.logits[step]).abs().max())
        assert difference <= logits * scale, f"step {step}: logits differ by {difference} on a scale of {scale}"
        if mine != theirs:
            best = wanted.logits[step].topk(2).values
            assert float(best[0] - best[1]) < tie, f"step {step}: token {mine} instead of {theirs}, and no tie"
            return True
    assert len(got.tokens) == len(wanted.tokens)
    return False


@pytest.fixture(name="wanted", scope="module")
def _wanted(references: Any) -> Any:
    """The reference's answers by dtype, one request at a time."""
    made = {
        dtype: [references(dtype).answer(r, TOKENS) for r in requests(32)] for dtype in (torch.float64, torch.float32)
    }
    return made


def test_the_reference_answers_depend_on_the_audio(wanted: Any) -> None:
    """Otherwise nothing below proves anything: with transformers' default weights every answer is the same."""
    spoken = [tuple(a.tokens) for i, a in enumerate(wanted[torch.float64]) if i % 5 != 4]
    assert len(set(spoken)) > len(spoken) * 3 // 4
    assert len({token for tokens in spoken for token in tokens}) > 40


@pytest.mark.parametrize("count", SIZES)
def test_float64_batches_of_mixed_clips_and_modes_give_the_tokens_of_each_alone(
    models: Any, wanted: Any, count: int
) -> None:
    got = answer(models(dtype=torch.float64), requests(count), TOKENS)
    for mine, theirs in zip(got, wanted[torch.float64], strict=False):
        assert mine.tokens == theirs.tokens
        assert_same(mine, theirs, logits=1e-5, tie=0.0)


@pytest.mark.parametrize("lora", ["merged", "unmerged"])
def test_float32_batches_are_identical_but_for_ties(models: Any, wanted: Any, lora: str) -> None:
    ties = sequences = 0
    for count in SIZES:
        got = answer(models(dtype=torch.float32, lora=lora), requests(count), TOKENS)
        for mine, theirs in zip(got, wanted[torch.float32], strict=False):
            ties += assert_same(mine, theirs, logits=1e-4, tie=1e-3)
            sequences += 1
    assert ties <= sequences * 0.005


def test_float64_merged_and_unmerged_give_the_same_tokens(models: Any, wanted: Any) -> None:
    got = answer(models(dtype=torch.float64, lora="unmerged"), requests(16), TOKENS)
    for mine, theirs in zip(got, wanted[torch.float64], strict=False):
        assert mine.tokens == theirs.tokens


def test_prompts_in_chunks_give_the_tokens_of_prompts_in_one_piece(models: Any, wanted: Any) -> None:
    for chunk in (7, 64):
        got = answer(models(dtype=torch.float64), requests(8), TOKENS, chunk=chunk)
        assert [a.tokens for a in got] == [a.tokens for a in wanted[torch.float64][:8]]


def test_mutant_the_stock_batch_path_fails_the_same_assertion(references: Any, wanted: Any) -> None:
    """transformers' encoder, given the same clips as one batch: padding is attended and leaks through convolutions."""
    reference, dtype = references(torch.float64), torch.float64
    spoken = [i for i, request in enumerate(requests(8)) if request.samples is not None]
    batch = [requests(8)[i] for i in spoken]
    encoded = reference.encode([r.samples for r in batch])
    alone = [reference.encode([r.samples])[0] for r in batch]
    moved = [float((a - b).abs().max() / b.abs().max()) for a, b in zip(encoded, alone, strict=True)]
    longest = int(np.argmax([len(r.samples) for r in batch]))
    assert moved[longest] < 1e-5  # not padded: unharmed
    assert min(m for i, m in enumerate(moved) if i != longest) > 0.01  # all others are
    broken = 0
    reference.model.enable_adapters()
    for i, row, request in zip(spoken, encoded, batch, strict=True):
        embeds = reference.model.get_input_embeddings()
        prompt = torch.cat([embeds(torch.tensor(request.before)), row, embeds(torch.tensor(request.after))])[None]
        with torch.no_grad():
            out = reference.model.generate(
                inputs_embeds=prompt, attention_mask=torch.ones(prompt.shape[:2], dtype=torch.int64),
                max_new_tokens=TOKENS, do_sample=False, return_dict_in_generate=True, output_logits=True,
            )  # fmt: skip
        stock = Answer(tokens=out.sequences[0].tolist(), logits=torch.cat(out.logits))
        try:
            assert_same(stock, wanted[dtype][i], logits=1e-4, tie=1e-3)
        except AssertionError:
            broken += 1
    assert broken >= len(batch) - 2


def test_bfloat16_is_no_further_from_float32_than_transformers_bfloat16_is(tmp_path: Path) -> None:
    """Merged and unmerged: the same choices as float32 about as often, and no larger a divergence (bench.phi4_bf16)."""
    found = compare(make_tiny(tmp_path / "bf16", dtype=torch.bfloat16), count=16, tokens=12)
    same, divergence, _ = found.pop("transformers bfloat16, PEFT")
    assert found.pop("float32 unmerged")[0] == 1.0
    assert len(found) == 2
    for name, (mine_same, mine_divergence, _) in found.items():
        assert mine_same > same - 0.05, name
        assert mine_divergence < 1.3 * divergence, name


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_published_widths_give_the_tokens_of_transformers(tmp_path: Path) -> None:
    """Every width, 24/8 heads and rank 320 as published, few layers: 0.8 GB of random weights in float32."""
    audio = {
        "hidden_size": 1024, "intermediate_size": 1536, "num_blocks": 2, "num_attention_heads": 16, "nemo_conv_channels": 1024,
        "ext_pw_out_channel": 1024, "depthwise_separable_out_channel": 1024,
    }  # fmt: skip
    folder = make_tiny(
        tmp_path / "wide", std=0.03, rank=320, alpha=640.0, hidden_size=3072, num_attention_heads=24,
        num_key_value_heads=8, intermediate_size=8192, num_hidden_layers=1, audio_config=audio,
    )  # fmt: skip
    wide = [Request(samples=noise(seconds, seed=i)) for i, seconds in enumerate((2.0, 0.4, 2.7))]
    reference = Reference(folder, torch.float32)
    right = [reference.answer(request, 8) for request in wide]
    for lora in ("merged", "unmerged"):
        got = answer(Phi4Model.load(folder, lora=lora), wide, 8)
        assert not any(assert_same(g, r, logits=1e-4, tie=1e-3) for g, r in zip(got, right, strict=True))
