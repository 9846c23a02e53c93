"""A cell of an experiment: one training on one benchmark alone. The options and the result file that all kinds of it share."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sentiment.report import report

__all__ = ["options", "rounded", "write"]


def options(description: str | None, sets: Iterable[str]) -> argparse.ArgumentParser:
    """What every run of cells is told: data, places, set, seeds, encoder, device."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0] if description else "")
    parser.add_argument("--absa", type=Path, required=True, help="folder of the benchmarks")
    parser.add_argument("--out", type=Path, required=True, help="weights and unfinished trainings")
    parser.add_argument("--to", type=Path, required=True, help="folder of the result files")
    parser.add_argument("--set", choices=sorted(sets), required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument(
        "--encoder", type=Path, default=None, help="folder of a BERT-like encoder; default: MiniLM from its wheel"
    )
    parser.add_argument("--encoder-name", default="minilm", help="for the files' names")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return parser


def rounded(value: object) -> Any:
    """Numbers to four places, wherever they stand in it."""
    if isinstance(value, Mapping):
        return {k: rounded(v) for k, v in value.items()}
    return round(value, 4) if isinstance(value, float) else value


def write(target: Path, result: Mapping[str, object], *said: str) -> None:
    """The result file; `said` of it on standard output."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report({name: result[name] for name in said})
