"""What a network's probabilities are worth on a test set and on ARTS; and whether one arm is better than another."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from sentiment.data import POLARITIES, Sentence
from sentiment.metrics import calibration_error, classification

__all__ = ["VARIANTS", "arts", "group_right", "paired_bootstrap", "plain_test"]

VARIANTS = {"adv1": "revtgt", "adv2": "revnon", "adv3": "adddiff"}
Floats = NDArray[np.float64]


def _gold(sentences: Sequence[Sentence]) -> NDArray[np.int64]:
    return np.array([POLARITIES.index(m.polarity) for s in sentences for m in s.mentions], dtype=np.int64)


def plain_test(probabilities: Floats, sentences: Sequence[Sentence]) -> dict[str, float]:
    """probabilities [mentions, 3]: accuracy, macro-F1, recalls, ECE, and accuracy where a sentence has several polarities."""
    gold = _gold(sentences)
    scores = classification(gold, probabilities.argmax(axis=1)) | {"ece": calibration_error(probabilities, gold)}
    mixed = np.array([len({m.polarity for m in s.mentions}) > 1 for s in sentences for _ in s.mentions], dtype=bool)
    if mixed.any():
        right = probabilities.argmax(axis=1) == gold
        scores |= {"mixed_n": float(mixed.sum()), "mixed_accuracy": float(right[mixed].mean())}
    return scores


def group_right(probabilities: Floats, items: Sequence[Sentence]) -> dict[str, bool]:
    """Per ARTS group (an original and its variants): all right?"""
    right = probabilities.argmax(axis=1) == _gold(items)
    groups: dict[str, list[bool]] = defaultdict(list)
    for s, ok in zip(items, right, strict=True):
        groups[s.group].append(bool(ok))
    return {k: all(v) for k, v in groups.items()}


def arts(probabilities: Floats, items: Sequence[Sentence]) -> dict[str, float]:
    """Accuracy and macro-F1 over all items; accuracy of the originals and of each kind of variant; ARS over the groups."""
    gold = _gold(items)
    right = probabilities.argmax(axis=1) == gold
    groups = group_right(probabilities, items)
    scores = classification(gold, probabilities.argmax(axis=1))
    scores |= {"groups": float(len(groups)), "ars": float(np.mean(list(groups.values())))}
    for key, name in {"": "original", **VARIANTS}.items():
        inside = np.array([s.variant == key for s in items], dtype=bool)
        if inside.any():
            scores[f"{name}_accuracy"] = float(right[inside].mean())
    return scores


@lru_cache(maxsize=8)
def _draws(seed: int, draws: int, seeds: int, sizes: tuple[int, ...]) -> tuple[Floats, list[NDArray[np.int16]]]:
    """Weights of the seeds [draws, seeds]; per set, how often each group is drawn [draws, groups]. Kept: tables ask often."""
    rng = np.random.default_rng(seed)
    by_seed = rng.multinomial(seeds, [1 / seeds] * seeds, size=draws) / seeds
    # The variance of a mean of n that are drawn from n is (n - 1) / n of the unbiased one.
    if seeds > 1:
        by_seed = 1 / seeds + (by_seed - 1 / seeds) * np.sqrt(seeds / (seeds - 1))
    return by_seed, [rng.multinomial(n, [1 / n] * n, size=draws).astype(np.int16) for n in sizes]


def paired_bootstrap(
    differences: Sequence[Floats], *, draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Mean over sets, and its 95 % interval. differences: per set [seeds, groups], one arm's flags less the other's.

    Both the seeds and the groups are drawn anew with replacement; a seed's pair of runs and a group's pair of answers
    stay together, and one draw of seeds serves every set. The seeds' own variance is that of n - 1.
    """
    sizes = tuple(d.shape[1] for d in differences)
    by_seed, by_group = _draws(seed, draws, differences[0].shape[0], sizes)
    total = np.zeros(draws)
    for d, counts in zip(differences, by_group, strict=True):
        total += np.einsum("rg,rg->r", by_seed @ d, counts) / (d.shape[1] * len(differences))
    low, high = np.quantile(total, [0.025, 0.975])
    return float(np.mean([d.mean() for d in differences])), float(low), float(high)
