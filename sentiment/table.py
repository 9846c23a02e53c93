"""The tables of docs/cvib.md from the grid's result files, whichever machine wrote them.

    python -m sentiment.table docs/results/cvib/*.json --into docs/cvib.md

A cell is the mean and spread (standard deviation) over seeds with their number n and the epochs. What was not run stays empty.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sentiment.recipe import LEVERS
from sentiment.scores import paired_bootstrap

__all__ = ["compare", "fill", "load", "main", "render", "twins"]

Row = tuple[str, str, str, str, int]  # encoder, preset, arm, input, epochs
Cells = dict[Row, dict[str, dict[int, Mapping[str, Any]]]]  # row -> training set -> seed -> result
BOTH = ("REST14", "LAP14")  # the domains that ARTS has
#: Arms that were picked after looking at earlier seeds: the least seed that was trained after that.
FRESH = {"no_contrast": 3}
#: The levers of the system (recipe.LEVERS): what stands with the lever, what without.
GAINS = {
    "pool=cls": "the aspect's tokens pooled beside [CLS], less [CLS] alone",
    "own=on": "our own sentences beside the benchmark's, less without",
}
#: What a result was trained in that does not say.
_UNSAID = "bfloat16"
SETS = ("REST14", "LAP14", "REST15", "REST16", "MAMS", "Twitter")
# The paper's best test scores (accuracy / macro-F1), chosen on the test sets: anchors, not a like comparison.
PAPER = {
    "BERT-SPC (paper)": ("84.11 / 76.68", "77.59 / 73.28", "83.48 / 66.18", "90.10 / 74.16", "83.98 / 83.41", ""),
    "RGAT-BERT + CVIB (paper)": ("87.59 / 82.03", "81.35 / 77.53", "85.98 / 72.84", "92.86 / 82.87", "84.66 / 84.03", ""),
}  # fmt: skip
ARTS_PAPER = {"BERT pair (ARTS authors' predictions)": ("77.05", "54.82", "", "71.82", "50.94", "")}
BEGIN, END = "<!-- made by sentiment.table: begin -->", "<!-- made by sentiment.table: end -->"


def load(paths: Iterable[Path]) -> Cells:
    """Every grid result among the files, by row, training set and seed."""
    cells: Cells = {}
    for path in paths:
        got = json.loads(path.read_text(encoding="utf-8"))
        if got.get("kind") == "cvib-grid":
            c = got["config"]
            preset = ", ".join([got["preset"], *(f"{k}={v}" for k, v in got.get("changes", {}).items())])
            row = (got["encoder"], preset, c["arm"], c["input"], c["epochs"])
            cells.setdefault(row, {}).setdefault(got["set"], {})[c["seed"]] = got
    return dict(
        sorted(cells.items(), key=lambda kv: (kv[0][0], kv[0][1], kv[0][4], kv[0][3], kv[0][2] != "cvib", kv[0][2]))
    )


def _name(row: Row) -> str:
    encoder, preset, arm, kind, _ = row
    return f"{encoder}, {preset}, {'plain twin' if arm == 'plain' else arm}" + (
        "" if kind == "pair" else f", {kind} input"
    )


def _percent(values: Sequence[float]) -> str:
    a = 100 * np.array(values)
    return f"{a.mean():.1f}" + (f" ± {a.std(ddof=1):.1f}" if len(a) > 1 else "")


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(r) + " |" for r in rows)]) + "\n"


def _cell(runs: Mapping[int, Mapping[str, Any]] | None, test: str, *scores: str) -> str:
    if not runs:
        return ""
    tests = [r["tests"][test] for r in runs.values() if test in r["tests"]]
    if not tests or any(s not in t for t in tests for s in scores):
        return ""
    epochs = next(iter(runs.values()))["config"]["epochs"]
    return " / ".join(_percent([t[s] for t in tests]) for s in scores) + f" (n={len(tests)}, {epochs} ep)"


def _by_row(
    cells: Cells, columns: Sequence[Callable[[dict[str, dict[int, Mapping[str, Any]]]], str]]
) -> list[list[str]]:
    rows = [[_name(row), *(column(sets) for column in columns)] for row, sets in cells.items()]
    return [r for r in rows if any(r[1:])]


def twins(cells: Cells, row: Row) -> list[Row]:
    """Rows of a row's plain twin: those of as many epochs first, then those trained longer (at CVIB's wall time, say)."""
    preset, *changes = row[1].split(", ")
    preset = "improved" if preset == "pressed" else preset  # these differ in the gates alone
    # An ablation changes nothing that the twin has (recipe.CHANGES), a lever both.
    preset = ", ".join([preset, *(c for c in changes if c.partition("=")[0] in LEVERS)])
    found = [r for r in cells if (r[0], r[1], r[2], r[3]) == (row[0], preset, "plain", row[3]) and r[4] >= row[4]]
    return sorted(found, key=lambda r: r[4])


def compare(cells: Cells, row: Row, twin_row: Row, *names: str, since: int = 0) -> dict[str, float] | None:
    """A row less another (its plain twin, say), mean of the named sets: difference of ARS with its interval, and of clean accuracy.

    Of seeds that both rows have on all of these sets, in one precision; `since` is the least.
    """
    mine, twin = ([cells.get(r, {}).get(name, {}) for name in names] for r in (row, twin_row))
    runs = [*mine, *twin]
    seeds = sorted(s for s in set.intersection(*map(set, runs)) if s >= since and _alike([one[s] for one in runs]))
    if not seeds or any(f"ARTS-{name}" not in one[seeds[0]]["tests"] for name, one in zip(names, mine, strict=True)):
        return None

    def flags(runs: Mapping[int, Mapping[str, Any]], name: str) -> np.ndarray:
        return np.array(
            [[int(c) for c in runs[s]["tests"][f"ARTS-{name}"]["groups_right"]] for s in seeds], dtype=np.float64
        )

    sets = list(zip(names, mine, twin, strict=True))
    mean, low, high = paired_bootstrap([flags(m, name) - flags(t, name) for name, m, t in sets])
    clean = [m[s]["tests"][name]["accuracy"] - t[s]["tests"][name]["accuracy"] for name, m, t in sets for s in seeds]
    return {"n": float(len(seeds)), "ars": mean, "low": low, "high": high, "clean": float(np.mean(clean))}


def _alike(runs: Sequence[Mapping[str, Any]]) -> bool:
    return len({run.get("precision", _UNSAID) for run in runs}) == 1


def _differences(cells: Cells, row: Row, *names: str, since: int = 0) -> list[list[str]]:
    """A row less each of its twins: n, epochs, ARS, interval, clean accuracy. Of a twin itself nothing."""
    out = []
    for twin in twins(cells, row) if row[2] != "plain" else []:
        if d := compare(cells, row, twin, *names, since=since):
            out.append(_points(d, str(row[4]) if row[4] == twin[4] else f"{row[4]}, twin {twin[4]}"))
    return out


def _points(d: Mapping[str, float], epochs: str) -> list[str]:
    """n, epochs, ARS, interval, clean accuracy."""
    ars, low, high, clean = (f"{100 * d[k]:+.1f}" for k in ("ars", "low", "high", "clean"))
    return [f"{d['n']:.0f}", epochs, ars, f"{low} to {high}" if d["n"] >= 3 else "", clean]


def _gains(cells: Cells) -> list[list[str]]:
    """The plain twin with a lever less the plain twin without it."""
    out = []
    for row in cells:
        preset, _, lever = row[1].partition(", ")
        base = (row[0], preset, *row[2:])
        if lever not in GAINS or row[2] != "plain":
            continue
        with_it, without = (base, row) if lever == "pool=cls" else (row, base)
        found = {t: compare(cells, with_it, without, t) for t in BOTH}
        out += [[f"{_name(base)}: {GAINS[lever]}", t, *_points(d, str(row[4]))] for t, d in found.items() if d]
    return out


def render(cells: Cells) -> str:
    """All tables as Markdown."""
    out = ["**Trained and tested on each set** (accuracy / macro-F1):\n"]
    head = ["", *SETS]
    rows = _by_row(cells, [lambda sets, t=t: _cell(sets.get(t), t, "accuracy", "macro_f1") for t in SETS])  # type: ignore[misc]
    out.append(_table(head, [*([name, *values] for name, values in PAPER.items()), *rows]))
    out.append(
        "**ARTS** (trained on the domain's own set; all items: accuracy / macro-F1; ARS: an original and all its variants right):\n"
    )
    columns: list[Callable[[dict[str, dict[int, Mapping[str, Any]]]], str]] = []
    head = [""]
    for t, label in (("REST14", "restaurants"), ("LAP14", "laptops")):
        head += [f"{label}: all items", "ARS", "RevTgt / RevNon / AddDiff"]
        for scores in (("accuracy", "macro_f1"), ("ars",), ("revtgt_accuracy", "revnon_accuracy", "adddiff_accuracy")):
            columns.append(lambda sets, t=t, scores=scores: _cell(sets.get(t), f"ARTS-{t}", *scores))  # type: ignore[misc]
    out.append(_table(head, [*([name, *values] for name, values in ARTS_PAPER.items()), *_by_row(cells, columns)]))
    out.append(
        "**CVIB, and each of its ablations, less the plain twin**, in points; interval: paired bootstrap over ARTS groups"
        " and seeds, from three seeds on:\n"
    )
    one = [[_name(row), t, *values] for row in cells for t in BOTH for values in _differences(cells, row, t)]
    out.append(_table(["", "set", "n", "epochs", "ARS", "95 % interval", "clean accuracy"], one))
    out.append(
        "**The same on the mean of REST14 and LAP14**, of the seeds that both sets have; one draw of seeds serves both sets:\n"
    )
    mean = [[_name(row), "all", *values] for row in cells for values in _differences(cells, row, *BOTH)]
    fresh = [(row, FRESH[row[2]]) for row in cells if row[2] in FRESH]
    mean += [
        [_name(row), f"from {since} on", *values]
        for row, since in fresh
        for values in _differences(cells, row, *BOTH, since=since)
    ]
    out.append(_table(["", "seeds", "n", "epochs", "ARS", "95 % interval", "clean accuracy"], mean))
    out.append(
        "**The system's gain** by a lever that CVIB and the plain twin share: the plain twin with it less without it, in points:\n"
    )
    out.append(_table(["", "set", "n", "epochs", "ARS", "95 % interval", "clean accuracy"], _gains(cells)))
    out.append(
        "**More of the same runs:** ECE (no temperature), sentences of several polarities, the other domain, channels pruned:\n"
    )
    more = []
    for row, sets in cells.items():
        for t, runs in sets.items():
            other = {"REST14": "LAP14", "LAP14": "REST14"}.get(t, "")
            prune = [r["log"][-1]["prune_rates"] for r in runs.values() if "prune_rates" in r["log"][-1]]
            layers = " ".join(f"{100 * v:.1f}" for v in np.mean(prune, axis=0)) if prune else ""
            seconds = [r["training"]["cpu_s"] for r in runs.values() if "cpu_s" in r["training"]]
            cpu = f"{np.mean(seconds):.0f}" if seconds else ""
            more.append([_name(row), t, _cell(runs, t, "ece"), _cell(runs, t, "mixed_accuracy"),
                         f"{other}: {_cell(runs, other, 'accuracy', 'macro_f1')}" if other else "", layers, cpu])  # fmt: skip
    out.append(
        _table(["", "trained on", "ECE", "mixed: accuracy", "cross-domain", "pruned % by layer", "CPU s a run"], more)
    )
    return "\n".join(out)


def fill(text: str, tables: str) -> str:
    """The document with everything between its two markers replaced."""
    before, _, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise ValueError(f"the document lacks the markers {BEGIN} and {END}")
    return f"{before}{BEGIN}\n\n{tables}\n{END}{after}"


def main() -> None:
    """Print the tables, or put them into a document between its markers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--into", type=Path, default=None)
    args = parser.parse_args()
    tables = render(load(args.files))
    if args.into:
        args.into.write_text(fill(args.into.read_text(encoding="utf-8"), tables), encoding="utf-8")
    else:
        sys.stdout.write(tables)


if __name__ == "__main__":
    main()
