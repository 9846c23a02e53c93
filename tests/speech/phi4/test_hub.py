"""Weights by a revision of the hub, against a hub on loopback: what is taken, what is refused before it is."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from speech.phi4.config import CheckpointError
from speech.phi4.hub import local_folder
from tests.commands.hub import COMMIT, Hub, serving
from tests.workers.sending import sample

ROOT = Path(__file__).resolve().parents[3]
NAME = "hub:some/one@refs/pr/70"
NATIVE = json.dumps({"model_type": "phi4_multimodal"}).encode()
FILES = {
    "config.json": NATIVE,
    "tokenizer.json": b"[]",
    "model.safetensors": b"m",
    "speech-lora/adapter_model.safetensors": b"a",
}
OTHER = {
    "vision-lora/adapter_model.safetensors": b"v",
    "modeling_phi4mm.py": b"code",
    "onnx/config.json": b"{}",
    "runs/README.md": b"notes",
}
SCRIPT = """
import sys
from speech.phi4.config import CheckpointError
from speech.phi4.hub import local_folder
try:
    print(local_folder(sys.argv[1]))
except CheckpointError as err:
    print("refused:", err)
"""


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    with serving(Hub(repository="some/one", files=FILES | OTHER)) as hub:
        yield hub


def ask(hub: Hub, cache: Path, name: str = NAME) -> str:
    """What `local_folder` says in a process of its own, where the hub's address and cache are read."""
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, name], cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=True
    )
    return done.stdout.strip()


def test_a_revision_is_a_folder_with_what_speech_needs(hub: Hub, tmp_path: Path) -> None:
    folder = Path(ask(hub, tmp_path))
    assert {name: (folder / name).read_bytes() for name in FILES} == FILES
    assert folder.name == COMMIT
    assert sorted(name for name, _ in hub.asked) == sorted(FILES), "each once, and nothing else"
    hub.asked.clear()
    assert ask(hub, tmp_path) == str(folder)
    assert hub.asked == []
    hub.url = "http://127.0.0.1:9"
    assert ask(hub, tmp_path) == str(folder), "what the cache holds needs no hub"


@pytest.mark.timeout(300)
def test_the_engine_starts_from_a_revision(tiny: Path, tmp_path: Path) -> None:
    """As somebody types it, without a folder and without `earful phi4 fetch`."""
    files = {str(path.relative_to(tiny)): path.read_bytes() for path in tiny.rglob("*") if path.is_file()}
    soundfile.write(tmp_path / "a.wav", sample("calls/card-fee", 0, 3_000)[:, 1], 8_000)
    words = ["transcribe", "a.wav", "--engine", "phi4", "--weights", "hub:some/one", "--max-tokens", "3", "--json"]
    with serving(Hub(repository="some/one", files=files | OTHER)) as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path), "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        env["PYTHONPATH"] = str(ROOT)
        done = subprocess.run(
            [sys.executable, "-m", "cli", *words], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=280, check=False
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert all(line["token_ids"] for line in json.loads(done.stdout)[0]["lines"])


def test_the_old_layout_is_refused_before_its_weights_are_fetched(hub: Hub, tmp_path: Path) -> None:
    hub.files["config.json"] = json.dumps({"model_type": "phi4mm"}).encode()
    said = ask(hub, tmp_path)
    assert said.startswith("refused: some/one at refs/pr/70 holds the old remote-code layout")
    assert "refs/pr/70 of microsoft/" in said
    assert [name for name, _ in hub.asked] == ["config.json"]


def test_what_the_hub_has_not_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    assert ask(hub, tmp_path, "hub:some/one@main") == "refused: the hub has no some/one at main, or not for you"
    hub.url = "http://127.0.0.1:9"
    assert ask(hub, tmp_path).startswith("refused: the hub does not answer; HF_ENDPOINT names another one")


def test_a_hub_that_refuses_and_a_disk_that_does_are_told_as_that(hub: Hub, tmp_path: Path) -> None:
    hub.refuses = 403
    assert ask(hub, tmp_path) == "refused: the hub refuses some/one at refs/pr/70: status 403"
    hub.refuses = None
    (tmp_path / "hub").write_text("a file where the cache's folder should be")
    assert re.fullmatch(r"refused: .*/hub.*: (Not a directory|File exists); what is there stays", ask(hub, tmp_path))


def test_folders_stay_what_they_are_and_names_are_checked(tmp_path: Path) -> None:
    assert local_folder(tmp_path) == tmp_path
    assert local_folder(str(tmp_path)) == tmp_path
    for wrong in ("hub:", "hub:one", "hub:a/b/c@main", "hub:some/one@"):
        with pytest.raises(CheckpointError, match="hub:OWNER/NAME@REVISION"):
            local_folder(wrong)
