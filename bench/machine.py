"""On what machine figures were taken."""

from __future__ import annotations

import os
from pathlib import Path

import psutil

__all__ = ["machine"]


def machine() -> dict[str, object]:
    """Of what kind, not which."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return {
        "cpu": next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), ""),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gb": round(psutil.virtual_memory().total / 2**30),
    }
