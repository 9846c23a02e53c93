"""The decoder over the slotted cache: packing, chunks, slots, modes, and RoPE factors that stay with their sequence."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from speech.phi4 import attention  # noqa: E402
from speech.phi4.model import DecodeRow, Mode, PrefillRow  # noqa: E402
from speech.phi4.rope import rotate  # noqa: E402

ORIGINAL = 4096
VOCABULARY = 312  # without the special tokens


def ids(count: int, seed: int) -> list[int]:
    """Random tokens."""
    return np.random.default_rng(seed).integers(0, VOCABULARY, count).tolist()


def row(
    model: Any, slot: int, tokens: list[int], *, start: int = 0, mode: Mode = Mode.SPEECH, long: bool = False
) -> PrefillRow:
    """A prompt, or a part of one."""
    return PrefillRow(slot=slot, start=start, embeds=model.embed(tokens), mode=mode, long_rope=long)


def step(
    model: Any, cache: Any, slot: int, length: int, token: int, *, mode: Mode = Mode.SPEECH, long: bool = False
) -> Any:
    """One step of one sequence: logits [vocabulary]."""
    return model.decode_rows(cache, [DecodeRow(slot=slot, length=length, token=token, mode=mode, long_rope=long)])[0]


def close(got: Any, wanted: Any, tolerance: float = 1e-10) -> bool:
    """Whether logits agree relative to their scale."""
    return float((got - wanted).abs().max()) <= tolerance * float(wanted.abs().max())


def full(reference: Any, tokens: list[int], *, speech: bool) -> Any:
    """transformers without a cache: logits [tokens, vocabulary], RoPE factors by the whole length."""
    (reference.model.enable_adapters if speech else reference.model.disable_adapters)()
    with torch.no_grad():
        return reference.model(torch.tensor([tokens])).logits[0]


@pytest.mark.parametrize("mode", [Mode.LANGUAGE, Mode.SPEECH])
def test_packed_prompts_and_steps_equal_a_full_recompute(models: Any, references: Any, mode: Mode) -> None:
    model, reference = models(dtype=torch.float64), references(torch.float64)
    sequences = [ids(n, seed=n) for n in (1, 3, 40, 7, 100)]
    cache = model.new_cache(slots=5, slot_tokens=110)
    got = model.prefill(cache, [row(model, i, tokens, mode=mode) for i, tokens in enumerate(sequences)])
    for more in range(8):
        for logits, tokens in zip(got, sequences, strict=True):
            assert close(logits, full(reference, tokens, speech=mode is Mode.SPEECH)[-1])
        following = ids(5, seed=1000 + more)
        rows = [
            DecodeRow(slot=i, length=len(s), token=t, mode=mode, long_rope=False)
            for i, (s, t) in enumerate(zip(sequences, following, strict=True))
        ]
        got = model.decode_rows(cache, rows)
        sequences = [[*s, t] for s, t in zip(sequences, following, strict=True)]


def test_modes_mixed_in_one_call_equal_each_mode_alone(models: Any) -> None:
    model = models(dtype=torch.float64)
    modes = [Mode.SPEECH, Mode.LANGUAGE, Mode.LANGUAGE, Mode.SPEECH, Mode.LANGUAGE]
    prompts = [ids(5 + i, seed=i) for i in range(5)]
    mixed, alone = (model.new_cache(slots=5, slot_tokens=16) for _ in range(2))
    got = [model.prefill(mixed, [row(model, i, p, mode=modes[i]) for i, p in enumerate(prompts)])]
    wanted = [torch.stack([model.prefill(alone, [row(model, i, p, mode=modes[i])])[0] for i, p in enumerate(prompts)])]
    rows = [DecodeRow(slot=i, length=5 + i, token=9, mode=modes[i], long_rope=False) for i in range(5)]
    got.append(model.decode_rows(mixed, rows))
    wanted.append(torch.stack([model.decode_rows(alone, [r])[0] for r in rows]))
    assert all(close(g, w) for g, w in zip(got, wanted, strict=True))
    assert not close(got[0][0], model.prefill(alone, [row(model, 0, prompts[0], mode=Mode.LANGUAGE)])[0], 0.01)


@pytest.mark.parametrize("chunk", [1, 2, 5, 37])
def test_a_prompt_in_chunks_beside_other_rows_equals_it_in_one_piece(models: Any, chunk: int) -> None:
    model, tokens = models(dtype=torch.float64), ids(37, seed=1)
    cache = model.new_cache(slots=3, slot_tokens=40)
    whole = model.prefill(cache, [row(model, 0, tokens)])[0]
    for start in range(0, 37, chunk):
        part = tokens[start : start + chunk]
        got = model.prefill(cache, [row(model, 1, ids(9, seed=start)), row(model, 2, part, start=start)])
    assert close(got[1], whole)
    assert close(step(model, cache, 2, 37, 5), step(model, cache, 0, 37, 5))


def test_slots_of_different_sizes_are_used_again_in_any_order(models: Any) -> None:
    """What an earlier sequence left in a slot is never seen, nor what lies in the slots beside it."""
    model = models(dtype=torch.float64)
    sizes = [8, 64, 16, 32]
    cache = model.new_cache(slot_tokens=sizes)
    cache.keys.fill_(1e6)
    cache.values.fill_(1e6)
    rng = np.random.default_rng(0)
    for turn in range(12):
        slot = int(rng.integers(4))
        tokens = ids(int(rng.integers(1, sizes[slot])), seed=turn)
        fresh = model.new_cache(slots=1, slot_tokens=64)
        assert close(model.prefill(cache, [row(model, slot, tokens)]), model.prefill(fresh, [row(model, 0, tokens)]))
        last = step(model, cache, slot, len(tokens), 7)
        assert close(last, step(model, fresh, 0, len(tokens), 7))


def test_a_prefix_that_is_computed_once_is_copied_into_other_slots(models: Any) -> None:
    model, prefix = models(dtype=torch.float64), ids(12, seed=3)
    cache = model.new_cache(slots=4, slot_tokens=20)
    model.prefill(cache, [row(model, 3, prefix)])
    for slot in (0, 2):
        cache.copy_prefix(3, slot, 12)
    got = model.prefill(cache, [row(model, 0, [1, 2], start=12), row(model, 2, [4], start=12)])
    wanted = (
        model.prefill(cache, [row(model, 1, [*prefix, 1, 2])])[0],
        model.prefill(cache, [row(model, 1, [*prefix, 4])])[0],
    )
    assert all(close(g, w) for g, w in zip(got, wanted, strict=True))
    with pytest.raises(IndexError, match="do not fit"):
        cache.copy_prefix(0, 1, 21)


def test_a_sequence_over_4096_tokens_equals_a_full_recompute_with_the_long_factors(
    models: Any, references: Any
) -> None:
    """The long factors are chosen at admission, before the first token: nothing changes at 4096."""
    model, tokens = models(dtype=torch.float64), ids(ORIGINAL + 12, seed=5)
    wanted = full(references(torch.float64), tokens, speech=True)
    cache = model.new_cache(slots=2, slot_tokens=ORIGINAL + 16)
    start = ORIGINAL - 6
    got = model.prefill(cache, [row(model, 0, ids(30, seed=6)), row(model, 1, tokens[:start], long=True)])[1]
    for length in range(start, len(tokens)):
        assert close(got, wanted[length - 1], 1e-9)
        got = step(model, cache, 1, length, tokens[length], long=True)
    assert close(got, wanted[-1], 1e-9)


def test_a_sequence_up_to_4096_tokens_equals_a_full_recompute_with_the_short_factors(
    models: Any, references: Any
) -> None:
    """Also beside a long one in the same calls: factors belong to the sequence, not to the batch."""
    model, tokens = models(dtype=torch.float64), ids(ORIGINAL, seed=7)
    wanted = full(references(torch.float64), tokens, speech=True)
    cache = model.new_cache(slots=2, slot_tokens=ORIGINAL + 16)
    rows = [row(model, 0, tokens[:-1]), row(model, 1, tokens[:200], long=True)]
    got = model.prefill(cache, rows)
    assert close(got[0], wanted[-2], 1e-9)
    both = [
        DecodeRow(slot=0, length=ORIGINAL - 1, token=tokens[-1], mode=Mode.SPEECH, long_rope=False),
        DecodeRow(slot=1, length=200, token=tokens[-1], mode=Mode.SPEECH, long_rope=True),
    ]
    short, long = model.decode_rows(cache, both)
    assert close(short, wanted[-1], 1e-9)
    # Mutant: the factors of the other set give another answer.
    assert not close(long, full(references(torch.float64), [*tokens[:200], tokens[-1]], speech=True)[-1], 0.01)


def test_float32_over_4096_tokens_stays_within_1e_4_of_its_scale(models: Any, references: Any) -> None:
    model, tokens = models(dtype=torch.float32), ids(ORIGINAL + 4, seed=8)
    wanted = full(references(torch.float32), tokens, speech=True)
    cache = model.new_cache(slots=1, slot_tokens=ORIGINAL + 4)
    model.prefill(cache, [row(model, 0, tokens[: ORIGINAL - 2], long=True)])
    for length in range(ORIGINAL - 2, len(tokens)):
        assert close(step(model, cache, 0, length, tokens[length], long=True), wanted[length], 1e-4)


def test_turning_keeps_lengths_and_depends_on_distance_only() -> None:
    x = torch.randn(5, 3, 16, dtype=torch.float64)
    angles = torch.outer(torch.arange(5, dtype=torch.float64), torch.rand(6, dtype=torch.float64))
    turned = rotate(x, angles.cos(), angles.sin())
    assert torch.allclose(turned.norm(dim=-1), x.norm(dim=-1))
    assert torch.equal(turned[..., 12:], x[..., 12:])
    a, b = x[0, 0].expand(5, 1, 16), x[1, 1].expand(5, 1, 16)
    products = (rotate(a, angles.cos(), angles.sin()) * rotate(b, angles.cos(), angles.sin())).sum((-1, -2))
    assert torch.allclose(products, products[0].expand(5))


def test_grouped_heads_read_the_right_kv_head() -> None:
    """Six query heads over two KV heads, against attention written out."""
    generator = torch.Generator().manual_seed(0)
    keys, values = (torch.randn(20, 2, 8, generator=generator, dtype=torch.float64) for _ in range(2))
    query = torch.randn(5, 6, 8, generator=generator, dtype=torch.float64)  # rows of 4 and 1 new tokens
    spans = [(0, 4, 3, 9), (4, 5, 14, 6)]  # queries from, to; first key, keys
    rows = attention.Rows(
        query_starts=torch.tensor([0, 4, 5], dtype=torch.int32),
        key_starts=torch.tensor([3, 14, 0], dtype=torch.int32),
        key_lengths=torch.tensor([9, 6], dtype=torch.int32),
        most_queries=4,
        most_keys=9,
    )
    got = attention.attend(query, keys, values, rows)
    for first, last, start, length in spans:
        for place in range(first, last):
            seen = length - (last - 1 - place)
            for head in range(6):
                scores = keys[start : start + seen, head // 3] @ query[place, head] / 8**0.5
                wanted = scores.softmax(0) @ values[start : start + seen, head // 3]
                assert torch.allclose(got[place, head], wanted)


def test_what_does_not_fit_is_refused_before_anything_is_written(models: Any) -> None:
    model = models()
    cache = model.new_cache(slots=2, slot_tokens=8)
    for bad, error in (
        (row(model, 1, ids(9, seed=1)), IndexError),
        (row(model, 1, ids(3, seed=1), start=6), IndexError),
        (row(model, 2, [1]), IndexError),
        (row(model, -1, [1]), IndexError),
        (row(model, 1, []), ValueError),
    ):
        with pytest.raises(error):
            model.prefill(cache, [row(model, 0, [1, 2]), bad])
    with pytest.raises(IndexError):
        step(model, cache, 0, 8, 1)
    assert not cache.keys.any()
    large = model.new_cache(slots=1, slot_tokens=ORIGINAL + 1)
    with pytest.raises(ValueError, match="short RoPE factors"):
        step(model, large, 0, ORIGINAL, 1)
    with pytest.raises(ValueError, match="at least one token"):
        model.new_cache(slots=1, slot_tokens=0)
    assert cache.bytes == 16 * model.config.kv_bytes_per_token(4)
