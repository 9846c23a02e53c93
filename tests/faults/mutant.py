"""What a mutant is: edits of the product that take one of its protections out, and the tests that must turn red then."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LOOP", "TEST_LOOP", "Edit", "Mutant"]

LOOP, TEST_LOOP = "workers/loop.py", "tests/workers/test_loop.py::"


@dataclass(frozen=True, slots=True)
class Edit:
    """`old` stands exactly once in the file."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`text` completes "the product, but"; `proofs` are the numbers of the tests that it stands against."""

    name: str
    text: str
    proofs: tuple[int, ...]
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
