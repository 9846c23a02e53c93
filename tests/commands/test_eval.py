"""`earful eval asr DIR`: through the running pipeline."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import soundfile

from tests.commands.conftest import Run
from tests.workers.pipeline import PROJECT, Pipeline


def test_the_running_pipeline_is_measured(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    """The test's Whisper says other words, at the right times."""
    truth = json.loads((PROJECT / "samples/calls/card-fee.json").read_text())
    pcm, rate = soundfile.read(
        PROJECT / "samples/calls/card-fee.flac", dtype="int16", frames=20 * truth["sample_rate_hz"]
    )
    soundfile.write(tmp_path / "short.flac", pcm, rate)
    heard = [one for one in truth["utterances"] if one["end_ms"] < 19_000]
    (tmp_path / "short.json").write_text(json.dumps(truth | {"utterances": heard}))
    found = run("eval", "asr", ".", "--json").json()
    assert found["utterances"] == len(heard) > 2
    assert found["starts_within_250_ms"] > 0.9
    assert found["word_error_rate"] > 0.5
    assert pipeline.rows("SELECT DISTINCT product FROM analytics_v1.calls WHERE call_id LIKE 'eval-%%'") == [
        ("evaluation",)
    ]


def test_nothing_is_sent_where_no_answer_could_be_read(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    truth = {"utterances": [{"channel": 0, "start_ms": 0, "end_ms": 90, "text": "yes"}]}
    (tmp_path / "short.json").write_text(json.dumps(truth))
    soundfile.write(tmp_path / "short.flac", np.zeros((800, 2), dtype=np.int16), 8_000)
    ends = pipeline.ends(pipeline.topics.calls_audio)
    done = run("eval", "asr", ".", EARFUL_POSTGRES_URL="postgresql://nobody@127.0.0.1:1/none")
    assert done.code == 3, done.err
    assert pipeline.ends(pipeline.topics.calls_audio) == ends
