"""Training of the polarity model: CVIB, its plain twin, and the two ablations, one switch each.

    python -m sentiment.train --absa DIR --out DIR --arm cvib --preset improved --epochs 3

A run that was killed goes on from its last whole epoch when the same command is given again.

main (plain) and sub (gated) start from one encoder. L_main = CE + a * SCL(sub fixed); L_sub = CE + b * KL + a * SCL(main fixed).
The arm `plain` trains one network with cross-entropy alone: same encoder, head, examples, epochs, selection and seed.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from sentiment.batches import Pair, PairBatch, length_batches, pair_batch, pairs, shared_batch, shared_batches
from sentiment.checkpoint import digest, fingerprint, restore, save
from sentiment.corpora import lowered, shipped
from sentiment.encode import TextEncoder
from sentiment.gates import places
from sentiment.losses import self_contrast
from sentiment.metrics import classification, fit_temperature
from sentiment.model import PolarityNet, load_encoder, minilm_dir
from sentiment.precision import autocast, precision
from sentiment.recipe import ARMS, INPUTS, PRESETS, Config, settings
from sentiment.report import report
from sentiment.schedule import Schedule

__all__ = ["ARMS", "PRESETS", "Config", "predict_logits", "train"]


def _groups(net: PolarityNet, config: Config, noise_lr: float) -> list[dict[str, object]]:
    plain: list[nn.Parameter] = []
    small: list[nn.Parameter] = []
    for name, p in net.encoder.named_parameters():
        (small if name.endswith("bias") or "LayerNorm" in name else plain).append(p)
    groups: list[dict[str, object]] = [
        {"params": plain, "lr": config.encoder_lr},
        {"params": small, "lr": config.bias_lr or config.encoder_lr},
        {"params": list(net.head.parameters()), "lr": config.head_lr},
    ]
    if net.gates is not None:
        groups.append({"params": [g.mu for g in net.gates.each()], "lr": config.gate_lr, "gates": True})
        groups.append({"params": [g.log_d for g in net.gates.each()], "lr": noise_lr, "gates": True})
    return [{"gates": False, **group} for group in groups]


@torch.inference_mode()
def predict_logits(net: PolarityNet, examples: Sequence[Pair], pad_id: int, size: int = 64) -> NDArray[np.float32]:
    """[n, 3], in the order of the examples; `size` token sequences a batch, equal ones read once."""
    net.eval()
    device = str(next(net.parameters()).device)
    out = np.zeros((len(examples), 3), dtype=np.float32)
    for index in shared_batches(examples, size):
        batch = shared_batch([examples[i] for i in index], pad_id, device)
        out[index] = net(*batch)[0].float().cpu().numpy()
    net.train()
    return out


def score(net: PolarityNet, examples: Sequence[Pair], pad_id: int) -> dict[str, float]:
    """Accuracy and macro-F1 of a network on examples."""
    gold = np.array([p.label for p in examples])
    return classification(gold, predict_logits(net, examples, pad_id).argmax(axis=1))


def step_loss(
    main: PolarityNet | None, sub: PolarityNet, inputs: tuple[Tensor, ...], labels: Tensor, config: Config,
    pressure: float = 1.0,
) -> Tensor:  # fmt: skip
    """One batch's loss; gradients of L_main reach only main, those of L_sub only sub. `pressure`: the share of b in force."""
    logits, h_sub = sub(*inputs)
    loss = F.cross_entropy(logits.float(), labels)
    if sub.gates is not None:
        loss = loss + pressure * config.kl * sub.gates.kl(inputs[1].sum(1), per_channel=config.kl_per_channel)
    if main is None:
        return loss
    with sub.gates.aside() if sub.gates is not None else nullcontext():
        main_logits, h_main = main(*inputs)
    loss = loss + F.cross_entropy(main_logits.float(), labels)

    def contrast(a: Tensor, b: Tensor) -> Tensor:
        aware = labels if config.label_aware else None
        return self_contrast(a, b, tau=config.tau, labels=aware, symmetric=config.symmetric)

    return loss + config.contrast * (contrast(h_sub, h_main.detach()) + contrast(h_sub.detach(), h_main))


