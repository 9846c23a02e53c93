"""Training on a user's own labelled texts: polarity, and the extractor where every aspect of every text is marked.

Our own sentences (corpus/own.txt) are seen beside the user's, so that a small file does not forget what is common. A
fifth of the user's texts, chosen by their words, selects the epoch and calibrates; it is never trained on. Where it
holds too few aspects to tell epochs apart, the last one counts.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import save_file
from transformers.utils import logging

from sentiment import tagger
from sentiment.batches import Pair, pairs, tagged
from sentiment.corpora import HELD_OUT_DOMAINS, OWN, file_hash, lowered
from sentiment.data import Sentence, drop_leaks, normalise, read_own
from sentiment.encode import TextEncoder
from sentiment.export import THRESHOLD, export
from sentiment.labelled import Line, by_sentence
from sentiment.metrics import fit_temperature
from sentiment.model import PolarityNet
from sentiment.recipe import PRESETS, Config
from sentiment.train import predict_logits, train

__all__ = ["Recipe", "TooFewTexts", "split", "train_extractor", "train_polarity"]


#: As the model that ships reads: its aspects share a pass of the encoder (docs/cvib.md).
INPUT = "sentence"
#: Fewer aspects choose no epoch: even with 150 two standard errors at 80 % are 6.5 points.
LEAST_TO_SELECT = 150
#: Fewer may make probabilities less sure, never surer: their luck would be taken for skill.
LEAST_TO_SHARPEN = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """What the user may choose. `source` is the encoder's folder: config.json, tokenizer.json and safetensors.

    `encoder` is what the record calls it, by default the folder's name.
    """

    source: Path
    encoder: str = ""
    epochs: int = 5
    seed: int = 0
    arm: str = "cvib"
    with_ours: bool = True
    device: str = "cpu"
    bar: bool = True
    threads: int = field(default_factory=lambda: min(2, len(os.sched_getaffinity(0))))


class TooFewTexts(ValueError):
    """The texts are too few, or too much alike, to be shared out."""


def split(lines: Sequence[Line]) -> tuple[list[Sentence], list[Sentence]]:
    """Sentences to train on and to select with: a text's words decide, so equal texts never stand on both sides.

    A sentence that also stands on the selecting side is not trained on. Raises TooFewTexts.
    """
    sides: tuple[list[Sentence], list[Sentence]] = ([], [])
    for line in lines:
        chosen = hashlib.sha256(normalise(line.text).encode()).digest()[0] % 5 == 0
        sides[chosen].extend(by_sentence(line))
    train = drop_leaks(sides[0], sides[1])
    if not all(any(s.mentions for s in side) for side in (train, sides[1])):
        raise TooFewTexts("too few different texts: none is left to train on, or none to select with")
    return train, sides[1]


def _ours(recipe: Recipe, dev: Sequence[Sentence]) -> list[Sentence]:
    if not recipe.with_ours:
        return []
    return drop_leaks([s for s in read_own(OWN) if s.domain not in HELD_OUT_DOMAINS], dev)


def _prepare(recipe: Recipe) -> None:
    torch.set_num_threads(recipe.threads)
    logging.set_verbosity_error()  # it would list the pooler's weights, which are left out on purpose
    logging.disable_progress_bar()


def _select(aspects: int) -> str:
    return "best" if aspects >= LEAST_TO_SELECT else "last"


def _temperature(logits: NDArray[np.floating], gold: NDArray[np.int64], aspects: int) -> float:
    found = fit_temperature(logits, gold)
    return found if aspects >= LEAST_TO_SHARPEN else max(1.0, found)


def _record(folder: Path, **more: object) -> None:
    (folder / "train.json").write_text(json.dumps(more, indent=1) + "\n", encoding="utf-8")


def train_polarity(file: Path, lines: Sequence[Line], out: Path, recipe: Recipe) -> dict[str, object]:
    """Train, export to out/cvib, and return the selection set's scores. Resumes a run that was killed."""
    _prepare(recipe)
    encoder = TextEncoder.load(recipe.source / "tokenizer.json")
    user, selection = split(lines)
    ours = _ours(recipe, selection)
    choices = {"arm": recipe.arm, "epochs": recipe.epochs, "seed": recipe.seed, "input": INPUT}
    config = Config(**{**PRESETS["improved"], **choices})  # type: ignore[arg-type]
    second = config.input == "pair"
    examples: list[Pair] = pairs([*user, *(lowered(s) for s in user), *ours], encoder, second=second)
    dev = pairs(selection, encoder, second=second)
    select = _select(len(dev))
    folder = out / "train" / "cvib"
    folder.mkdir(parents=True, exist_ok=True)
    files = {file.name: file_hash(file), **({OWN.name: file_hash(OWN)} if ours else {})}

    def keep(net: PolarityNet, log: list[dict[str, object]]) -> None:
        save_file({k: v.cpu().contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
        gold = np.array([p.label for p in dev])
        temperature = _temperature(predict_logits(net, dev, encoder.pad_id), gold, len(dev))
        _record(
            folder, config=dataclasses.asdict(config), examples=len(examples), dev=len(dev), select=select,
            temperature=temperature, files=files, encoder=recipe.encoder or recipe.source.name, device=recipe.device,
            log=log,
        )  # fmt: skip

    log = train(
        config, examples, dev, recipe.source, encoder.pad_id, minutes=1e9, bar=recipe.bar, on_best=keep,
        select=select, device=recipe.device, state=folder / "resume.safetensors", identity={"files": files},
    )  # fmt: skip
    settings = export("cvib", folder, out / "cvib", recipe.source)
    shutil.copyfile(folder / "train.json", out / "cvib" / "train.json")
    scores = [row["dev"] for row in log]
    chosen = scores[-1] if select == "last" else max(scores, key=lambda dev: (dev["accuracy"], dev["macro_f1"]))  # type: ignore[index]
    return {
        "version": settings["version"],
        "examples": len(examples),
        "epoch": select,
        "selection": chosen,
        "minutes": log[-1]["minutes"],
    }


def train_extractor(file: Path, lines: Sequence[Line], out: Path, recipe: Recipe) -> dict[str, object]:
    """Train, export to out/aspects, and return the selection set's scores."""
    _prepare(recipe)
    encoder = TextEncoder.load(recipe.source / "tokenizer.json")
    user, selection = split(lines)
    ours = _ours(recipe, selection)
    pool = [*user, *(lowered(s) for s in user), *ours]
    folder = out / "train" / "aspects"
    folder.mkdir(parents=True, exist_ok=True)
    files = {file.name: file_hash(file), **({OWN.name: file_hash(OWN)} if ours else {})}
    marked = sum(len(s.mentions) for s in selection)
    select = _select(marked)
    net, log = tagger.train(
        pool, selection, recipe.source, encoder, epochs=recipe.epochs, seed=recipe.seed, lr=1e-4, bar=recipe.bar,
        select=select, device=recipe.device, state=folder / "resume.safetensors", identity={"files": files},
    )  # fmt: skip
    dev = tagged(selection, encoder)
    logits = np.concatenate(tagger.predict_tags(net, dev, encoder.pad_id))
    temperature = _temperature(logits, np.concatenate([np.array(t.tags) for t in dev]), marked)
    save_file({k: v.cpu().contiguous() for k, v in net.state_dict().items()}, folder / "model.safetensors")
    _record(
        folder, sentences=len(pool), dev=len(selection), select=select, files=files,
        encoder=recipe.encoder or recipe.source.name, device=recipe.device, log=log, temperature=temperature,
    )  # fmt: skip
    settings = export("aspects", folder, out / "aspects", recipe.source)
    shutil.copyfile(folder / "train.json", out / "aspects" / "train.json")
    return {
        "version": settings["version"],
        "sentences": len(pool),
        "epoch": select,
        "selection": tagger.score(net, selection, encoder, temperature=temperature, threshold=THRESHOLD),
        "minutes": log[-1]["minutes"],
    }
