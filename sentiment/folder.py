"""Serving folders (model.onnx, tokenizer.json, model.json, perhaps CARD.md and train.json): their version, and putting one
into a model repository.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from pathlib import Path

__all__ = ["checked", "content_version", "install", "stamp"]

FILES = ("model.onnx", "tokenizer.json", "model.json")
NOTES = ("CARD.md", "train.json")  # of these weights alone; in a model repository they stand beside config.pbtxt


def content_version(folder: Path) -> str:
    """12 hex digits over the graph, the tokenizer and the settings (without the version itself)."""
    digest = hashlib.sha256()
    for name in ("model.onnx", "tokenizer.json"):
        digest.update((folder / name).read_bytes())
    settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    settings.pop("version", None)
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def stamp(config: Path, version: str) -> None:
    """Write the version into a model's config.pbtxt, from where it goes into every run."""
    text = config.read_text(encoding="utf-8")
    pattern = r'(key: "version" value \{ string_value: ")[^"]*'
    partial = config.with_name(f"{config.name}.partial")
    partial.write_text(re.sub(pattern, rf"\g<1>{version}", text), encoding="utf-8")
    partial.replace(config)


def checked(folder: Path, model: Path) -> str:
    """The version of a serving folder that `install` may put into this model. Changes nothing.

    Raises ValueError for a folder that is no serving folder of this model's kind, or whose version is not that of its
    files; for a model without the files that it would replace.
    """
    for place, names in ((folder, FILES), (model / "1", FILES), (model, ("config.pbtxt",))):
        missing = [name for name in names if not (place / name).is_file()]
        if missing:
            raise ValueError(f"{place} has no {', '.join(missing)}")
    try:
        settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    except ValueError as err:
        raise ValueError(f"{folder / 'model.json'} describes no model ({err})") from None
    kind = settings.get("kind") if isinstance(settings, dict) else None
    if kind != model.name:
        raise ValueError(f"{folder} holds a model of kind {kind}, not {model.name}")
    version = content_version(folder)
    if settings.get("version") != version:
        raise ValueError(f"{folder}: the files are not those that model.json was written for; export them anew")
    return version


def install(folder: Path, model: Path, keep: Path) -> str:
    """Put a serving folder's files into model/1, its card and record into model, stamp model/config.pbtxt; the version.

    What was there goes to keep/NAME-VERSION, from where the same call brings it back; no card stays beside other weights.
    Raises what `checked` raises, before anything is changed.
    """
    version = checked(folder, model)
    served = model / "1"
    before = content_version(served)
    if before != version:
        aside = keep / f"{model.name}-{before}"
        _copy(served, aside)
        for name in NOTES:
            if (model / name).is_file():
                shutil.move(model / name, aside / name)
        _copy(folder, served)
    for name in NOTES:
        if (folder / name).is_file():
            shutil.copyfile(folder / name, model / name)
    stamp(model / "config.pbtxt", version)
    return version


def _copy(source: Path, target: Path) -> None:
    """All of them or, where the disk is full, none; model.json last, which says what the others are."""
    target.mkdir(parents=True, exist_ok=True)
    for name in FILES:
        shutil.copyfile(source / name, target / f"{name}.partial")
    for name in FILES:
        (target / f"{name}.partial").replace(target / name)
