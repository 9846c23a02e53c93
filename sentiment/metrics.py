"""Scores, in numpy: accuracy, macro-F1, calibration, exact-match spans."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["binned_gap", "calibration_error", "classification", "fit_temperature", "softmax", "span_scores"]

Floats = NDArray[np.float64]
Span = tuple[int, int]


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats:
    """Probabilities over the last axis, in float64."""
    x = logits.astype(np.float64) / temperature
    x = np.exp(x - x.max(axis=-1, keepdims=True))
    out: Floats = x / x.sum(axis=-1, keepdims=True)
    return out


def classification(gold: NDArray[np.int64], predicted: NDArray[np.int64], classes: int = 3) -> dict[str, float]:
    """accuracy, macro_f1 over the classes that occur in gold, and recall_K per class; shares of 1."""
    out = {"n": float(len(gold)), "accuracy": float((gold == predicted).mean())}
    f1 = []
    for k in range(classes):
        hit = float(((gold == k) & (predicted == k)).sum())
        have, said = float((gold == k).sum()), float((predicted == k).sum())
        if have:
            f1.append(2 * hit / (have + said))
            out[f"recall_{k}"] = hit / have
    out["macro_f1"] = float(np.mean(f1))
    return out


def binned_gap(confidence: Floats, right: NDArray[np.bool_], bins: int) -> float:
    """ECE of confidences 0..1 [n]: mean gap to the share that is right over equal-width bins, weighted by their size."""
    index = np.minimum((confidence * bins).astype(int), bins - 1)
    gap = 0.0
    for b in np.unique(index):
        inside = index == b
        gap += inside.mean() * abs(confidence[inside].mean() - right[inside].mean())
    return float(gap)


def calibration_error(probabilities: Floats, gold: NDArray[np.int64], bins: int = 15) -> float:
    """ECE of probabilities [n, classes]: of the likeliest class against whether it is gold's [n]."""
    return binned_gap(probabilities.max(axis=1), probabilities.argmax(axis=1) == gold, bins)


def fit_temperature(logits: NDArray[np.floating], gold: NDArray[np.int64]) -> float:
    """The temperature in 0.5 .. 5 with the least log loss on held-out logits (grid of 2 %)."""
    grid = np.exp(np.arange(np.log(0.5), np.log(5.0), 0.02))
    rows = np.arange(len(gold))
    losses = [-np.log(softmax(logits, float(t))[rows, gold] + 1e-12).mean() for t in grid]
    return float(round(grid[int(np.argmin(losses))], 3))


def span_scores(gold: Sequence[Sequence[Span]], predicted: Sequence[Sequence[Span]]) -> dict[str, float]:
    """Exact-match precision, recall, f1 over all texts, and false_span_rate: texts without an aspect that got one."""
    hit = sum(len(set(g) & set(p)) for g, p in zip(gold, predicted, strict=True))
    have, said = sum(len(set(g)) for g in gold), sum(len(set(p)) for p in predicted)
    empty = [bool(p) for g, p in zip(gold, predicted, strict=True) if not g]
    return {
        "texts": float(len(gold)),
        "spans": float(have),
        "precision": hit / said if said else 0.0,
        "recall": hit / have if have else 0.0,
        "f1": 2 * hit / (have + said) if have + said else 0.0,
        "empty_texts": float(len(empty)),
        "false_span_rate": float(np.mean(empty)) if empty else 0.0,
    }
