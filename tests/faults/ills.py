"""What ails a test model: a file named as the model, in the folder that FAULTS names, says it; without it all is well.

    {"what": "slow", "seconds": 2, "if": "turtle", "times": 3}

`if` bounds it to requests whose text holds the word, `times` to so many requests. Kinds:

    slow   it waits so many seconds before it answers
    exit   the model's process ends
    drop   the answer lacks `output`; empty, nan, flat: that output has no element, no numbers, another shape
    error  the model raises

While a file MODEL.asked stands there, every text that the model is asked goes into it (`noting`).

Imported by tests/models/*/1/model.py in Triton's environment: standard library and numpy only.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["FOLDER", "ailing", "asked", "cure", "fall_ill", "noting", "suffer", "taint"]

FOLDER = "faults"
Arrays = dict[str, np.ndarray[Any, Any]]


def fall_ill(home: Path, model: str, what: str, **how: object) -> None:
    """From the next request on. `home` is the stack's."""
    path = home / FOLDER / model
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps({"what": what, **how}))
    new.replace(path)


def cure(home: Path, *models: str) -> None:
    for model in models or ("whisper", "aspects", "cvib"):
        (home / FOLDER / model).unlink(missing_ok=True)


@contextlib.contextmanager
def ailing(home: Path, model: str, what: str, **how: object) -> Iterator[None]:
    """Ill inside, well after."""
    fall_ill(home, model, what, **how)
    try:
        yield
    finally:
        cure(home, model)


@contextlib.contextmanager
def noting(home: Path, model: str) -> Iterator[None]:
    """The model notes what it is asked: see `asked`."""
    path = home / FOLDER / f"{model}.asked"
    path.parent.mkdir(exist_ok=True)
    path.write_text("")
    try:
        yield
    finally:
        path.unlink()


def asked(home: Path, model: str) -> Counter[str]:
    """How often the model was asked each text since `noting` began."""
    lines = (home / FOLDER / f"{model}.asked").read_text().splitlines()
    return Counter(json.loads(line) for line in lines if line.endswith('"'))


def suffer(model: str, text: str) -> dict[str, Any]:
    """In the model: what is wrong with this request, after the waiting or dying that belongs to it; {} for nothing."""
    path = Path(os.environ.get("FAULTS", "/nonexistent")) / model
    with contextlib.suppress(FileNotFoundError), open(path.with_name(f"{model}.asked"), "r+") as notes:
        notes.seek(0, os.SEEK_END)
        notes.write(json.dumps(text) + "\n")
    try:
        ill: dict[str, Any] = json.loads(path.read_text())
    except OSError:
        return {}
    if str(ill.get("if", "")) not in text:
        return {}
    if "times" in ill:
        ill["times"] -= 1
        path.write_text(json.dumps(ill)) if ill["times"] else path.unlink()
    if ill["what"] == "slow":
        time.sleep(ill["seconds"])
    elif ill["what"] == "exit":
        os._exit(1)
    elif ill["what"] == "error":
        raise RuntimeError("this model is ill")
    return ill


def taint(ill: dict[str, Any], answer: Arrays) -> Arrays:
    """The answer as the illness leaves it."""
    what, name = ill.get("what"), ill.get("output", "")
    if name not in answer:
        return answer
    whole = answer[name]
    if what == "drop":
        return {key: value for key, value in answer.items() if key != name}
    if what == "empty":
        return answer | {name: whole[:0]}
    if what == "nan":
        return answer | {name: np.full_like(whole, np.nan)}
    if what == "flat":
        return answer | {name: np.concatenate([whole.reshape(-1), whole.reshape(-1)[:1]])}
    return answer
