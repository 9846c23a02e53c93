"""The tables of docs/guarantees.md that results make: `python -m tests.faults.tables` writes them anew."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any

from settings import PROJECT
from tests.faults.mutants import MUTANTS, OUTCOMES, Mutant
from tests.faults.results import NAMES, read

__all__ = ["PAGE", "page", "seen", "write_tables"]

PAGE = PROJECT / "docs" / "guarantees.md"
ORACLE = ("missing", "extra", "duplicate", "wrong")
#: Of a result, what the columns of the table say already.
TOLD = {"node", "test", "form", "passed", *ORACLE, "seed", "load", "faults", "machine", "date", "revision", "seconds"}


def page(text: str) -> str:
    """The page with its tables made anew."""
    for name, lines in (("results", results_table()), ("mutants", mutants_table())):
        begin, end = f"<!-- {name}: made by `python -m tests.faults.tables` -->\n", f"<!-- end of {name} -->"
        head, _, rest = text.partition(begin)
        _, found, tail = rest.partition(end)
        if not found:
            raise ValueError(f"{PAGE.name} has no place for the table of {name}")
        text = head + begin + "\n" + "".join(f"{line}\n" for line in lines) + "\n" + end + tail
    return text


def write_tables() -> None:
    PAGE.write_text(page(PAGE.read_text()))


def results_table() -> list[str]:
    head = ["test", "form", "load", "faults", "missing, extra, duplicate, wrong", "also seen", "seed", "machine, date"]
    found = sorted(read().values(), key=lambda one: (one["test"], one["form"] != "short", one["node"]))
    return table(head, (result_row(one) for one in together(found)))


def together(found: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Cases of one test that say nothing of their own become one row, which says how many they are."""
    out: list[dict[str, Any]] = []
    for name, cases in groupby(found, lambda one: one["node"].partition("[")[0]):
        all_ = list(cases)
        if len(all_) > 1 and all(one["load"] is None for one in all_):
            passed = all(one["passed"] for one in all_)
            out.append(all_[0] | {"node": name, "load": f"{len(all_)} cases", "passed": passed})
        else:
            out += all_
    return out


def result_row(one: dict[str, Any]) -> list[str]:
    oracle = "-" if one["missing"] is None else ", ".join(str(one[name]) for name in ORACLE)
    seen = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in one.items() if name not in TOLD)
    machine = one["machine"]
    where = f"{machine['cores']} cores, {machine['cpu']}, load {' to '.join(map(str, machine['load_average']))}"
    name = one["node"].rpartition("::")[2].removeprefix("test_").replace("_", " ")
    result = f"{NAMES[one['test']]}: {name}" + ("" if one["passed"] else " **FAILED**")
    seed = "-" if one["seed"] is None else str(one["seed"])
    cells = [
        f"{one['test']} {result}",
        one["form"],
        one["load"] or "-",
        one["faults"] or "-",
        oracle,
        seen or "-",
        seed,
    ]
    return [*cells, f"{where}; {one['date']}"]


def mutants_table() -> list[str]:
    outcomes = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}
    rows = (
        [
            ", ".join(map(str, one.proofs)),
            one.text,
            "<br>".join(f"`{node.rpartition('/')[2]}`" for node in one.tests),
            *seen(one, outcomes),
        ]
        for one in sorted(MUTANTS, key=lambda one: one.proofs)
    )
    return table(["test", "mutant: the product, but", "caught by", "seen", "date"], rows)


def seen(mutant: Mutant, outcomes: dict[str, dict[str, Any]]) -> tuple[str, str]:
    """What became of it and when; an outcome counts only for the tests that the mutant names today."""
    outcome = outcomes.get(mutant.name, {})
    if outcome.get("tests") != list(mutant.tests):
        return "not run", "-"
    return outcome["outcome"], outcome["date"]


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [line(head), line(["---"] * len(head)), *(line(row) for row in rows)]


def line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


if __name__ == "__main__":
    write_tables()
