"""The encoder of `earful cvib train --encoder`: folders and names of a hub on loopback. Needs no torch."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sentiment.predict import MODEL_REPO
from tests.commands.hub import COMMIT, Hub, serving

ROOT = Path(__file__).parents[2]
FILES = {
    "config.json": json.dumps({"model_type": "mpnet"}).encode(),
    "tokenizer.json": (MODEL_REPO / "cvib" / "1" / "tokenizer.json").read_bytes(),
    "model.safetensors": b"weights",
}
OTHER = {"pytorch_model.bin": b"pickled", "onnx/model.onnx": b"o", "README.md": b"r", "modeling.py": b"code"}
SCRIPT = """
import sys, typer
from commands.encoder import find_encoder
try:
    found = find_encoder(sys.argv[1])
except typer.Exit as err:
    sys.exit(err.exit_code)
print(found.name, found.folder)
"""


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    with serving(Hub(repository="some/one", files=FILES | OTHER, revision="main")) as hub:
        yield hub


def find(wanted: str, hub: Hub | None = None, **more: str) -> tuple[int, str]:
    """Exit code, and what is said, in a process of its own: the hub's address and cache are read at its start."""
    env = {**os.environ, "HF_HOME": str(Path("cache").absolute()), "PYTHONPATH": str(ROOT), "COLUMNS": "300", **more}
    env["HF_ENDPOINT"] = hub.url if hub else "http://127.0.0.1:9"
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, wanted], env=env, capture_output=True, text=True, timeout=90, check=False
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, (done.stdout or done.stderr).strip()


def test_a_name_of_the_hub_becomes_a_folder_with_what_training_needs(hub: Hub) -> None:
    code, said = find("some/one", hub)
    name, folder = said.split()
    assert (code, name) == (0, f"some/one@{COMMIT}")
    assert {path.name: path.read_bytes() for path in Path(folder).iterdir()} == FILES
    hub.asked.clear()
    assert find(f"some/one@{COMMIT}", hub) == (0, said)
    assert hub.asked == [], "the cache has them"
    assert find("some/one") == (0, said), "without a hub, too"
    assert find("some/one", HF_HUB_OFFLINE="1") == (0, said)


def test_a_hub_that_is_away_and_a_name_that_is_unknown_are_told_as_that(hub: Hub) -> None:
    code, said = find("some/one")
    assert (code, said.startswith("error: --encoder some/one: no such folder, and the hub does not answer")) == (
        3,
        True,
    )
    code, said = find("some/one", hub, HF_HUB_OFFLINE="1")
    assert (code, "HF_HUB_OFFLINE is set and the hub's cache lacks it" in said, hub.asked) == (3, True, [])
    for wanted, where in (("some/other", "some/other at main"), ("some/one@v2", "some/one at v2")):
        code, said = find(wanted, hub)
        assert (code, f"no such folder, and the hub has no {where}, or not for you. Correct" in said) == (2, True), said
    Path("full").mkdir()
    Path("full/hub").write_text("a file where the cache's folder should be")
    code, said = find("some/one", hub, HF_HOME=str(Path("full").absolute()))
    assert (code, "what is there stays" in said, "Correct" in said) == (2, True, False), said
    code, said = find("/no/such/folder", hub)
    assert (code, "a name of the hub is OWNER/NAME" in said) == (2, True)


def test_another_kind_of_network_is_refused_before_its_weights_come(hub: Hub) -> None:
    hub.files["config.json"] = json.dumps({"model_type": "t5"}).encode()
    code, said = find("some/one", hub)
    assert (code, "is of type t5: only bert, mpnet, roberta can be trained" in said) == (2, True)
    assert [name for name, _ in hub.asked] == ["config.json"]


@pytest.mark.parametrize(
    ("missing", "says"),
    [
        ("config.json", "names a model_type"),
        ("tokenizer.json", "no tokenizer.json"),
        ("model.safetensors", "no weights"),
    ],
)
def test_a_folder_must_hold_all_of_it(missing: str, says: str) -> None:
    Path("one").mkdir()
    for name, content in FILES.items():
        Path("one", name).write_bytes(content)
    assert find("one") == (0, f"one {Path('one')}")
    Path("one", missing).unlink()
    code, said = find("one")
    assert (code, says in said) == (2, True), said
    shutil.rmtree("one")
