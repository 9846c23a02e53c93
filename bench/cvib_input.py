"""python -m bench.cvib_input --absa DIR: pairs a CPU second of the two inputs of CVIB, on MAMS test.

With the pair [CLS] sentence [SEP] aspect [SEP] each aspect is a pass of the encoder of its own; with the sentence alone
all aspects of it share one. The network alone, its weights untrained (speed does not depend on them), torch fp32, one
thread, both inputs in turn within one run. Needs torch: .venv-torch.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np
import torch

from bench.cvib import ROUNDS, report
from sentiment.batches import Pair, pairs
from sentiment.data import read_semeval14
from sentiment.encode import TextEncoder
from sentiment.model import PolarityNet, load_encoder, minilm_dir
from sentiment.train import predict_logits

__all__ = ["main"]


def main() -> None:
    """Take turns, and print each one's median of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--absa", type=Path, required=True)
    parser.add_argument("--texts", type=int, default=None, help="only the first so many sentences")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    source = minilm_dir()
    encoder = TextEncoder.load(source / "tokenizer.json")
    net = PolarityNet(load_encoder(source), dropout=0.0)
    texts = read_semeval14(args.absa / "mams" / "ATSA" / "test.xml", "mams")[: args.texts]
    pair, sentence = pairs(texts, encoder), pairs(texts, encoder, second=False)

    def each(examples: list[Pair]) -> np.ndarray:
        return np.concatenate([predict_logits(net, [one], encoder.pad_id) for one in examples])

    def shared(examples: list[Pair], size: int) -> np.ndarray:
        return np.asarray(predict_logits(net, examples, encoder.pad_id, size))

    assert np.abs(each(sentence) - shared(sentence, 1)).max() < 1e-5
    turns: dict[str, Callable[[], object]] = {
        "pair, an aspect at a time": lambda: each(pair),
        "sentence, an aspect at a time": lambda: each(sentence),
        "sentence, a sentence at a time": lambda: shared(sentence, 1),
        "pair, 64 at a time": lambda: shared(pair, 64),
        "sentence, 64 at a time": lambda: shared(sentence, 64),
    }
    found: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(args.rounds):
        for name, turn in turns.items():
            begun = time.process_time()
            turn()
            found[name].append(time.process_time() - begun)
    print(f"{len(pair)} pairs of {len(texts)} sentences, {args.rounds} rounds in turn, median; ratio: to the pair")
    for name, seconds in found.items():
        base = found["pair, 64 at a time" if "64" in name else "pair, an aspect at a time"]
        report(name, seconds, len(pair), median(base) / len(pair))


if __name__ == "__main__":
    main()
