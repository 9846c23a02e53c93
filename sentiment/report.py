"""One line of JSON on standard output: what the commands of this package say, for people and programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping

__all__ = ["report"]


def report(row: Mapping[str, object]) -> None:
    """Write a row at once, also into a pipe."""
    sys.stdout.write(json.dumps(row) + "\n")
    sys.stdout.flush()
