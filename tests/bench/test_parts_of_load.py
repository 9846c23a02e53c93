"""`python -m bench load` in part: what is sent and how fast, and where it is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import bench.__main__ as program
from bench.result import Result
from bench.size import FULL, Size


@pytest.mark.parametrize(
    ("arguments", "of", "percents", "workers", "file"),
    [
        ([], ("reviews", "calls"), FULL.load_percents, FULL.load_workers, FULL.load_file),
        (["--of", "calls", "--percents", "60", "120"], ("calls",), (60, 120), (), "bench-load.json"),
        (["--percents", "60"], ("reviews", "calls"), (60,), (), "bench-load.json"),
    ],
)
def test_a_part_of_load_leaves_the_drawings_alone(
    arguments: list[str],
    of: tuple[str, ...],
    percents: tuple[int, ...],
    workers: tuple[int, ...],
    file: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sizes: list[Size] = []

    def run(names: list[str], size: Size, say: object) -> Iterator[Result]:
        sizes.append(size)
        yield from ()

    monkeypatch.setattr(program, "run", run)
    monkeypatch.chdir(tmp_path)
    assert program.main(["load", *arguments]) == 0
    (size,) = sizes
    assert (size.load_of, size.load_percents, size.load_workers, size.load_file) == (of, percents, workers, file)
