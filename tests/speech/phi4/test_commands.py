"""`earful phi4 check`, `verify`, `transcribe --engine phi4` and `eval asr --engine phi4` with a tiny checkpoint."""

from __future__ import annotations

import json
import re
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import soundfile

torch = pytest.importorskip("torch", reason="phi4 runs in .venv-torch")

from commands.phi4_verify import first_difference  # noqa: E402
from speech.phi4.limits import Limits  # noqa: E402
from speech.phi4.stock import StockAnswer  # noqa: E402
from speech.phi4.tiny import make_tiny  # noqa: E402
from tests.commands.runner import earful  # noqa: E402
from tests.workers.sending import sample  # noqa: E402

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(name="samples", scope="module")
def _samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine seconds of a call with their truth."""
    folder = tmp_path_factory.mktemp("samples")
    truth = json.loads((Path(__file__).parents[3] / "samples/calls/card-fee.json").read_text())
    kept = [one for one in truth["utterances"] if one["end_ms"] < 9_000]
    soundfile.write(folder / "card-fee.flac", sample("calls/card-fee", 0, 9_000), 8_000)
    (folder / "card-fee.json").write_text(json.dumps(truth | {"utterances": kept}))
    return folder


def test_check_names_what_a_checkpoint_holds_and_needs(tiny: Path) -> None:
    done = earful("phi4", "check", str(tiny))
    assert done.code == 0, done.err
    said = " ".join(done.out.split())
    assert "layout: native" in said
    assert "speech adapter: rank 4, alpha 8" in said
    assert [card for card in ("16 GB", "24 GB", "48 GB", "80 GB") if f"{card} card: " in said] == [
        "16 GB", "24 GB", "48 GB", "80 GB",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "missing", ["config.json", "model.safetensors", "tokenizer.json", "speech-lora/adapter_config.json"]
)
def test_check_refuses_what_is_incomplete(tiny: Path, tmp_path: Path, missing: str) -> None:
    shutil.copytree(tiny, tmp_path / "w")
    (tmp_path / "w" / missing).unlink()
    done = earful("phi4", "check", str(tmp_path / "w"))
    assert (done.code, Path(missing).name in done.err.replace("\n", "")) == (1, True), done.err


def test_transcribe_takes_all_files_and_gives_token_ids(tiny: Path, samples: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", sample("calls/card-fee", 0, 5_000)[:, 1], 8_000)
    files = (str(samples / "card-fee.flac"), str(tmp_path / "mono.wav"))
    done = earful("transcribe", *files, "--engine", "phi4", "--weights", str(tiny), "--max-tokens", "9", "--json")
    assert done.code == 0, done.err
    both: list[dict[str, Any]] = done.json()
    assert [result["file"] for result in both] == list(files)
    assert all(result["lines"] for result in both)
    for line in (line for result in both for line in result["lines"]):
        assert 0 < len(line["token_ids"]) <= 9
        assert line["task"] == "transcribe"
        assert line["tokens_in"] > len(line["token_ids"])
        assert (line["model"], line["version"].split("-")[:3]) == ("phi4", ["phi4", "float32", "merged"])
    again = earful("transcribe", files[1], "--engine", "phi4", "--weights", str(tiny), "--max-tokens", "9", "--vtt")
    assert again.code == 0, again.err
    assert again.out.startswith("WEBVTT")
    german = earful(
        "transcribe",
        files[1],
        "--engine",
        "phi4",
        "--weights",
        str(tiny),
        "--task",
        "translate",
        "--language",
        "de",
        "--json",
    )
    assert german.code == 0, german.err
    assert german.json()[0]["lines"][0]["task"] == "translate"


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--language", "xx"), "phi4 knows the languages"),
        (("--task", "translate"), "name the language to translate to"),
        (("--max-tokens", "5000"), "MAX_TOKENS must be 1 to 4096"),
    ],
    ids=lambda one: " ".join(one) if isinstance(one, tuple) else "",
)
def test_what_the_engine_refuses_is_said(tiny: Path, samples: Path, options: tuple[str, ...], says: str) -> None:
    file = str(samples / "card-fee.flac")
    done = earful("transcribe", file, "--engine", "phi4", "--weights", str(tiny), *options)
    assert (done.code, done.out, says in done.sentence()) == (1, "", True), done.err


def test_a_clip_too_short_for_the_engine_is_counted(tiny: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "short.wav", sample("calls/card-fee", 0, 40), 8_000)
    (tmp_path / "manifest.jsonl").write_text(json.dumps({"path": "short.wav", "text": "hello"}))
    done = earful("eval", "asr", str(tmp_path), "--engine", "phi4", "--weights", str(tiny), "--json")
    assert done.code == 0, done.err
    assert (done.json()["too_short"], done.json()["word_error_rate"]) == (1, 1.0)


def test_summaries_of_one_channel_and_of_two(tiny: Path, samples: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", sample("calls/card-fee", 0, 5_000)[:, 1], 8_000)
    both = (str(tmp_path / "mono.wav"), str(samples / "card-fee.flac"))
    options = ("--engine", "phi4", "--weights", str(tiny), "--task", "summarize", "--max-tokens", "60")
    done = earful("transcribe", *both, *options, "--roles", "customer,agent", "--json")
    assert done.code == 0, done.err
    mono, call = done.json()
    assert (mono["method"], mono["file"]) == ("phi4-audio-v1", both[0])
    assert call["method"] == "phi4-json-v1"
    assert set(json.loads(call["text"])) == {"method", "issue", "outcome", "actions", "summary", "evidence"}
    assert earful("transcribe", *both, *options, "--vtt").code == 2


def test_what_is_too_long_to_be_heard_as_one_is_transcribed_and_then_summarized(
    tiny: Path, samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So is what shall be told in another language than English, which the model was not trained for with audio."""
    soundfile.write(tmp_path / "mono.wav", sample("calls/card-fee", 0, 5_000)[:, 1], 8_000)
    words = (
        "transcribe",
        str(tmp_path / "mono.wav"),
        "--engine",
        "phi4",
        "--weights",
        str(tiny),
        "--task",
        "summarize",
    )
    options = ("--max-tokens", "60", "--json")

    def method(*more: str) -> str:
        done = earful(*words, *more, *options)
        assert done.code == 0, done.err
        found: str = done.json()[0]["method"]
        return found

    assert method("--language", "en") == "phi4-audio-v1"
    assert method("--language", "de") == "phi4-json-v1"
    monkeypatch.setattr("commands.phi4_engine.Limits", partial(Limits, max_summary_seconds=4.0))
    assert method() == "phi4-json-v1"


