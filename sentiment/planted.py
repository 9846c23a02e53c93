"""A planted spurious word: right nine times in ten in training, wrong nine times in ten in the test. Does a network lean on it?

    python -m sentiment.planted --to docs/results/cvib/planted-spurious.json

Made-up words and a tiny encoder from scratch, seconds a run: a sentence of filler words holds one of some words that decide the
label, and one of three words that only goes with it. Measured for CVIB and its twin on equal terms; no sign is required.
"""

from __future__ import annotations

import argparse
import json
import random
from pathlib import Path

import numpy as np
import torch
from transformers import BertConfig, BertModel

from sentiment.batches import Pair
from sentiment.encode import EncodedPair
from sentiment.recipe import PRESETS, Config
from sentiment.report import report
from sentiment.train import score, train

__all__ = ["examples", "main", "measure", "tiny_encoder"]

CLS, SEP, FILLERS, SIGNALS, SPURIOUS = 1, 2, range(10, 110), range(200, 290), range(300, 303)


def tiny_encoder(folder: Path, *, seed: int, vocabulary: int = 400) -> Path:
    """A folder with a BERT of 2 layers and 32 channels, weights drawn by seed."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=vocabulary, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64
    )
    BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    return folder


def examples(n: int, *, agree: float, seed: int) -> list[Pair]:
    """n pairs; the spurious word names the label with probability `agree`, another label otherwise."""
    rng = random.Random(seed)
    out = []
    for i in range(n):
        label = i % 3
        body = [rng.choice(FILLERS) for _ in range(rng.randint(6, 10))]
        body[rng.randrange(len(body))] = rng.choice([s for s in SIGNALS if s % 3 == label])
        named = label if rng.random() < agree else (label + rng.choice([1, 2])) % 3
        body.append(SPURIOUS[named])
        ids = [CLS, *body, SEP]
        aspect = [0, 1] + [0] * (len(ids) - 2)
        out.append(
            Pair(encoded=EncodedPair(ids=ids, types=[0] * len(ids), aspect=aspect), label=label, domain="", group="")
        )
    return out


def measure(arm: str, seed: int, folder: Path, *, epochs: int = 12, n: int = 900) -> dict[str, object]:
    """Accuracy where the word still agrees (90 %) and where it is reversed (10 %)."""
    # CVIB and its twin share all of this; an encoder from scratch wants a higher rate than a pretrained one.
    preset = {**PRESETS["pressed"], "encoder_lr": 1e-3}
    config = Config(**{**preset, "arm": arm, "seed": seed, "epochs": epochs})  # type: ignore[arg-type]
    tests = {
        "agreeing": examples(600, agree=0.9, seed=1000 + seed),
        "reversed": examples(600, agree=0.1, seed=2000 + seed),
    }
    out: dict[str, object] = {"arm": arm, "seed": seed}

    def keep(net: torch.nn.Module, log: list[dict[str, object]]) -> None:
        out.update({name: round(score(net, pairs, 0)["accuracy"], 4) for name, pairs in tests.items()})
        out["pruned"] = log[-1].get("prune_rates")

    source = tiny_encoder(folder / f"{seed}", seed=seed)
    train(config, examples(n, agree=0.9, seed=seed), [], source, 0, minutes=1e9, bar=False, on_best=keep, select="last")
    return out


def main() -> None:
    """Five seeds of both arms; means, spread and all runs into one file."""
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        runs = [measure(arm, seed, Path(folder)) for seed in range(args.seeds) for arm in ("cvib", "plain")]
    summary = {
        arm: {
            key: {"mean": round(float(np.mean(v)), 4), "sd": round(float(np.std(v, ddof=1)), 4)}
            for key in ("agreeing", "reversed")
            for v in [np.array([r[key] for r in runs if r["arm"] == arm], dtype=float)]
        }
        for arm in ("cvib", "plain")
    }
    result = {"kind": "cvib-planted-spurious", "seeds": args.seeds, "summary": summary, "runs": runs}
    args.to.parent.mkdir(parents=True, exist_ok=True)
    args.to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report({"summary": summary})


if __name__ == "__main__":
    main()
