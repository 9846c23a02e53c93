"""The running batch on fake tensors of device `cuda`: reading a value there raises, so a step that waits for the GPU fails.

As test_cuda_shapes.py does for the model. Kernels, copies and events are not run; tokens are made up as they are read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402

from speech.phi4 import attention, flight, mel  # noqa: E402
from speech.phi4.engine import Engine  # noqa: E402
from speech.phi4.flight import Flight  # noqa: E402
from speech.phi4.generation import Generation, Prompt  # noqa: E402
from speech.phi4.limits import Limits  # noqa: E402
from speech.phi4.model import Mode, Phi4Model  # noqa: E402
from speech.phi4.synthetic import PUBLISHED, published_config, synthetic  # noqa: E402
from tests.speech.phi4 import rig  # noqa: E402


class Anything:
    """A constraint that allows everything."""

    finished = False

    def allowed(self) -> Any:
        return np.ones(200_029, dtype=np.bool_)

    def advance(self, token_id: int) -> None:
        pass


@pytest.fixture(name="engine")
def _engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    config = published_config(num_hidden_layers=2, audio_config=PUBLISHED["audio_config"] | {"num_blocks": 2})
    monkeypatch.setattr(attention, "_row_by_row", None)
    monkeypatch.setattr(flight, "_copy", lambda tokens: (tokens, None))
    monkeypatch.setattr(
        Flight, "read", lambda self: [(one, (77, -1.0)) for tokens in self._tokens for one in tokens.members]
    )
    mel._tables.cache_clear()
    limits = Limits(utterance_slots=6, summary_slots=0, shared_slots=0)
    vocabulary = rig.vocabulary()
    with FakeTensorMode(allow_non_fake_inputs=True):
        model = Phi4Model.build(synthetic(config), device="cuda", dtype=torch.bfloat16)
        yield Engine(model, limits, vocabulary=vocabulary, stop_ids=(), run=False)
    mel._tables.cache_clear()


def requests() -> list[Generation]:
    """Two of each, side by side to the end: a fake tensor of one element is a real one to PyTorch, which wants a driver."""
    return [
        *(
            Generation(
                prompt=Prompt(before=(1, 2, 3), audio=rig.tone(3.0, n, 8_000), rate=8_000, after=(4, 5)),
                mode=Mode.SPEECH,
                max_new_tokens=6,
            )
            for n in range(2)
        ),
        *(
            Generation(
                prompt=Prompt(before=tuple(range(100))), mode=Mode.LANGUAGE, max_new_tokens=9, constraint=constraint
            )
            for constraint in (None, None, Anything, Anything)
        ),
    ]


def test_no_step_waits_for_the_device(engine: Any) -> None:
    handles = [engine.submit(generation) for generation in requests()]
    rig.run_all(engine)
    found = [handle.result(0).token_ids for handle in handles]
    assert found == [(77,) * 6] * 2 + [(77,) * 9] * 4


def test_the_check_itself_works(engine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a step read on the spot, every request would fail."""
    from speech.phi4.refusals import EngineFailed

    greedy = engine.batch.steps.decode

    def reading(batch: Any, before: Flight) -> Any:
        found = greedy(batch, before)
        found[0].ids.tolist()
        return found

    monkeypatch.setattr(engine.batch.steps, "decode", reading)
    handles = [engine.submit(generation) for generation in requests()]
    rig.run_all(engine)
    for handle in handles:
        with pytest.raises(EngineFailed):
            handle.result(0)
