"""What Phi-4 and training need beside the product: torch and its company, in an environment of their own."""

from __future__ import annotations

from importlib.util import find_spec

from commands.context import WRONG, fail

__all__ = ["need_torch"]


def need_torch(what: str = "Phi-4", *more: str, extra: str = "") -> None:
    """Ends the command with one sentence where what it needs, `more` beside, is not installed.

    `extra`: that of pyproject.toml which brings it, too.
    """
    missing = [name for name in ("torch", "transformers", "safetensors", *more) if find_spec(name) is None]
    if missing:
        pip = f"`pip install --editable '.[{extra}]'` there (unpinned), or " if extra else ""
        fail(
            f"{what} needs {', '.join(missing)}: run `make .venv-torch/.made` in Earful's folder, then use "
            f"`.venv-torch/bin/earful`; in an environment of your own, {pip}"
            "`pip install --require-hashes -r requirements/torch.txt`",
            WRONG,
        )
