"""`earful phi4 fetch` against a hub on loopback: what it takes, how it goes on, and that it believes no hash."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from commands.phi4_fetch import REPOSITORY
from tests.commands.hub import COMMIT, Hub, serving

ROOT = Path(__file__).parents[2]
BIG = "model-00001-of-00001.safetensors"
WANTED = {
    "config.json": b'{"model_type": "phi4_multimodal"}',
    "tokenizer.json": b"[]",
    "LICENSE": b"MIT",
    BIG: bytes(range(256)) * 180_000,  # the downloader keeps what came in pieces of 10 MB
    "speech-lora/adapter_config.json": b"{}",
    "speech-lora/adapter_model.safetensors": b"a" * 1_000,
}
OTHER = {
    "vision-lora/adapter_model.safetensors": b"v",
    "modeling_phi4mm.py": b"code",
    "examples/what_is_shown.wav": b"w",
}


@pytest.fixture(name="hub")
def _hub() -> Iterator[Hub]:
    with serving(Hub(repository=REPOSITORY, files=WANTED | OTHER)) as hub:
        yield hub


#: `earful` in a process that may write no larger file.
LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, 20 << 20))
runpy.run_module("cli", run_name="__main__")
"""


def fetch(hub: Hub, folder: Path, *options: str, program: Sequence[str] = ("-m", "cli")) -> tuple[int, str, str]:
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "COLUMNS": "300"}
    done = subprocess.run(
        [sys.executable, *program, "phi4", "fetch", str(folder), *options],
        cwd=ROOT, env=env, capture_output=True, text=True, timeout=90, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_it_takes_what_speech_needs_and_says_what_next(hub: Hub, tmp_path: Path) -> None:
    code, out, err = fetch(hub, tmp_path / "w")
    assert code == 0, err
    assert contents(tmp_path / "w") == {**WANTED, "REVISION": f"{COMMIT}\n".encode()}
    assert f"{REPOSITORY} at {COMMIT}" in out
    assert "GB free" in out
    assert "Licence: mit" in out
    assert "earful phi4 check" in out
    hub.asked.clear()
    assert fetch(hub, tmp_path / "w")[0] == 0
    assert hub.asked == [], "what is there is not asked for again"


def test_it_removes_the_downloaders_notes_and_nobody_elses(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "mine").write_text("kept")
    assert fetch(hub, tmp_path)[0] == 0
    found = contents(tmp_path)
    assert {name for name in found if name.startswith(".cache")} == {".cache/mine"}


def test_it_goes_on_where_it_broke_off(hub: Hub, tmp_path: Path) -> None:
    hub.breaks = BIG
    code, _, err = fetch(hub, tmp_path)
    if code != 0:  # the downloader itself may have tried again and gone on
        assert (code, "does not answer" in err) == (3, True), err
        assert fetch(hub, tmp_path)[0] == 0
    assert contents(tmp_path)[BIG] == WANTED[BIG]
    ranges = [wanted for name, wanted in hub.asked if name == BIG]
    assert ranges[0] is None
    assert int(str(ranges[1]).removeprefix("bytes=").rstrip("-")) >= 10 << 20
    assert len(ranges) == 2


def test_the_old_layout_is_refused_before_its_weights_come(hub: Hub, tmp_path: Path) -> None:
    native, hub.files["config.json"] = hub.files["config.json"], b'{"model_type": "phi4mm"}'
    code, _, err = fetch(hub, tmp_path)
    assert (code, f"{REPOSITORY} at {COMMIT} holds the old remote-code layout" in err, "Traceback" in err) == (
        1,
        True,
        False,
    ), err
    assert [name for name, _ in hub.asked] == ["config.json"]
    assert "REVISION" not in contents(tmp_path), "the next run must not go on with it"
    hub.files["config.json"] = native
    assert fetch(hub, tmp_path)[0] == 0
    whole = contents(tmp_path)
    hub.files["config.json"] = b'{"model_type": "phi4mm"}'
    assert fetch(hub, tmp_path, "--revision", COMMIT)[0] == 1
    assert contents(tmp_path) == whole, "a folder that is complete stays as it is"


def test_a_file_that_is_not_what_the_hub_says_is_removed(hub: Hub, tmp_path: Path) -> None:
    name = "speech-lora/adapter_model.safetensors"
    hub.lies.add(name)
    code, _, err = fetch(hub, tmp_path)
    assert (code, name in err) == (1, True), err
    assert name not in contents(tmp_path)
    hub.lies.clear()
    assert fetch(hub, tmp_path)[0] == 0
    assert contents(tmp_path)[name] == WANTED[name]


def test_a_disk_that_refuses_is_no_hub_that_is_away(hub: Hub, tmp_path: Path) -> None:
    """No file may be larger than 20 MB, as on a full disk; and a folder that can be none."""
    code, _, err = fetch(hub, tmp_path / "w", program=("-c", LIMITED))
    assert (code, "File too large" in err, "does not answer" in err, "Traceback" in err) == (1, True, False, False), err
    (tmp_path / "file").touch()
    code, _, err = fetch(hub, tmp_path / "file" / "w")
    assert (code, "Not a directory" in err, "Traceback" in err) == (1, True, False), err


def test_a_hub_that_is_away_or_has_nothing_is_one_sentence(hub: Hub, tmp_path: Path) -> None:
    code, _, err = fetch(hub, tmp_path, "--revision", "refs/pr/7")
    assert (code, "has no" in err) == (1, True), err
    hub.url = "http://127.0.0.1:9"
    code, _, err = fetch(hub, tmp_path)
    assert (code, "the hub does not answer" in err, "Traceback" in err) == (3, True, False), err
    assert contents(tmp_path) == {}
