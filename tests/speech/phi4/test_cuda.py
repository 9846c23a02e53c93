"""The first minute on a GPU: kernels against plain arithmetic, and a captured step with other lengths. Skipped without one.

Written without a GPU at hand and not run yet: a failure here is as likely the test's as the code's.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
if not torch.cuda.is_available():
    pytest.skip("no GPU", allow_module_level=True)

from speech.phi4 import attention  # noqa: E402
from speech.phi4.model import Clip, Mode, Phi4Model, PrefillRow  # noqa: E402
from speech.phi4.tiny import make_tiny  # noqa: E402
from tests.speech.phi4.reference import noise  # noqa: E402

HEADS, KV_HEADS, DIM = 24, 8, 128
WIDE = {"hidden_size": 384, "num_attention_heads": 3, "num_key_value_heads": 1}  # heads of 128, as the kernels want


@pytest.fixture(name="folder", scope="module")
def _folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with the published width of a head."""
    return make_tiny(tmp_path_factory.mktemp("cuda") / "tiny", dtype=torch.bfloat16, std=0.1, **WIDE)


@pytest.mark.parametrize("queries", [[1] * 7, [1], [5, 1, 300, 64], [700, 700], [3] * 40])
def test_flash_over_slots_equals_attention_row_by_row(queries: list[int]) -> None:
    """Slots in any order, of which only the used part is read; new tokens at the end of longer sequences too."""
    generator = torch.Generator("cuda").manual_seed(len(queries))
    rng = np.random.default_rng(len(queries))
    slot = 1024
    keys, values = (
        torch.randn(len(queries) * slot, KV_HEADS, DIM, device="cuda", dtype=torch.bfloat16, generator=generator)
        for _ in "kv"
    )
    query = torch.randn(sum(queries), HEADS, DIM, device="cuda", dtype=torch.bfloat16, generator=generator)
    lengths = [int(rng.integers(n, slot)) for n in queries]
    firsts = (rng.permutation(len(queries)) * slot).tolist()
    rows = attention.Rows(
        query_starts=torch.tensor(np.cumsum([0, *queries]), dtype=torch.int32, device="cuda"),
        key_starts=torch.tensor([*firsts, 0], dtype=torch.int32, device="cuda"),
        key_lengths=torch.tensor(lengths, dtype=torch.int32, device="cuda"),
        most_queries=max(queries),
        most_keys=slot,
    )
    got = attention._flash(query, keys, values, rows)
    wanted = attention._row_by_row(query.float(), keys.float(), values.float(), rows)
    assert float((got.float() - wanted).abs().max()) < 2e-2


def test_a_captured_step_follows_other_slots_and_lengths(folder: Path) -> None:
    model = Phi4Model.load(folder, device="cuda", dtype=torch.bfloat16)
    cache = model.new_cache(slots=6, slot_tokens=96)
    prompts = [list(range(1, 5 + 9 * i)) for i in range(6)]
    model.prefill(
        cache,
        [
            PrefillRow(slot=i, start=0, embeds=model.embed(p), mode=Mode.SPEECH, long_rope=False)
            for i, p in enumerate(prompts)
        ],
    )
    ids, slots, lengths = (torch.zeros(3, dtype=torch.int64, device="cuda") for _ in range(3))
    long = torch.zeros(3, dtype=torch.bool, device="cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(2):
            model.decode(cache, Mode.SPEECH, ids, slots, lengths, long)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        logits = model.decode(cache, Mode.SPEECH, ids, slots, lengths, long)
    # The warm-up wrote to the first token of slot 0: bring it back.
    model.prefill(
        cache, [PrefillRow(slot=0, start=0, embeds=model.embed(prompts[0]), mode=Mode.SPEECH, long_rope=False)]
    )
    for chosen in ([0, 1, 2], [5, 3, 4], [2, 0, 5]):
        given = torch.tensor([[7, slot, len(prompts[slot])] for slot in chosen], device="cuda")
        for fixed, column in zip((ids, slots, lengths), given.unbind(1), strict=True):
            fixed.copy_(column)
        graph.replay()
        wanted = model.decode(cache, Mode.SPEECH, *given.unbind(1), long)
        assert torch.equal(logits, wanted)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-3), (torch.bfloat16, 0.15)])
def test_the_gpu_agrees_with_the_cpu(folder: Path, dtype: Any, tolerance: float) -> None:
    """Features, encoder, projector, prompt and one step; mixed lengths and rates in one call."""
    gpu, cpu = Phi4Model.load(folder, device="cuda", dtype=dtype), Phi4Model.load(folder, dtype=torch.float32)
    clips = [
        Clip(samples=noise(s, seed=i), rate=r)
        for i, (s, r) in enumerate([(3.3, 16_000), (0.05, 16_000), (41, 16_000), (2, 8_000)])
    ]
    encoded = gpu.encode(clips)
    for got, wanted in zip(encoded, cpu.encode(clips), strict=True):
        assert float((got.float().cpu() - wanted).abs().max()) < tolerance * float(wanted.abs().max())
    logits = []
    for model in (gpu, cpu):
        cache = model.new_cache(slots=2, slot_tokens=64)
        rows = [
            PrefillRow(slot=i, start=0, embeds=model.embed(range(1, 40)), mode=mode, long_rope=False)
            for i, mode in enumerate((Mode.SPEECH, Mode.LANGUAGE))
        ]
        logits.append(model.prefill(cache, rows).float().cpu())
    assert float((logits[0] - logits[1]).abs().max()) < tolerance * float(logits[1].abs().max())


def test_32_clips_of_30_s_and_half_an_hour_fit_the_indices(folder: Path) -> None:
    """No kernel is handed 2**31 values; what it takes of memory is printed."""
    model = Phi4Model.load(folder, device="cuda", dtype=torch.bfloat16)
    torch.cuda.reset_peak_memory_stats()
    for clips in ([Clip(samples=noise(30.0, seed=1))] * 33, [Clip(samples=np.tile(noise(60.0, seed=2), 30))]):
        encoded = model.encode(clips)
        assert all(bool(e.isfinite().all()) for e in encoded)
    print(f"peak {torch.cuda.max_memory_allocated() / 2**30:.2f} GiB")
