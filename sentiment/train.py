"""Training of the polarity model: CVIB, its plain twin, and the two ablations, one switch each.

    python -m sentiment.train --absa DIR --out DIR --arm cvib --preset improved --epochs 3

main (plain) and sub (gated) start from one encoder. L_main = CE + a * SCL(sub fixed); L_sub = CE + b * KL + a * SCL(main fixed).
The arm `plain` trains one network with cross-entropy alone: same encoder, head, examples, epochs, selection and seed.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sentiment.batches import Pair, length_batches, pair_batch, pairs
from sentiment.corpora import lowered, shipped
from sentiment.encode import TextEncoder
from sentiment.losses import self_contrast
from sentiment.metrics import classification, fit_temperature
from sentiment.model import PolarityNet, load_encoder, minilm_dir
from sentiment.report import report

__all__ = ["ARMS", "PRESETS", "Config", "predict_logits", "train"]

ARMS = ("cvib", "plain", "no_vib", "no_contrast")


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """Everything that decides the weights, beside the data's hashes."""

    arm: str = "cvib"
    epochs: int = 3
    seed: int = 0
    batch: int = 32
    accumulate: int = 1
    contrast: float = 0.25  # a
    tau: float = 0.05
    kl: float = 2.5e-7  # b
    dropout: float = 0.3
    encoder_lr: float = 5e-5
    bias_lr: float = 1e-3  # biases and LayerNorm weights, as the released code does; 0: like the encoder
    head_lr: float = 1e-3
    gate_lr: float = 5e-3
    noise_lr: float = 5e-3  # of logD alone: few steps need a faster one to get from -9 to where channels fall
    warmup: float = 0.0  # share of the steps; then a linear fall to 0; 0: no schedule
    label_aware: bool = False
    symmetric: bool = False
    kl_per_channel: bool = False


PRESETS: dict[str, dict[str, object]] = {
    "paper": {},
    # KL per channel: 0.02 presses like the paper's 2.5e-7 does on 12 x 768 channels and about 20 tokens.
    "improved": {
        "label_aware": True, "symmetric": True, "kl_per_channel": True, "kl": 0.02,
        "encoder_lr": 1e-4, "bias_lr": 0.0, "gate_lr": 1e-2, "noise_lr": 3e-2, "warmup": 0.06, "dropout": 0.1,
    },
}  # fmt: skip


def _groups(net: PolarityNet, config: Config) -> list[dict[str, object]]:
    plain, small = [], []
    for name, p in net.encoder.named_parameters():
        (small if name.endswith("bias") or "LayerNorm" in name else plain).append(p)
    groups: list[dict[str, object]] = [
        {"params": plain, "lr": config.encoder_lr},
        {"params": small, "lr": config.bias_lr or config.encoder_lr},
        {"params": list(net.head.parameters()), "lr": config.head_lr},
    ]
    if net.gates is not None:
        groups.append({"params": [g.mu for g in net.gates.each()], "lr": config.gate_lr})
        groups.append({"params": [g.log_d for g in net.gates.each()], "lr": config.noise_lr})
    return groups


@torch.inference_mode()
def predict_logits(net: PolarityNet, examples: Sequence[Pair], pad_id: int, size: int = 64) -> NDArray[np.float32]:
    """[n, 3], in the order of the examples."""
    net.eval()
    out = np.zeros((len(examples), 3), dtype=np.float32)
    for index in length_batches([len(p.encoded.ids) for p in examples], size, None):
        batch = pair_batch([examples[i] for i in index], pad_id)
        out[index] = net(*batch.inputs)[0].float().numpy()
    net.train()
    return out


def score(net: PolarityNet, examples: Sequence[Pair], pad_id: int) -> dict[str, float]:
    """Accuracy and macro-F1 of a network on examples."""
    gold = np.array([p.label for p in examples])
    return classification(gold, predict_logits(net, examples, pad_id).argmax(axis=1))


def step_loss(
    main: PolarityNet | None, sub: PolarityNet, inputs: tuple[Tensor, ...], labels: Tensor, config: Config
) -> Tensor:
    """One batch's loss; gradients of L_main reach only main, those of L_sub only sub."""
    logits, h_sub = sub(*inputs)
    loss = F.cross_entropy(logits.float(), labels)
    if sub.gates is not None:
        loss = loss + config.kl * sub.gates.kl(inputs[1].sum(1), per_channel=config.kl_per_channel)
    if main is None:
        return loss
    main_logits, h_main = main(*inputs)
    loss = loss + F.cross_entropy(main_logits.float(), labels)
    kwargs = {"tau": config.tau, "labels": labels if config.label_aware else None, "symmetric": config.symmetric}
    contrast = self_contrast(h_sub, h_main.detach(), **kwargs) + self_contrast(h_sub.detach(), h_main, **kwargs)
    return loss + config.contrast * contrast