def test_free_text_about_one_channel_and_about_two(tiny: Path, samples: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", sample("calls/card-fee", 0, 5_000)[:, 1], 8_000)
    both = (str(tmp_path / "mono.wav"), str(samples / "card-fee.flac"))
    options = ("--engine", "phi4", "--weights", str(tiny), "--task", "generate", "--max-tokens", "30", "--json")
    found = []
    for prompt in ("Who calls?", "What was promised?"):
        done = earful("transcribe", *both, *options, "--prompt", prompt, "--roles", "customer,agent")
        assert done.code == 0, done.err
        found.append(done.json())
    for mono, call in found:
        assert [mono["task"], call["task"]] == ["generate"] * 2
        assert (mono["front_end"], "front_end" in call) == ("8k-fillzero", False), (
            "two channels are asked about by text"
        )
        assert all(0 < len(one["token_ids"]) <= 30 for one in (mono, call))
    assert all(a["token_ids"] != b["token_ids"] for a, b in zip(*found, strict=True)), "the prompt is asked"
    for wrong in (options, (*options, "--prompt", "Why?", "--task", "transcribe")):
        done = earful("transcribe", *both, *wrong)
        assert (done.code, "--prompt TEXT" in done.sentence()) == (2, True), done.err


def test_transcribe_says_what_the_weights_lack(tmp_path: Path, samples: Path) -> None:
    done = earful("transcribe", str(samples / "card-fee.flac"), "--engine", "phi4", "--weights", str(tmp_path))
    assert (done.code, "holds no config.json" in done.sentence()) == (1, True), done.err


def test_eval_counts_errors_and_speed(tiny: Path, samples: Path) -> None:
    done = earful("eval", "asr", str(samples), "--engine", "phi4", "--weights", str(tiny), "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert found["word_error_rate"] > 0.5, "random weights do not understand English"
    assert found["rtfx"] > 0


def test_verify_agrees_with_transformers_and_notices_when_it_does_not(
    tiny: Path, samples: Path, tmp_path: Path
) -> None:
    done = earful("phi4", "verify", str(tiny), "--samples", str(samples))
    assert done.code == 0, done.err
    assert "verified" in done.out
    assert re.search(r"word error rate \d+\.\d%, \d+\.\d x real time", done.out)
    other = make_tiny(tmp_path / "other", seed=5)
    done = earful("phi4", "verify", str(tiny), "--samples", str(samples), "--reference", str(other))
    assert done.code == 1
    assert "another token at place" in done.err.replace("\n", " ")


def stock(*rows: tuple[int, dict[int, float]]) -> StockAnswer:
    """The tokens chosen, each with what some logits were; the others are 0."""
    logits = torch.zeros(len(rows), 8)
    for place, (_, known) in enumerate(rows):
        for token, value in known.items():
            logits[place, token] = value
    return StockAnswer(tokens=[token for token, _ in rows], logits=logits)


@pytest.mark.parametrize(
    ("tokens", "says"),
    [
        ([1, 2], None),
        ([1, 3], "another token at place 1"),
        ([4, 2], "a tie at place 0"),
        ([1], "another token at place 1"),
        ([1, 2, 5], "another token at place 2"),
    ],
)
def test_the_first_difference_decides(tokens: list[int], says: str | None) -> None:
    answer = stock((1, {1: 9.0, 4: 8.9}), (2, {2: 9.0}), (7, {7: 9.0, 5: 1.0}))
    found = first_difference(tokens, answer, (7,), tie=0.5, most=10)
    assert found is None if says is None else found is not None and found.startswith(says)
