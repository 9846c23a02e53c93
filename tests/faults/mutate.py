"""`make mutants`: each mutant in a copy of the tree, where its tests must turn red.

    python -m tests.faults.mutate [NAME ...]      without a name: all

First the same tests must be green on the copy as it is. One set of servers serves all. Outcomes go into
docs/results/mutants.json and the table of docs/guarantees.md.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from settings import PROJECT
from tests.conftest import BORROWED, make_stack
from tests.faults.mutants import MUTANTS, OUTCOMES, Mutant
from tests.faults.tables import write_tables
from tests.homes import temporary_home

#: For one test, its servers included.
SECONDS = 900


def copy_tree(to: Path) -> None:
    """What git knows or would, as it is in the working tree; the environments by link."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, to / name)
    for name in (".venv", ".venv-triton"):
        (to / name).symlink_to(PROJECT / name)


def run(tree: Path, tests: Sequence[str], stack: Path) -> tuple[bool, str]:
    """Whether all passed, and what pytest said."""
    # Also the long forms and those of `make chaos` may catch a mutant.
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-m", "", *tests]
    # COLUMNS: else pytest cuts its last lines, which say why.
    environment = {**os.environ, BORROWED: str(stack), "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    environment["COLUMNS"] = "400"
    seconds = SECONDS * len(tests)
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return False, f"not done in {seconds} s"
    return done.returncode == 0, done.stdout + done.stderr


def judge(tree: Path, mutant: Mutant, stack: Path) -> dict[str, object]:
    """Applies the mutant, runs its tests, takes it out again."""
    whole = {edit.path: (tree / edit.path).read_text() for edit in mutant.edits}
    try:
        for edit in mutant.edits:
            text = (tree / edit.path).read_text()
            if text.count(edit.old) != 1:
                return {"outcome": "does not fit the code", "why": edit.path, "tests": []}
            (tree / edit.path).write_text(text.replace(edit.old, edit.new))
        seen = {test.rpartition("/")[2]: judge_test(tree, test, stack) for test in mutant.tests}
        others = [f"{name}: {outcome}" for name, (outcome, _) in seen.items() if outcome != "red"]
        why = next(why for _, why in seen.values())
        return {"outcome": "; ".join(others) or "red", "why": why, "tests": list(mutant.tests)}
    finally:
        for path, text in whole.items():
            (tree / path).write_text(text)


def judge_test(tree: Path, test: str, stack: Path) -> tuple[str, str]:
    """Red, or what it is instead, and why. A time-out or an error outside the test proves nothing."""
    passed, said = run(tree, [test], stack)
    if passed:
        return "GREEN", ""
    found = re.search(r"^FAILED .*? - (.*)$", said, re.MULTILINE)
    if not found:
        return "ERROR", said[-200:]
    return ("TIMEOUT" if "from pytest-timeout" in found[1] else "red"), found[1][:200]


def keep(name: str, outcome: dict[str, object]) -> None:
    outcomes = json.loads(OUTCOMES.read_text()) if OUTCOMES.exists() else {}
    outcomes[name] = outcome
    OUTCOMES.parent.mkdir(parents=True, exist_ok=True)
    OUTCOMES.write_text(json.dumps(dict(sorted(outcomes.items())), indent=1, ensure_ascii=False) + "\n")


def main(names: Sequence[str]) -> int:
    chosen = [one for one in MUTANTS if not names or one.name in names]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with temporary_home() as home:
        home.chmod(0o755)
        tree = home / "tree"
        tree.mkdir()
        bad = 0
        copy_tree(tree)
        with make_stack(home) as stack, Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("the product itself", total=len(chosen) + 1)
            tests = sorted({test for one in chosen for test in one.tests})
            passed, said = run(tree, tests, stack.home)
            if not passed:
                progress.console.print(said[-5_000:], markup=False)
                return 1
            for one in chosen:
                progress.advance(task)
                progress.update(task, description=one.name)
                outcome = judge(tree, one, stack.home)
                bad += outcome["outcome"] != "red"
                keep(one.name, {**outcome, "date": f"{datetime.now(UTC):%Y-%m-%d}"})
                progress.console.print(f"{one.name}: {outcome['outcome']}  {outcome['why']}", markup=False)
            progress.advance(task)
    write_tables()
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