def train(
    config: Config,
    examples: list[Pair],
    dev: list[Pair],
    source: str | Path,
    pad_id: int,
    *,
    minutes: float,
    bar: bool,
    on_best: Callable[[PolarityNet, list[dict[str, object]]], None],
) -> list[dict[str, object]]:
    """Calls on_best with the served network after each epoch that is the best yet on dev (accuracy, then macro-F1).

    Returns the log: one row per epoch.
    Stops at the end of the epoch in which `minutes` ran out.
    """
    torch.manual_seed(config.seed)
    np.random.seed(config.seed)
    rng = random.Random(config.seed)
    sub = PolarityNet(load_encoder(source), gated=config.arm in ("cvib", "no_contrast"), dropout=config.dropout)
    main = None
    if config.arm in ("cvib", "no_vib"):
        main = PolarityNet(load_encoder(source), gated=False, dropout=config.dropout)
    nets: list[nn.Module] = [sub] if main is None else [sub, main]
    optimizer = torch.optim.AdamW([g for n in nets for g in _groups(n, config)], weight_decay=0.0, fused=True)  # type: ignore[arg-type]
    lengths = [len(p.encoded.ids) for p in examples]
    per_epoch = len(range(0, len(examples), config.batch)) // config.accumulate + 1
    total, warm = per_epoch * config.epochs, max(1, int(per_epoch * config.epochs * config.warmup))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda s: min((s + 1) / warm, max(0.0, (total - s) / max(1, total - warm))) if config.warmup else 1.0
    )
    best: tuple[float, float] = (-1.0, -1.0)
    log: list[dict[str, object]] = []
    began = time.monotonic()
    for epoch in range(config.epochs):
        losses = []
        batches = list(length_batches(lengths, config.batch, rng))
        for n, index in enumerate(tqdm(batches, desc=f"epoch {epoch + 1}", disable=not bar, mininterval=10)):
            batch = pair_batch([examples[i] for i in index], pad_id)
            with torch.autocast("cpu", dtype=torch.bfloat16):
                loss = step_loss(main, sub, batch.inputs, batch.labels, config)
            (loss / config.accumulate).backward()
            losses.append(loss.item())
            if (n + 1) % config.accumulate == 0 or n + 1 == len(batches):
                for net in nets:
                    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad(set_to_none=True)
                schedule.step()
        got = score(sub, dev, pad_id)
        row: dict[str, object] = {"epoch": epoch + 1, "loss": round(float(np.mean(losses)), 4), "dev": got}
        row["minutes"] = round((time.monotonic() - began) / 60, 1)
        if sub.gates is not None:
            row["prune_rates"] = [round(r, 3) for r in sub.gates.prune_rates()]
        report(row)
        log.append(row)
        if (got["accuracy"], got["macro_f1"]) > best:
            best = (got["accuracy"], got["macro_f1"])
            on_best(sub, log)
        if time.monotonic() - began > minutes * 60:
            break
    return log


def main() -> None:
    """Train on the pool of the models that ship and write model.safetensors and train.json into --out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument(
        "--absa", type=Path, required=True, help="folder with mams/ATSA, tsa_md and the benchmarks' test files"
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--encoder", type=Path, default=None, help="folder of a BERT-like encoder; default: MiniLM from its wheel"
    )
    parser.add_argument("--preset", choices=sorted(PRESETS), default="improved")
    parser.add_argument("--arm", choices=ARMS, default="cvib")
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mams", type=int, default=0, help="only this many examples of MAMS, drawn by seed; 0: all")
    parser.add_argument("--own-copies", type=int, default=1, help="times our own examples are seen per epoch")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    parser.add_argument("--without-own", action="store_true")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = args.encoder or minilm_dir()
    encoder = TextEncoder.load(source / "tokenizer.json")
    config = Config(**{**PRESETS[args.preset], "arm": args.arm, "epochs": args.epochs, "seed": args.seed})  # type: ignore[arg-type]
    splits = shipped(args.absa, own=not args.without_own)
    own = [s for s in splits.train if s.domain not in ("mams", "tsa_md")]
    rng = random.Random(args.seed)
    mams = pairs([s for s in splits.train if s.domain == "mams"], encoder)
    others = pairs([s for s in splits.train if s.domain == "tsa_md"], encoder)
    ours = pairs([*own, *(lowered(s) for s in own)], encoder) * args.own_copies
    examples = [*(rng.sample(mams, min(args.mams, len(mams))) if args.mams else mams), *others, *ours]
    dev = pairs(splits.dev, encoder)
    report({"examples": len(examples), "dev": len(dev), "config": dataclasses.asdict(config)})
    args.out.mkdir(parents=True, exist_ok=True)

    def save(net: PolarityNet, log: list[dict[str, object]]) -> None:
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, args.out / "model.safetensors")
        logits = predict_logits(net, dev, encoder.pad_id)
        record = {
            "config": dataclasses.asdict(config),
            "preset": args.preset,
            "examples": {"mams": args.mams or len(mams), "tsa_md": len(others), "own": len(ours)},
            "dev": len(dev),
            "temperature": fit_temperature(logits, np.array([p.label for p in dev])),
            "files": splits.files,
            "encoder": source.name,
            "log": log,
        }
        (args.out / "train.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    train(config, examples, dev, source, encoder.pad_id, minutes=args.minutes, bar=not args.quiet, on_best=save)


if __name__ == "__main__":
    main()
