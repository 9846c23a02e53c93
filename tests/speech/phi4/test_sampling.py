"""The greedy choice and its log-probability, in the precision of a GPU too."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from speech.phi4.sampling import greedy  # noqa: E402


@pytest.mark.parametrize("rows", [1, 64, 150])
def test_log_probabilities_are_those_of_the_logits_whatever_their_precision(rows: int) -> None:
    """In bfloat16 logits around 24 are 0.125 apart; a rather sure choice's log-probability is smaller."""
    logits = torch.randn(rows, 500, generator=torch.Generator().manual_seed(3))
    logits[torch.arange(rows), torch.arange(rows)] = 24 + torch.rand(rows, generator=torch.Generator().manual_seed(4))
    logits[:, -1] = 21
    for dtype in (torch.bfloat16, torch.float32, torch.float64):
        given = logits.to(dtype)
        ids, logprobs = greedy(given, [None] * rows)
        wanted = given.double().log_softmax(-1).gather(-1, ids[:, None])[:, 0]
        assert ids.tolist() == list(range(rows))
        torch.testing.assert_close(logprobs.double(), wanted, atol=5e-6, rtol=1e-4)


def test_a_row_with_nan_gives_nan_and_the_others_numbers() -> None:
    logits = torch.zeros(70, 9)
    logits[66, 2] = float("nan")
    _, logprobs = greedy(logits, [None] * 70)
    assert logprobs.isnan().nonzero().tolist() == [[66]]
