"""bench/cvib_gpu.sh with a stand-in for python: what it runs, and what it says where a seed fails."""

from __future__ import annotations

import subprocess
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "bench" / "cvib_gpu.sh"
STAND_IN = """#!/bin/sh
case "$*" in *sentiment.grid*"--set REST14 "*"--seeds 1 "*) exit 3;; esac
echo "$*" >>"$0.ran"
"""


def run(folder: Path, program: str) -> tuple[subprocess.CompletedProcess[str], list[str]]:
    python = folder / "python"
    python.write_text(program)
    python.chmod(0o755)
    done = subprocess.run(
        ["sh", str(SCRIPT), "absa", "mpnet", str(folder / "out")],
        env={"PYTHON": str(python), "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return done, (folder / "python.ran").read_text().splitlines()


def test_a_seed_that_fails_stops_no_other_and_is_named(tmp_path: Path) -> None:
    done, ran = run(tmp_path, STAND_IN)
    assert (done.returncode, done.stderr) == (1, f"failed: {tmp_path}/out/REST14-1.log\n")
    assert len(ran) == 7 * 5 - 1
    assert sum("--set MAMS" in line for line in ran) == 5
    aspects = [line for line in ran if line.startswith("-m sentiment.in_domain ")]
    assert len(aspects) == 2 * 5
    assert all(f"--to {tmp_path}/out/aspects " in line and "--encoder mpnet " in line for line in aspects)


def test_without_a_failure_it_ends_well(tmp_path: Path) -> None:
    done, ran = run(tmp_path, STAND_IN.replace("exit 3", "true"))
    assert (done.returncode, done.stderr, len(ran)) == (0, "", 35)
