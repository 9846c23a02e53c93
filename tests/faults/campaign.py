"""`make chaos`: the fault tests that `make test` leaves out, short forms first, then the long ones.

    python -m tests.faults.campaign [starred] [short] [long] [NUMBER ...]      without a form: short long; of all numbers

`starred` are the short forms that `make test` runs too: here their figures are kept. Each result goes into
docs/results/chaos.json as soon as it is there. A campaign that was broken off goes on where it was; Ctrl-C twice breaks it
off at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any, TextIO

import pytest
from _pytest._io import TerminalWriter
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bench.machine import machine
from settings import PROJECT
from tests.faults import results
from tests.faults.tables import write_tables

FORMS = ("starred", "short", "long")
#: pyproject.toml's, without those of pytest's terminal.
OPTIONS = "--import-mode=importlib --strict-markers --strict-config"
#: What a campaign that was broken off has done already.
STATE = PROJECT / ".earful" / "chaos-campaign.json"


class Campaign:
    """A pytest plugin: chooses the tests, shows how far it is, keeps what they report."""

    def __init__(self, forms: list[str], numbers: list[int], progress: Progress) -> None:
        self._forms = forms
        self._numbers = numbers
        self._progress = progress
        self._task = progress.add_task("collecting", total=None)
        self._what = {"forms": forms, "numbers": numbers}
        before = json.loads(STATE.read_text()) if STATE.exists() else {}
        self._done: list[str] = before.pop("done", []) if before.items() >= self._what.items() else []
        self._revision = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=PROJECT, capture_output=True, text=True, check=False
        ).stdout.strip()
        self.failed = 0

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        proofs = [one for one in items if one.get_closest_marker("proof") and form(one) in self._forms]
        chosen = [one for one in proofs if not self._numbers or number(one) in self._numbers]
        chosen.sort(key=lambda one: (FORMS.index(form(one)), number(one)))  # stable: a module's tests stay together
        left = [one for one in chosen if one.nodeid not in self._done]
        self._progress.update(self._task, total=len(chosen), completed=len(chosen) - len(left))
        items[:] = left

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        self._progress.update(self._task, description=f"test {number(item)}: {item.name}")
        began, load = datetime.now(UTC), os.getloadavg()[0]
        reports: list[pytest.TestReport] = []
        item.stash[REPORTS] = reports
        answer = yield
        passed = all(one.passed for one in reports)
        figures: results.Figures | None = getattr(item, "figures", None)
        results.keep(
            {
                "node": item.nodeid,
                "test": number(item),
                "form": "long" if form(item) == "long" else "short",
                "passed": passed,
                "missing": None,
                "extra": None,
                "duplicate": None,
                "wrong": None,
                "seed": None,
                "load": None,
                "faults": None,
                **(figures.values if figures else {}),
                "seconds": round((datetime.now(UTC) - began).total_seconds()),
                "machine": {**machine(), "load_average": [round(load, 1), round(os.getloadavg()[0], 1)]},
                "date": f"{began:%Y-%m-%d}",
                "revision": self._revision,
            }
        )
        self._done.append(item.nodeid)
        STATE.parent.mkdir(exist_ok=True)
        STATE.write_text(json.dumps(self._what | {"done": self._done}))
        self._progress.advance(self._task)
        say = self._progress.console.print
        say(f"{'passed' if passed else 'FAILED'}  test {number(item)}  {item.nodeid}", highlight=False)
        if not passed:
            self.failed += 1
            say(next((one.longreprtext for one in reports if not one.passed), "")[-3_000:], markup=False)
        return answer

    def pytest_sessionfinish(self, exitstatus: int) -> None:
        if exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            STATE.unlink(missing_ok=True)  # the next campaign begins anew


REPORTS = pytest.StashKey[list[pytest.TestReport]]()


class Collector:
    """Lays each report beside its test."""

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Any:
        report = yield
        item.stash[REPORTS].append(report)
        return report


class Writes:
    """Where the reporter writes."""

    _tw: TerminalWriter


class Terminal:
    """All that pytest-timeout wants of the reporter that is switched off: where the stacks of a slow test go."""

    def __init__(self, out: TextIO) -> None:
        self._reporter = Writes()
        self._reporter._tw = TerminalWriter(out)

    def pytest_configure(self, config: pytest.Config) -> None:
        config.pluginmanager.register(self._reporter, "terminalreporter")


def form(item: pytest.Item) -> str:
    if item.get_closest_marker("slow"):
        return "long"
    return "short" if item.get_closest_marker("chaos") else "starred"


def number(item: pytest.Item) -> int:
    marker = item.get_closest_marker("proof")
    assert marker is not None
    return int(marker.args[0])


def main(words: list[str]) -> int:
    forms, numbers = [one for one in words if not one.isdigit()], [int(one) for one in words if one.isdigit()]
    if unknown := set(forms) - set(FORMS):
        print(f"no form {', '.join(sorted(unknown))}: {', '.join(FORMS)}", file=sys.stderr)
        return 2
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A descriptor of its own: pytest takes 1 and 2 while a test runs.
    with os.fdopen(os.dup(2), "w") as out, Progress(*columns, console=Console(file=out)) as progress:
        campaign = Campaign(forms or ["short", "long"], numbers, progress)
        code = pytest.main(
            ["-p", "no:terminal", "-o", f"addopts={OPTIONS}", "-m", "proof", str(PROJECT / "tests")],
            plugins=[campaign, Collector(), Terminal(out)],
        )
    write_tables()
    return 1 if campaign.failed else int(code)


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
