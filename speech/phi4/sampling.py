"""The next token: the most probable one, among those a constraint allows."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["greedy"]


def greedy(logits: Tensor, allowed: Sequence[NDArray[np.bool_] | None]) -> tuple[Tensor, Tensor]:
    """Ids int64 [rows] and their log-probabilities [rows] from logits [rows, vocabulary]; nothing waits for the device.

    `allowed` holds a row's constraint or None. The probability is the model's own, without the constraint. A row of
    logits with NaN gives NaN.
    """
    ids = logits.argmax(-1)
    for row, mask in enumerate(allowed):
        if mask is not None:
            ids[row] = _best(logits[row], mask)
    chosen = logits.gather(-1, ids[:, None])[:, 0]
    return ids, chosen - logits.logsumexp(-1)


def _best(logits: Tensor, mask: NDArray[np.bool_]) -> Tensor:
    usable = torch.from_numpy(mask).to(logits.device)[: len(logits)]
    # The output layer may be wider than the vocabulary: what has no token is never allowed.
    return logits[: len(usable)].masked_fill(~usable, -torch.inf).argmax()
