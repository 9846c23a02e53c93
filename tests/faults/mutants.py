"""All mutants. `python -m tests.faults.mutate` applies each in a copy; test_tables.py sees that each still fits the code."""

from __future__ import annotations

from settings import PROJECT
from tests.faults.mutant import Edit, Mutant
from tests.faults.mutants_of_delivery import DELIVERY
from tests.faults.mutants_of_parts import PARTS

__all__ = ["MUTANTS", "OUTCOMES", "Edit", "Mutant"]

MUTANTS: tuple[Mutant, ...] = (*DELIVERY, *PARTS)

OUTCOMES = PROJECT / "docs" / "results" / "mutants.json"