class Learner:
    """The networks of one training, and their optimizer: the served one, and with CVIB or the contrast alone a second."""

    def __init__(self, config: Config, source: str | Path, schedule: Schedule, device: str) -> None:
        self._config, self._schedule, self._device = config, schedule, device
        self.steps = 0  # of the optimizer, so far
        encoder = load_encoder(source)
        gated = config.arm in ("cvib", "no_contrast")
        gates = places(config.gates, int(encoder.config.num_hidden_layers)) if gated else ()
        self.sub = PolarityNet(encoder, gates=gates, dropout=config.dropout, pool=config.pool)
        self._main: PolarityNet | None = None
        self.nets: dict[str, nn.Module] = {"sub": self.sub}
        if config.arm in ("cvib", "no_vib"):
            second = encoder if config.shared else load_encoder(source)
            self._main = PolarityNet(second, dropout=config.dropout, pool=config.pool)
            self.nets["main"] = self._main.head if config.shared else self._main  # what is main's own
        for net in self.nets.values():
            net.to(device)
        groups = _groups(self.sub, config, schedule.noise_lr)
        if self._main is not None:
            more = _groups(self._main, config, schedule.noise_lr)
            groups += more[-1:] if config.shared else more
        self.optimizer = torch.optim.AdamW(groups, lr=config.encoder_lr, weight_decay=0.0, fused=True)
        self._rates = [float(group["lr"]) for group in self.optimizer.param_groups]

    def epoch(self, batches: Iterable[PairBatch], count: int, epochs: int) -> float:
        """The mean loss of these `count` batches; so many `epochs` were before."""
        losses = []
        for n, batch in enumerate(batches):
            pressure = self._schedule.pressure(self.steps)
            with autocast(self._device):
                loss = step_loss(self._main, self.sub, batch.inputs, batch.labels, self._config, pressure)
            accumulate = self._config.accumulate
            gathered = min(accumulate, count - n + n % accumulate)  # the last group may be smaller
            (loss / gathered).backward()
            losses.append(loss.item())
            if (n + 1) % accumulate == 0 or n + 1 == count:
                self._step(epochs)
        return float(np.mean(losses))

    def _step(self, epochs: int) -> None:
        share, gates_share = self._schedule.share(self.steps), self._schedule.gates_share(epochs)
        for group, rate in zip(self.optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate * share * (gates_share if group["gates"] else 1.0)
        for net in self.nets.values():
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        self.steps += 1


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
    select: str = "best",
    device: str = "cpu",
    state: Path | None = None,
    identity: Mapping[str, object] | None = None,
) -> list[dict[str, object]]:
    """Calls on_best with the served network after each epoch that is the best yet on dev (accuracy, then macro-F1).

    With select `last` it is called once, after the last epoch, and dev may be empty. Returns the log: one row per epoch.
    Stops at the end of the epoch in which `minutes` ran out. `state` is a file written after every epoch: a run that
    finds it goes on from there, to the same weights. Config, examples, dev, the encoder's weights and `identity` (hashes
    of files, say) must then be the same: else StaleCheckpoint.
    """
    torch.manual_seed(config.seed)
    rng = random.Random(config.seed)
    learner = Learner(config, source, Schedule.over(config, len(examples)), device)
    sub, lengths = learner.sub, [len(p.encoded.ids) for p in examples]
    best: tuple[float, float] = (-1.0, -1.0)
    log: list[dict[str, object]] = []
    spent = 0.0
    same = {
        "config": settings(config), "examples": digest(examples), "dev": digest(dev),
        "encoder": fingerprint(sub.encoder), "precision": precision(device), **(identity or {}),
    }  # fmt: skip
    found = restore(state, learner.nets, learner.optimizer, rng, same) if state else None
    if found:
        log, learner.steps, best, spent = found["log"], found["step"], tuple(found["best"]), found["minutes"]  # type: ignore[assignment, arg-type]
        report({"resumed": str(state), "epochs": len(log)})
    began = time.monotonic() - spent * 60
    while len(log) < config.epochs and time.monotonic() - began < minutes * 60:
        chosen = list(length_batches(lengths, config.batch, rng))
        shown = tqdm(chosen, desc=f"epoch {len(log) + 1}", disable=not bar, mininterval=10)
        batches = (pair_batch([examples[i] for i in index], pad_id, device) for index in shown)
        loss = learner.epoch(batches, len(chosen), len(log))
        row: dict[str, object] = {"epoch": len(log) + 1, "loss": round(loss, 4)}
        row["minutes"] = round((time.monotonic() - began) / 60, 1)
        if sub.gates is not None:
            row["prune_rates"] = [round(r, 4) for r in sub.gates.prune_rates()]
        got = score(sub, dev, pad_id) if dev else None
        if got is not None:
            row["dev"] = got
        report(row)
        log.append(row)
        if select == "best" and got is not None and (got["accuracy"], got["macro_f1"]) > best:
            best = (got["accuracy"], got["macro_f1"])
            on_best(sub, log)
        if state:
            progress = {
                "log": log, "step": learner.steps, "best": best, "minutes": (time.monotonic() - began) / 60,
            }  # fmt: skip
            save(state, learner.nets, learner.optimizer, rng, same, progress)
    if select == "last":
        on_best(sub, log)
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
    parser.add_argument("--input", choices=INPUTS, default="pair")
    parser.add_argument("--accumulate", type=int, default=1, help="batches whose gradients make one step")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    source = args.encoder or minilm_dir()
    encoder = TextEncoder.load(source / "tokenizer.json")
    chosen = {name: getattr(args, name) for name in ("arm", "epochs", "seed", "input", "accumulate")}
    config = Config(**{**PRESETS[args.preset], **chosen})
    second = args.input == "pair"
    splits = shipped(args.absa, own=not args.without_own)
    own = [s for s in splits.train if s.domain not in ("mams", "tsa_md")]
    rng = random.Random(args.seed)
    mams = pairs([s for s in splits.train if s.domain == "mams"], encoder, second=second)
    others = pairs([s for s in splits.train if s.domain == "tsa_md"], encoder, second=second)
    ours = pairs([*own, *(lowered(s) for s in own)], encoder, second=second) * args.own_copies
    examples = [*(rng.sample(mams, min(args.mams, len(mams))) if args.mams else mams), *others, *ours]
    dev = pairs(splits.dev, encoder, second=second)
    report({"examples": len(examples), "dev": len(dev), "config": settings(config)})
    args.out.mkdir(parents=True, exist_ok=True)

    def keep(net: PolarityNet, log: list[dict[str, object]]) -> None:
        save_file({k: v.cpu().contiguous() for k, v in net.state_dict().items()}, args.out / "model.safetensors")
        logits = predict_logits(net, dev, encoder.pad_id)
        record = {
            "config": settings(config),
            "preset": args.preset,
            "examples": {"mams": args.mams or len(mams), "tsa_md": len(others), "own": len(ours)},
            "dev": len(dev),
            "temperature": fit_temperature(logits, np.array([p.label for p in dev])),
            "files": splits.files,
            "encoder": source.name,
            "precision": precision(args.device),
            "log": log,
        }
        (args.out / "train.json").write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")

    train(
        config, examples, dev, source, encoder.pad_id, minutes=args.minutes, bar=not args.quiet, on_best=keep,
        device=args.device, state=args.out / "resume.safetensors", identity={"files": splits.files},
    )  # fmt: skip


if __name__ == "__main__":
    main()
