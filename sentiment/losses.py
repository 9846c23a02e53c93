"""The self-pruning contrastive loss: the two networks' views of one example attract, those of others repel."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["self_contrast"]


def self_contrast(a: Tensor, b: Tensor, *, tau: float, labels: Tensor | None = None, symmetric: bool = False) -> Tensor:
    """Cross-entropy over cos(a_i, b_j) / tau with the diagonal as target; a, b [batch, size]. Scalar.

    labels [batch]: pairs of the same label are not repelled. symmetric: the mean of both directions.
    """
    # In bfloat16 a cosine near 1 has steps of 1/256, before it is divided.
    with torch.autocast(a.device.type, enabled=False):
        similarity = F.normalize(a.float(), dim=-1) @ F.normalize(b.float(), dim=-1).T / tau
    if labels is not None:
        same = labels[:, None] == labels[None, :]
        same.fill_diagonal_(False)
        similarity = similarity.masked_fill(same, float("-inf"))
    target = torch.arange(len(a), device=a.device)
    loss = F.cross_entropy(similarity, target)
    if symmetric:
        loss = (loss + F.cross_entropy(similarity.T, target)) / 2
    return loss
