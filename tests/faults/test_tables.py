"""The tables of docs/guarantees.md are made from what was seen, and each mutant still fits the code."""

from __future__ import annotations

import pytest

from settings import PROJECT
from tests.faults.mutants import MUTANTS, Mutant
from tests.faults.results import NAMES
from tests.faults.tables import PAGE, page


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


def test_every_proof_that_counts_has_a_mutant() -> None:
    assert {number for one in MUTANTS for number in one.proofs} >= {*range(1, 13), 22}
