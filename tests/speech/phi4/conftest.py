"""Tiny checkpoints of Phi-4, made once a session. Without torch (`.venv`) every test here skips itself."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

with suppress(ImportError):
    import torch

    # Tiny matrices: a second thread costs more than it brings, and far more where other tests run beside.
    torch.set_num_threads(1)


@pytest.fixture(name="tiny", scope="session")
def _tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint of some 120 k parameters, in the real layout."""
    pytest.importorskip("torch")
    from speech.phi4.tiny import make_tiny

    return make_tiny(tmp_path_factory.mktemp("phi4") / "tiny")


@pytest.fixture(name="models", scope="session")
def _models(tiny: Path) -> Any:
    """Loaded models of the tiny checkpoint by their arguments; each is loaded once."""
    from functools import cache

    from speech.phi4.model import Phi4Model

    @cache
    def load(**arguments: Any) -> Phi4Model:
        return Phi4Model.load(tiny, **arguments)

    return load


@pytest.fixture(name="references", scope="session")
def _references(tiny: Path) -> Any:
    """transformers' models of the tiny checkpoint by dtype and adapter; each is loaded once."""
    from functools import cache

    from tests.speech.phi4.reference import Reference

    @cache
    def load(dtype: Any, adapter: bool = True) -> Reference:
        return Reference(tiny, dtype, adapter=adapter)

    return load
