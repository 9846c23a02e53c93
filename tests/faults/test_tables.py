"""The tables of docs/guarantees.md are made from what was seen, and each mutant still fits the code."""

from __future__ import annotations

import json
import re

import pytest

from settings import PROJECT
from tests.faults.mutants import MUTANTS, OUTCOMES, Mutant
from tests.faults.results import NAMES
from tests.faults.tables import PAGE, page, seen


def test_the_tables_are_as_the_results_say() -> None:
    assert page(PAGE.read_text()) == PAGE.read_text(), "run python -m tests.faults.tables"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda one: one.name)
def test_a_mutant_fits_the_code(mutant: Mutant) -> None:
    assert mutant.tests
    assert set(mutant.proofs) <= set(NAMES)
    texts: dict[str, str] = {}
    for edit in mutant.edits:
        text = texts.setdefault(edit.path, (PROJECT / edit.path).read_text())
        assert text.count(edit.old) == 1, f"{edit.path} has not once: {edit.old}"
        texts[edit.path] = text.replace(edit.old, edit.new)
        compile(texts[edit.path], edit.path, "exec")


@pytest.mark.parametrize("number", [*range(1, 13), 22])
def test_every_proof_that_counts_has_a_mutant(number: int) -> None:
    """One of its own tests was seen to catch a mutant of it: only such a test counts."""
    proof = re.compile(rf"mark\.proof\({number}\)")
    outcomes = json.loads(OUTCOMES.read_text())
    caught = {test for one in MUTANTS if number in one.proofs and seen(one, outcomes)[0] == "red" for test in one.tests}
    assert [one for one in caught if proof.search((PROJECT / one.partition("::")[0]).read_text())], sorted(caught)
