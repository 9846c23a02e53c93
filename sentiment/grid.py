"""Train on one benchmark, test on it, on ARTS and across domains: one JSON file per cell, none trained twice.

    python -m sentiment.grid --absa DIR --out .earful/grid --to docs/results/cvib \\
        --set LAP14 --arms cvib plain --seeds 0 1 2 --epochs 5
    ... --arms cvib --change label_aware=off          # an ablation: one switch of the preset
    ... --arms cvib plain --change pool=cls           # a lever of the system: the twin has it, too

The arms of one seed follow each other, so a grid that is cut short still has pairs. A killed run goes on from its last
whole epoch when the command is given again, and files from several machines may lie in one folder: each name says what
it is. Nothing is selected: the network of the fixed last epoch is tested, once.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from sentiment.batches import Pair, pairs
from sentiment.cells import options, rounded, write
from sentiment.corpora import OWN, file_hash, own_sentences
from sentiment.data import Sentence, drop_leaks, read_arts, read_semeval14, read_semeval15, read_twitter
from sentiment.encode import TextEncoder
from sentiment.metrics import softmax
from sentiment.model import PolarityNet, load_polarity, minilm_dir
from sentiment.precision import precision
from sentiment.recipe import ARMS, CHANGES, INPUTS, LEVERS, PAPER_SETS, PRESETS, Change, Config, change, settings
from sentiment.report import report
from sentiment.scores import arts, group_right, plain_test
from sentiment.train import predict_logits, train

__all__ = ["ARTS", "SETS", "cell_name", "main", "run_cell"]

Reader = Callable[[Path, str], list[Sentence]]
# name: folder, pattern of the training file, pattern of the test file, reader
SETS: dict[str, tuple[str, str, str, Reader]] = {
    "REST14": ("semeval14_restaurants", "*Train*.xml", "*Test*.xml", read_semeval14),
    "LAP14": ("semeval14_laptops", "*Train*.xml", "*Test*.xml", read_semeval14),
    "REST15": ("semeval15_restaurants", "*Train*.xml", "*Test*.xml", read_semeval15),
    "REST16": ("semeval16_restaurants", "*Train*.xml", "*TEST*", read_semeval15),
    "MAMS": ("mams/ATSA", "train.xml", "test.xml", read_semeval14),
    "Twitter": ("twitter", "train.raw", "test.raw", read_twitter),
}
ARTS = {"REST14": "rest_test_enriched.json", "LAP14": "laptop_test_enriched.json"}
CROSS = {"REST14": "LAP14", "LAP14": "REST14"}


def _file(absa: Path, name: str, *, test: bool) -> Path | None:
    folder, training, testing, _ = SETS[name]
    return min((absa / folder).glob(testing if test else training), default=None)


def _read(absa: Path, name: str, *, test: bool) -> list[Sentence]:
    """Nothing where the benchmark is not there."""
    path = _file(absa, name, test=test)
    return SETS[name][3](path, name.lower()) if path else []


def cell_name(encoder: str, name: str, preset: str, config: Config, changes: Sequence[Change] = ()) -> str:
    """lap14-minilm-improved-cvib-e5-s0; the input is named only where it is not the pair, and what was changed of the preset."""
    kind = "" if config.input == "pair" else f"-{config.input}"
    kind += "".join(f"-{name}={_shown(value)}" for name, value in changes)
    return f"{name.lower()}-{encoder}-{preset}-{config.arm}{kind}-e{config.epochs}-s{config.seed}"


def _shown(value: str | float | bool) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


def _read_arts(absa: Path, name: str) -> list[Sentence]:
    path = absa / "arts" / ARTS[name]
    return read_arts(path, name) if path.exists() else []


def _test(net: PolarityNet, encoder: TextEncoder, absa: Path, name: str, second: bool) -> dict[str, object]:
    """Scores by test set, and per ARTS group whether all of it is right: 1 or 0, in the order of the groups' names."""

    def probabilities(sentences: Sequence[Sentence]) -> np.ndarray:
        return softmax(predict_logits(net, pairs(sentences, encoder, second=second), encoder.pad_id))

    out: dict[str, object] = {}
    for test in [name, *([CROSS[name]] if name in CROSS else [])]:
        sentences = _read(absa, test, test=True)
        if sentences:
            out[test] = plain_test(probabilities(sentences), sentences)
    if name in ARTS:
        items = _read_arts(absa, name)
        if not items:
            return out
        p = probabilities(items)
        flags = group_right(p, items)
        out[f"ARTS-{name}"] = arts(p, items) | {"groups_right": "".join(str(int(flags[k])) for k in sorted(flags))}
    return out


