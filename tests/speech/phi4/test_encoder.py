"""The audio encoder: a batch is the clips alone, up to 40 s and beyond, and each half of the cure is needed."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from speech.phi4 import encoder as encoder_module  # noqa: E402
from speech.phi4 import subsample  # noqa: E402
from speech.phi4.model import Clip, Phi4Model  # noqa: E402
from tests.speech.phi4.reference import masked_last_block, noise  # noqa: E402

MIXED = (0.05, 3.3, 40.0, 0.4, 12.5, 1.0, 41.0, 0.08)


def clips(seconds: Any, rate: int = 16_000) -> list[Clip]:
    """Different audio for each length."""
    return [Clip(samples=noise(s, seed=i), rate=rate) for i, s in enumerate(seconds)]


def worst(got: Any, wanted: Any) -> float:
    """Largest difference of lists of embeddings, relative to their scale."""
    assert [len(g) for g in got] == [len(w) for w in wanted]
    return max(float((g - w).abs().max() / w.abs().max()) for g, w in zip(got, wanted, strict=True))


def test_a_batch_equals_each_clip_alone_and_the_stock_encoder_on_it(models: Any, references: Any) -> None:
    model, made = models(dtype=torch.float64), clips(MIXED)
    together = model.encode(made)
    assert worst(together, [model.encode([clip])[0] for clip in made]) < 1e-6  # features are float32 in any case
    short = [i for i, s in enumerate(MIXED) if s <= 40]
    stock = [references(torch.float64).encode([made[i].samples])[0] for i in short]
    assert worst([together[i] for i in short], stock) < 1e-6


@given(
    shapes=st.lists(st.tuples(st.floats(0.05, 5.0), st.sampled_from([8_000, 16_000, 22_050])), min_size=1, max_size=9)
)
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_clips_in_any_order_come_out_as_each_alone(models: Any, shapes: list[tuple[float, int]]) -> None:
    model = models(dtype=torch.float64)
    made = [Clip(samples=noise(s, seed=i)[: round(s * r)], rate=r) for i, (s, r) in enumerate(shapes)]
    together = model.encode(made)
    assert [len(e) for e in together] == [model.audio_tokens(clip) for clip in made]
    assert worst(together, [model.encode([clip])[0] for clip in made]) < 1e-5
    assert worst(model.encode(made[::-1])[::-1], together) < 1e-5


@pytest.mark.parametrize("seconds", [40.02, 41.0, 75.0, 180.0])
def test_over_40_s_equals_the_stock_encoder_with_the_last_blocks_padding_masked(
    models: Any, references: Any, seconds: float
) -> None:
    clip = Clip(samples=noise(seconds, seed=7))
    wanted = masked_last_block(references(torch.float64), clip.samples)
    # Beside other clips too: blocks of any clips share a batch.
    assert worst(models(dtype=torch.float64).encode([*clips((0.3, 12.0)), clip])[2:], [wanted]) < 1e-6


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 44_100])
@pytest.mark.parametrize("stock_padding", [False, True])
def test_blocks_of_a_clip_are_those_of_the_whole(tiny: Any, rate: int, stock_padding: bool) -> None:
    """Any of them, beside other clips; what lies before and behind them is read as far as they depend on it."""
    model = Phi4Model.load(tiny, dtype=torch.float64, stock_padding=stock_padding)
    long, short = Clip(samples=noise(170.0 * rate / 16_000, seed=3), rate=rate), clips((2.0,))[0]
    whole, alone = model.encode([long, short])
    for blocks in (range(1), range(2), range(1, 3), range(3, 5), range(4, 5)):
        part, beside = model.encode([long, short], blocks=[blocks, range(1)])
        assert worst([part, beside], [whole[500 * blocks.start : 500 * blocks.stop], alone]) < 1e-5


def test_a_switch_reproduces_the_stock_encoder_over_40_s(tiny: Any, models: Any, references: Any) -> None:
    stock_like = Phi4Model.load(tiny, dtype=torch.float64, stock_padding=True)
    made = clips((41.0, 75.0, 40.0, 2.0))
    stock = [references(torch.float64).encode([clip.samples])[0] for clip in made]
    assert worst(stock_like.encode(made), stock) < 1e-6
    ours = models(dtype=torch.float64).encode(made)
    assert worst(ours[2:], stock[2:]) < 1e-6
    for mine, theirs in zip(ours[:2], stock[:2], strict=True):
        whole = len(mine) // 500 * 500
        assert worst([mine[:whole]], [theirs[:whole]]) < 1e-6
        assert float((mine[whole:] - theirs[whole:]).abs().max()) > 0.5  # on a scale of about 6


@pytest.mark.parametrize("tile_frames", [8, 64, 104, 1000])
def test_the_subsampler_in_tiles_equals_the_whole(tiny: Any, tile_frames: int) -> None:
    whole = Phi4Model.load(tiny, dtype=torch.float64, tile_frames=1 << 20)
    tiled = Phi4Model.load(tiny, dtype=torch.float64, tile_frames=tile_frames)
    made = clips((10.05, 0.05, 3.0, 1.29, 0.1))
    assert worst(tiled.encode(made), whole.encode(made)) < 1e-6


def test_half_an_hour_goes_through_in_tiles_and_blocks(models: Any) -> None:
    """22,500 tokens in blocks of 500; the first block is what it is in a shorter recording."""
    model = models()
    samples = noise(60.0, seed=9)
    long = Clip(samples=torch.from_numpy(samples).repeat(30).numpy())
    (got,) = model.encode([long])
    assert len(got) == model.audio_tokens(long) == 22_500
    (start,) = model.encode([Clip(samples=samples)])
    assert worst([got[:500]], [start[:500]]) < 1e-4
    assert bool(got.isfinite().all())


def test_no_batch_is_larger_than_32_clips_of_30_s(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    stock = subsample.Subsampler._run

    def watched(self: Any, inputs: Any) -> Any:
        sizes.append(max(len(x) for x in inputs) * len(inputs))
        return stock(self, inputs)

    monkeypatch.setattr(subsample.Subsampler, "_run", watched)
    monkeypatch.setattr(subsample, "MOST_FRAMES", 2_000)
    model, made = models(), clips([3.0] * 9 + [1.0] * 7)
    got = model.encode(made)
    assert len(sizes) == 3
    assert max(sizes) <= 2_000
    monkeypatch.undo()
    assert worst(got, model.encode(made)) < 1e-4
    # The reason for the number: the first convolution's output must stay below 2**31 values.
    assert subsample.MOST_FRAMES // 2 * 40 * 1024 < 2**31 <= (subsample.MOST_FRAMES + 9_000) // 2 * 40 * 1024


def test_mutant_without_zeroing_behind_each_convolution_a_batch_is_not_its_clips(
    models: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, made = (
        models(dtype=torch.float64),
        clips((3.0, 2.515)),
    )  # 249 frames: a length of whole tokens would not show it
    alone = [model.encode([clip])[0] for clip in made]
    assert worst(model.encode(made), alone) < 1e-6
    # Equal lengths are not zeroed: let it believe so.
    monkeypatch.setattr(subsample, "_is_ragged", lambda lengths: False)
    assert worst(model.encode(made), alone) > 0.01


def test_mutant_without_masked_keys_a_batch_is_not_its_clips(models: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, made = models(dtype=torch.float64), clips((3.0, 2.5))
    alone = [model.encode([clip])[0] for clip in made]
    monkeypatch.setattr(encoder_module, "_MASKED", 0.0)
    assert worst(model.encode(made), alone) > 0.01


def test_telephone_clips_share_a_batch_with_others(models: Any) -> None:
    model = models(dtype=torch.float64)
    made = [Clip(samples=noise(2.0, seed=1), rate=8_000), *clips((1.0,)), Clip(samples=noise(3.0, seed=2), rate=44_100)]
    assert worst(model.encode(made), [model.encode([clip])[0] for clip in made]) < 1e-6
    assert [len(e) for e in model.encode(made)] == [model.audio_tokens(clip) for clip in made]
    assert model.encode([]) == []
