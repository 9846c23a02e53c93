"""The extractor trained on one benchmark alone and scored on its test set: one JSON file per seed, none trained twice.

    python -m sentiment.in_domain --absa DIR --out .earful/in-domain --to docs/results/aspects --set REST14 --seeds 0 1 2
    ... --choose      # a recipe: a tenth of the training sentences scores each epoch, and no test set is scored

All of the set's training sentences are seen, those without an aspect too, but for what stands in any test set. Nothing is
selected: the network of the fixed last epoch is tested once, in the precision of the training. A killed run goes on from
its last whole epoch when the command is given again.
"""

from __future__ import annotations

import argparse
import hashlib
import time
from pathlib import Path

import torch
from safetensors.torch import save_file

from sentiment.benchmarks import benchmarks, every_test_sentence
from sentiment.cells import options, rounded, write
from sentiment.corpora import file_hash
from sentiment.data import CorpusError, Sentence, drop_leaks, normalise, read_semeval14
from sentiment.encode import TextEncoder
from sentiment.model import minilm_dir
from sentiment.precision import precision
from sentiment.tagger import score, train

__all__ = ["SETS", "held_out", "main", "run_cell", "training"]

# Those with sentences without an aspect, and all aspects marked: name, folder
SETS = {"REST14": "semeval14_restaurants", "LAP14": "semeval14_laptops"}


def training(absa: Path, name: str) -> tuple[list[Sentence], int, Path]:
    """The set's training sentences, how many more stand in a test set of any benchmark, and the file.

    Aspects marked `conflict` are aspects. Raises OSError or CorpusError where a benchmark is missing.
    """
    path = min((absa / SETS[name]).glob("*Train*.xml"), default=None)
    if path is None:
        raise CorpusError(f"{absa / SETS[name]} holds no training file (*Train*.xml)")
    read = read_semeval14(path, name.lower(), conflict=True)
    kept = drop_leaks(read, every_test_sentence(absa))
    return kept, len(read) - len(kept), path


def held_out(sentences: list[Sentence]) -> tuple[list[Sentence], list[Sentence]]:
    """Nine tenths to train on and a tenth to choose a recipe by. Equal texts are on one side."""
    sides: tuple[list[Sentence], list[Sentence]] = ([], [])
    for s in sentences:
        sides[hashlib.sha256(normalise(s.text).encode()).digest()[0] % 10 == 0].append(s)
    return sides


def run_cell(args: argparse.Namespace, seed: int, source: Path) -> None:
    """Train and test one seed unless its file is there; with `choose` train on nine tenths and test nothing."""
    cell = f"{args.set.lower()}-{args.encoder_name}-e{args.epochs}-lr{args.lr:g}-s{seed}"
    target, folder = args.to / f"{cell}.json", args.out / (f"{cell}-choose" if args.choose else cell)
    if target.exists() and not args.choose:
        return
    encoder = TextEncoder.load(source / "tokenizer.json")
    pool, dropped, path = training(args.absa, args.set)
    seen, dev = held_out(pool) if args.choose else (pool, [])
    folder.mkdir(parents=True, exist_ok=True)
    resume = folder / "resume.safetensors"
    whole, cpu = not resume.exists(), time.process_time()
    net, log = train(
        seen, dev, source, encoder, epochs=args.epochs, seed=seed, lr=args.lr, device=args.device, bar=not args.quiet,
        select="last", state=resume, identity={"files": file_hash(path)},
    )  # fmt: skip
    cpu_s = {"cpu_s": round(time.process_time() - cpu)} if whole else {}
    if not args.choose:
        save_file({k: v.cpu().contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
        test = benchmarks(args.absa, conflict=True)[args.set]
        result = {
            "kind": "aspects-in-domain", "cell": cell, "set": args.set, "encoder": args.encoder_name,
            "epochs": args.epochs, "lr": args.lr, "seed": seed, "sentences": len(seen),
            "without_aspect": sum(not s.mentions for s in seen), "dropped_leaks": dropped, "files": {path.name: file_hash(path)},
            "training": {"wall_minutes": log[-1]["minutes"]} | cpu_s,
            "device": args.device, "precision": precision(args.device), "torch": torch.__version__,
            # The rule's list of words was looked at on these test sets (docs/cvib.md): the figure is the one without it.
            "sets": {args.set: rounded(score(net, test, encoder, only_parts=False))},
            "with_the_served_rule": {args.set: rounded(score(net, test, encoder))},
        }  # fmt: skip
        write(target, result, "cell", "sets")
    resume.unlink()


def main() -> None:
    """Run every seed asked for that has no file yet."""
    parser = options(__doc__, SETS)
    parser.add_argument("--lr", type=float, default=1e-4, help="of the encoder")
    parser.add_argument(
        "--choose", action="store_true", help="hold a tenth of the training set out, score epochs by it, test nothing"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    for seed in args.seeds:
        run_cell(args, seed, args.encoder or minilm_dir())


if __name__ == "__main__":
    main()