def run_cell(args: argparse.Namespace, config: Config, source: Path) -> None:
    """Train and test one cell unless its file is there."""
    cell = cell_name(args.encoder_name, args.set, args.preset, config, args.change)
    target = args.to / f"{cell}.json"
    if target.exists():
        return
    encoder = TextEncoder.load(source / "tokenizer.json")
    tests = [s for name in SETS for s in _read(args.absa, name, test=True)]
    tests += [s for name in ARTS for s in _read_arts(args.absa, name)]
    read = _read(args.absa, args.set, test=False)
    if config.own:
        read += own_sentences()[0]
    kept = drop_leaks(read, tests)
    second = config.input == "pair"
    examples: list[Pair] = pairs(kept, encoder, second=second)
    paths = {"train": _file(args.absa, args.set, test=False), "test": _file(args.absa, args.set, test=True)}
    files = {k: file_hash(path) for k, path in paths.items() if path}
    if len(files) < 2 or not examples:
        raise SystemExit(f"{args.set} is not in {args.absa}")
    if config.own:
        files["own"] = file_hash(OWN)
    folder = args.out / cell
    folder.mkdir(parents=True, exist_ok=True)
    whole, cpu = not (folder / "resume.safetensors").exists(), time.process_time()

    def keep(net: PolarityNet, log: list[dict[str, object]]) -> None:
        save_file({k: v.cpu().contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")

    log = train(
        config, examples, [], source, encoder.pad_id, minutes=args.minutes, bar=not args.quiet, on_best=keep,
        select="last", device=args.device, state=folder / "resume.safetensors", identity={"files": files},
    )  # fmt: skip
    cpu_s = round(time.process_time() - cpu)
    if len(log) < config.epochs:
        report({"cell": cell, "stopped_after_epochs": len(log)})
        return
    net = load_polarity(folder, source).to(args.device)
    trained = {"wall_minutes": log[-1]["minutes"]} | ({"cpu_s": cpu_s} if whole else {})
    result = {
        "kind": "cvib-grid", "cell": cell, "set": args.set, "encoder": args.encoder_name, "preset": args.preset,
        "changes": {name: _shown(value) for name, value in args.change},
        "config": settings(config), "examples": len(examples), "dropped_leaks": len(read) - len(kept), "files": files,
        "training": trained, "device": args.device, "precision": precision(args.device), "torch": torch.__version__, "log": log,
        "tests": rounded(_test(net, encoder, args.absa, args.set, second)),
    }  # fmt: skip
    write(target, result, "cell", "tests")
    (folder / "resume.safetensors").unlink()


def main() -> None:
    """Run every cell asked for that has no file yet."""
    parser = options(__doc__, SETS)
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=["cvib", "plain"])
    parser.add_argument("--preset", choices=sorted(PRESETS), default="improved")
    parser.add_argument("--input", choices=INPUTS, default="pair")
    parser.add_argument(
        "--change", nargs="+", type=change, default=[], metavar="NAME=VALUE",
        help=f"ablations of the preset, not of the plain twin: {', '.join(CHANGES)}; levers, of the twin too: "
        f"{', '.join(LEVERS)}; on and off for switches",
    )  # fmt: skip
    parser.add_argument(
        "--minutes", type=float, default=1e9, help="stop a cell at the end of the epoch in which they ran out"
    )
    args = parser.parse_args()
    if {name for name, _ in args.change} - set(LEVERS) and "plain" in args.arms:
        parser.error(f"of the plain twin --change changes only {' and '.join(LEVERS)}: leave the twin out of --arms")
    if args.input == "sentence" and ("pool", "cls") in args.change:
        parser.error("pool=cls with --input sentence would name the aspect nowhere")
    torch.set_num_threads(args.threads)
    preset = {**PRESETS[args.preset], **(PAPER_SETS.get(args.set, {}) if args.preset == "paper" else {})}
    for seed in args.seeds:
        for arm in args.arms:
            chosen = {"arm": arm, "epochs": args.epochs, "seed": seed, "input": args.input, **dict(args.change)}
            run_cell(args, Config(**{**preset, **chosen}), args.encoder or minilm_dir())


if __name__ == "__main__":
    main()
