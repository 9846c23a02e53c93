"""Serving folders (model.onnx, tokenizer.json, model.json, perhaps CARD.md and train.json): their version, and putting one
into a model repository.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
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


def install(models: Mapping[Path, Path], keep: Path) -> dict[Path, str]:
    """Put serving folders (values) into models of a repository (keys): all of them, or none; the version of each.

    A folder's files go into model/1, its card and record into model, its version into model/config.pbtxt. What was there
    goes to keep/NAME-VERSION, from where the same call brings it back; no card stays beside other weights.
    Raises what `checked` raises, and OSError, before anything is changed: all that takes room or rights is written beside
    the files that it will replace. (Who is killed among the last renames has some of each: the same call mends that.)
    """
    versions = {model: checked(folder, model) for model, folder in models.items()}
    before = {model: content_version(model / "1") for model in models}
    ready: list[Path] = []
    try:
        for model, folder in models.items():
            if before[model] != versions[model]:
                _keep(model, keep / f"{model.name}-{before[model]}", ready)
            for name in FILES:
                _beside(folder / name, model / "1" / name, ready)
            for name in NOTES:
                if (folder / name).is_file():
                    _beside(folder / name, model / name, ready)
            _beside(model / "config.pbtxt", model / "config.pbtxt", ready)
            stamp(ready[-1], versions[model])
    except BaseException:
        for partial in ready:
            partial.unlink(missing_ok=True)
        raise
    for partial in ready:
        partial.replace(partial.with_suffix(""))
    for model, folder in models.items():
        for name in NOTES:
            if before[model] != versions[model] and not (folder / name).is_file():
                (model / name).unlink(missing_ok=True)
    return versions


def _keep(model: Path, aside: Path, ready: list[Path]) -> None:
    """What is in use, with its notes."""
    aside.mkdir(parents=True, exist_ok=True)
    for source in (*(model / "1" / name for name in FILES), *(model / name for name in NOTES)):
        if source.is_file():
            _beside(source, aside / source.name, ready)


def _beside(source: Path, target: Path, ready: list[Path]) -> None:
    ready.append(target.with_name(f"{target.name}.partial"))
    shutil.copyfile(source, ready[-1])
