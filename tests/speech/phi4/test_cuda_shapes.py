"""What can be seen of the CUDA path without a GPU: the published widths on fake tensors of device `cuda`.

Shapes, dtypes and devices are PyTorch's own rules, values do not exist: a tensor left on the CPU, a wrong shape, or an
operation of a decoding step that would wait for the device fails here. Kernels are not run.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from speech.phi4 import attention, mel, subsample  # noqa: E402
from speech.phi4.model import Clip, DecodeRow, Mode, Phi4Model, PrefillRow  # noqa: E402
from speech.phi4.synthetic import PUBLISHED, published_config, synthetic  # noqa: E402

# Two of each: a fake tensor of one element is a real one to PyTorch, which then looks for a driver.
CLIPS = [(30.0, 16_000), (5.0, 8_000), (0.05, 16_000), (41.0, 16_000), (10.0, 44_100)] * 2


@pytest.fixture(name="model", params=["merged", "unmerged"])
def _model(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The published widths, few layers, in bfloat16 on a GPU that does not exist; only the flash kernel may attend."""
    config = published_config(num_hidden_layers=2, audio_config=PUBLISHED["audio_config"] | {"num_blocks": 2})
    monkeypatch.setattr(attention, "_row_by_row", None)
    mel._tables.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True):
        yield Phi4Model.build(synthetic(config), device="cuda", dtype=torch.bfloat16, lora=request.param)
    mel._tables.cache_clear()


def test_the_published_model_takes_audio_prompts_and_steps_on_cuda(model: Any) -> None:
    clips = [Clip(samples=np.zeros(round(s * rate), np.float32), rate=rate) for s, rate in CLIPS]
    encoded = model.encode(clips)
    assert [tuple(e.shape) for e in encoded] == [(model.audio_tokens(c), 3072) for c in clips]
    cache = model.new_cache(slot_tokens=[1024] * 4 + [6000])
    rows = [
        PrefillRow(slot=i, start=0, embeds=torch.cat([model.embed([1, 2]), e]), mode=mode, long_rope=False)
        for i, (e, mode) in enumerate(zip(encoded[:4], [Mode.SPEECH, Mode.LANGUAGE] * 2, strict=True))
    ]
    logits = model.prefill(cache, rows)
    assert (logits.shape, logits.dtype, logits.device.type) == ((4, 200_064), torch.bfloat16, "cuda")
    steps = [
        DecodeRow(slot=i, length=len(row.embeds), token=1, mode=row.mode, long_rope=False) for i, row in enumerate(rows)
    ]
    assert model.decode_rows(cache, steps).device.type == "cuda"


def test_a_decoding_step_waits_for_nothing(model: Any) -> None:
    """Reading a value of a fake tensor raises, so whatever a graph could not capture would show."""
    cache = model.new_cache(slots=512, slot_tokens=64)
    ids = torch.zeros(512, dtype=torch.int64, device="cuda")
    logits = model.decode(cache, Mode.SPEECH, ids, ids, ids, ids.bool())
    assert (tuple(logits.shape), logits.device.type) == ((512, 200_064), "cuda")
    with pytest.raises(Exception, match="_local_scalar_dense"):  # the check itself works
        ids.max().item()


def test_the_first_convolution_stays_within_its_memory(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    largest = 0
    stock = subsample.conv2d

    def watched(*args: Any, **kwargs: Any) -> Any:
        nonlocal largest
        made = stock(*args, **kwargs)
        largest = max(largest, made.numel() * made.element_size())
        return made

    monkeypatch.setattr(subsample, "conv2d", watched)
    model.encode([Clip(samples=np.zeros(480_000, np.float32))] * 20)
    assert 0.8 * 2**29 < largest <= 2**29
