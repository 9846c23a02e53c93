"""What Phi-4 needs beside the product: torch and its company, in an environment of their own."""

from __future__ import annotations

from importlib.util import find_spec

from commands.context import WRONG, fail

__all__ = ["need_torch"]


def need_torch() -> None:
    """Ends the command with one sentence where Phi-4's packages are not installed."""
    missing = [name for name in ("torch", "transformers", "safetensors", "tokenizers") if find_spec(name) is None]
    if missing:
        fail(
            f"Phi-4 needs {', '.join(missing)}: run `make .venv-torch/.made` in Earful's folder, then use "
            "`.venv-torch/bin/earful`; on a machine of your own, "
            "`pip install --require-hashes -r requirements/torch.txt`",
            WRONG,
        )
