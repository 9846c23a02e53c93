"""Health check of the Triton container: one real inference per model, as its canary.json says.

`python3 canaries.py MODEL_REPOSITORY [http://127.0.0.1:8000]` exits 1 naming the models that fail. Standard
library only, over the HTTP port that listens inside the container alone. Ready is not enough: Triton says ready while
a Python model's process is dead. A decoupled model is asked through /generate, and may answer that it is "busy" (stack/canary.py).
"""

from __future__ import annotations

import json
import math
import sys
import urllib.error
import urllib.request
from pathlib import Path

__all__ = ["failing"]


def failing(repository: Path, server: str) -> dict[str, str]:
    """The models that do not answer, and why."""
    found = {}
    for config in sorted(repository.glob("*/config.pbtxt")):
        folder = config.parent
        try:
            _ask(server, folder)
        except (OSError, ValueError) as err:
            found[folder.name] = str(err)
    return found


def _ask(server: str, folder: Path) -> None:
    path = folder / "canary.json"
    if not path.exists():
        with urllib.request.urlopen(f"{server}/v2/models/{folder.name}/ready", timeout=5):
            return
    canary = json.loads(path.read_text())
    inputs = [
        {**entry, "data": _filled(entry.get("data", [0]), math.prod(entry["shape"]))} for entry in canary["inputs"]
    ]
    model = f"{server}/v2/models/{folder.name}"
    with urllib.request.urlopen(f"{model}/config", timeout=5) as answer:
        decoupled = json.load(answer).get("model_transaction_policy", {}).get("decoupled", False)
    body = (
        {entry["name"]: entry["data"] for entry in inputs} | {"parameters": {"canary": True}}
        if decoupled
        else {"inputs": inputs}
    )
    request = urllib.request.Request(
        f"{model}/{'generate' if decoupled else 'infer'}",
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=canary.get("timeout_seconds", 5)) as answer:
            found = json.load(answer)
    except urllib.error.HTTPError as err:
        if "busy" in canary and canary["busy"] in err.read().decode(errors="replace"):
            return
        raise
    if not (found.keys() - {"model_name", "model_version"} if decoupled else found.get("outputs")):
        raise ValueError("an answer without outputs")


def _filled(data: list[object], count: int) -> list[object]:
    """The data, repeated until there are `count`."""
    return (data * -(-count // len(data)))[:count]


if __name__ == "__main__":
    down = failing(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "http://127.0.0.1:8000")
    sys.exit("; ".join(f"{model}: {why}" for model, why in down.items()) if down else 0)
