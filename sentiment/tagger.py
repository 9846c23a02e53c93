"""Training of the aspect extractor: B, I, O for every word, on sentences with and without aspects.

python -m sentiment.tagger --absa DIR --out DIR --epochs 4
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional as F
from tqdm import tqdm

from sentiment.batches import IGNORED, Tagged, length_batches, tag_batch, tagged
from sentiment.checkpoint import digest, fingerprint, restore, save
from sentiment.corpora import clauses_without_aspect, lowered, parts_only, shipped
from sentiment.data import Sentence, drop_leaks
from sentiment.encode import TextEncoder
from sentiment.metrics import fit_temperature, span_scores
from sentiment.model import TagNet, load_encoder, minilm_dir
from sentiment.precision import autocast, precision
from sentiment.report import report
from sentiment.spans import decode, joined

__all__ = ["predict_tags", "score", "train"]


@torch.inference_mode()
def predict_tags(net: TagNet, examples: Sequence[Tagged], pad_id: int, size: int = 64) -> list[NDArray[np.float32]]:
    """Per window, logits [words, 3]."""
    net.eval()
    device = str(next(net.parameters()).device)
    out: list[NDArray[np.float32]] = [np.zeros((0, 3), np.float32)] * len(examples)
    for index in length_batches([len(t.words.ids) for t in examples], size, None):
        batch = tag_batch([examples[i] for i in index], pad_id)
        logits = net(batch.ids.to(device), batch.mask.to(device)).float().cpu().numpy()
        for row, i in enumerate(index):
            out[i] = logits[row, examples[i].words.first]
    net.train()
    return out


def score(
    net: TagNet,
    sentences: Sequence[Sentence],
    encoder: TextEncoder,
    *,
    temperature: float = 1.0,
    threshold: float = 0.0,
    only_parts: bool = True,
) -> dict[str, float]:
    """Exact-match spans, from all windows of a sentence as the served extractor joins them; `only_parts` as of `decode`."""
    windows = [tagged([s], encoder) for s in sentences]
    logits = iter(predict_tags(net, [one for some in windows for one in some], encoder.pad_id))
    found = []
    for s, some in zip(sentences, windows, strict=True):
        words, tags = joined([(one.words.spans, next(logits)) for one in some])
        spans = decode(s.text, words, tags, temperature=temperature, threshold=threshold, only_parts=only_parts)
        found.append([(span.start, span.end) for span in spans])
    return span_scores([[(m.start, m.end) for m in s.mentions] for s in sentences], found)


def train(
    sentences: list[Sentence],
    dev: list[Sentence],
    source: Path,
    encoder: TextEncoder,
    *,
    epochs: int,
    seed: int,
    lr: float,
    device: str = "cpu",
    bar: bool = True,
    select: str = "best",
    state: Path | None = None,
    identity: Mapping[str, object] | None = None,
) -> tuple[TagNet, list[dict[str, object]]]:
    """The network of the epoch with the best dev score (F1 less half the false-span rate), and the log; `last`: of the last,
    for which `dev` may be empty.

    `state` is a file written after every epoch, from which a killed run goes on to the same weights.
    """
    torch.manual_seed(seed)
    rng = random.Random(seed)
    net = TagNet(load_encoder(source), dropout=0.1).to(device)
    best_net = copy.deepcopy(net)
    examples = tagged(sentences, encoder)
    lengths = [len(t.words.ids) for t in examples]
    optimizer = torch.optim.AdamW(
        [{"params": net.encoder.parameters(), "lr": lr}, {"params": net.head.parameters(), "lr": 1e-3}],
        weight_decay=0.01,
        fused=True,
    )
    total = (len(examples) // 32 + 1) * epochs
    rates = [float(group["lr"]) for group in optimizer.param_groups]
    nets = {"net": net, "best": best_net}
    same = {
        "epochs": epochs, "seed": seed, "lr": lr, "select": select, "examples": digest(examples), "dev": digest(dev),
        "encoder": fingerprint(net.encoder), "precision": precision(device), **(identity or {}),
    }  # fmt: skip
    best, step, spent, log = -1.0, 0, 0.0, list[dict[str, object]]()
    found = restore(state, nets, optimizer, rng, same) if state else None
    if found:
        log, step, best, spent = found["log"], found["step"], found["best"], found["minutes"]  # type: ignore[assignment]
        report({"resumed": str(state), "epochs": len(log)})
    began = time.monotonic() - spent * 60
    while len(log) < epochs:
        batches = list(length_batches(lengths, 32, rng))
        for index in tqdm(batches, desc=f"epoch {len(log) + 1}", disable=not bar, mininterval=10):
            batch = tag_batch([examples[i] for i in index], encoder.pad_id)
            with autocast(device):
                logits = net(batch.ids.to(device), batch.mask.to(device))
            labels = batch.labels.flatten().to(device)
            loss = F.cross_entropy(logits.float().flatten(0, 1), labels, ignore_index=IGNORED)
            loss.backward()
            scale = min((step + 1) / (0.06 * total), max(0.0, (total - step) / (0.94 * total)))
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate * scale
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            step += 1
        got = score(net, dev, encoder) if dev else {}
        minutes = (time.monotonic() - began) / 60
        row: dict[str, object] = {"epoch": len(log) + 1, "dev": got, "minutes": round(minutes, 1)}
        report(row)
        log.append(row)
        value = got["f1"] - got["false_span_rate"] / 2 if dev else 0.0
        if value > best or select == "last":
            best = value
            best_net.load_state_dict(net.state_dict())
        if state:
            save(state, nets, optimizer, rng, same, {"log": log, "step": step, "best": best, "minutes": minutes})
    return best_net, log


def main() -> None:
    """Train on the pool of the models that ship and write model.safetensors and train.json into --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--absa", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--clauses", type=int, default=1500, help="aspect-free clauses cut from MAMS and TSA-MD")
    parser.add_argument(
        "--own-copies",
        type=int,
        default=2,
        help="times our own sentences are seen per epoch, beside a lower-cased copy",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = args.encoder or minilm_dir()
    encoder = TextEncoder.load(source / "tokenizer.json")
    splits = shipped(args.absa)
    public = [s if s.domain == "mams" else parts_only(s) for s in splits.train if s.domain in ("mams", "tsa_md")]
    selection = [parts_only(s) if s.domain == "tsa_md" else s for s in splits.dev]
    own = [s for s in splits.train if s.domain not in ("mams", "tsa_md")]
    clauses = drop_leaks(clauses_without_aspect(public, args.seed), splits.tests)[: args.clauses]
    spoken = [lowered(s) for s in [*own, *random.Random(args.seed).sample(public, len(public) // 4)]]
    pool = [*public, *clauses, *spoken, *(own * args.own_copies)]
    args.out.mkdir(parents=True, exist_ok=True)
    net, log = train(
        pool, selection, source, encoder, epochs=args.epochs, seed=args.seed, lr=args.lr, device=args.device,
        bar=not args.quiet, state=args.out / "resume.safetensors", identity={"files": splits.files},
    )  # fmt: skip
    dev = tagged(selection, encoder)
    logits = np.concatenate(predict_tags(net, dev, encoder.pad_id))
    temperature = fit_temperature(logits, np.concatenate([np.array(t.tags) for t in dev]))
    save_file({k: v.cpu().contiguous() for k, v in net.state_dict().items()}, args.out / "model.safetensors")
    record = {
        "arguments": {k: str(v) for k, v in vars(args).items() if k not in ("absa", "out", "encoder")}, "log": log,
        "sentences": {"public": len(public), "own": len(own), "clauses": len(clauses), "spoken": len(spoken), "pool": len(pool)},
        "dev": len(selection), "temperature": temperature, "files": splits.files, "encoder": source.name,
        "precision": precision(args.device),
    }  # fmt: skip
    (args.out / "train.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
