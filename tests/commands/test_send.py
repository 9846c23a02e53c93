"""`earful send`: whatever PyAV reads arrives as a call; a wrong file, role or line sends nothing."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from threading import Thread

import av
import numpy as np
import pytest
import soundfile
from pydantic import SecretStr
from rich.console import Console

import commands.send  # noqa: F401  # the package has a command of this name, too
from settings import Settings
from stream.producers import DeliveryError
from tests.commands.conftest import Run
from tests.commands.runner import earful
from tests.workers.pipeline import Pipeline
from tests.workers.sending import sample

send_module = sys.modules["commands.send"]
STARTED = ("--started-at", "2026-05-04T10:00:00")
TALK = sample("calls/card-fee", 0, 6_000)


def record(path: Path, codec: str) -> Path:
    """Six seconds of two people, 8 kHz stereo, in a lossy format."""
    with av.open(str(path), "w") as file:
        stream = file.add_stream(codec, rate=8_000, layout="stereo")
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(TALK).reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 8_000, 0, Fraction(1, 8_000)
        resampler = av.AudioResampler(
            format=stream.codec_context.format, layout="stereo", rate=8_000, frame_size=stream.codec_context.frame_size
        )
        for part in [*resampler.resample(frame), *resampler.resample(None)]:
            file.mux(stream.encode(part))
        file.mux(stream.encode(None))
    return path


def test_mp3_opus_and_m4a_become_calls(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    files = [
        record(tmp_path / "lossy-1.mp3", "libmp3lame"),
        record(tmp_path / "lossy-2.opus", "libopus"),
        record(tmp_path / "lossy-3.m4a", "aac"),
    ]
    done = run("send", "call", *map(str, files), "--roles", "customer,agent", "--product", "kettle", *STARTED)
    assert done.code == 0, done.err
    assert [line.partition(":")[0] for line in done.out.splitlines()] == ["lossy-1", "lossy-2", "lossy-3"]

    def analysed() -> bool:
        query = "SELECT count(*) FROM ingest.call_runs WHERE starts_with(call_id, 'lossy-') AND state = 'analysed'"
        return pipeline.one(query) == 3

    pipeline.wait(analysed, "three calls are analysed")
    rows = pipeline.rows(
        "SELECT product, channels, gap_ms, duration_ms FROM ingest.calls WHERE starts_with(call_id, 'lossy-')"
    )
    assert all(row[:3] == ("kettle", 2, 0) and abs(row[3] - 6_000) < 200 for row in rows), rows
    spoken = pipeline.rows("SELECT DISTINCT role FROM ingest.utterances WHERE starts_with(call_id, 'lossy-')")
    assert sorted(spoken) == [("agent",), ("customer",)]


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (("text.mp3",), 1, "text.mp3 is not an audio file that FFmpeg reads"),
        (("good.wav", "--roles", "customer,robot"), 2, "--roles takes customer, agent, unknown"),
        (("good.wav", "--roles", "customer"), 2, "one role for each channel"),
        (("good.wav", "good.wav", "--call-id", "one"), 2, "--call-id names one call"),
        (("good.wav", "--call-id", "x" * 300), 2, "call_id"),
        (("good.wav", "text.mp3", "more/good.wav"), 2, "2 files would be the call good; send each by itself"),
    ],
)
def test_what_is_wrong_with_a_call_is_said_and_nothing_is_sent(
    run: Run, pipeline: Pipeline, tmp_path: Path, options: tuple[str, ...], code: int, says: str
) -> None:
    (tmp_path / "text.mp3").write_text("this is no music")
    record(tmp_path / "good.wav", "pcm_s16le")
    (tmp_path / "more").mkdir()
    record(tmp_path / "more" / "good.wav", "pcm_s16le")
    before = pipeline.ends(pipeline.topics.calls_audio)
    done = run("send", "call", *options, *STARTED)
    assert (done.code, says in done.sentence()) == (code, True), done.err
    assert pipeline.ends(pipeline.topics.calls_audio) == before


def test_a_recording_may_come_through_a_pipe(run: Run, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "whole.flac", sample("calls/card-fee", 0, 3_000), 8_000)
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = Thread(target=lambda: pipe.write_bytes((tmp_path / "whole.flac").read_bytes()))
    writer.start()
    done = run("send", "call", str(pipe), "--call-id", "piped")
    writer.join()
    assert (done.code, done.out.startswith("piped: 3.0 s")) == (0, True), done.err


def test_what_is_printed_as_sent_is_there_though_a_later_file_is_none(
    run: Run, pipeline: Pipeline, tmp_path: Path
) -> None:
    """The command ends at the second file; the first is whole in Kafka, up to its end."""
    (tmp_path / "text.mp3").write_text("this is no music")
    record(tmp_path / "before-text.wav", "pcm_s16le")
    done = run("send", "call", "before-text.wav", "text.mp3", *STARTED)
    assert (done.code, "text.mp3" in done.sentence(), done.out.partition(":")[0]) == (1, True, "before-text")
    query = "SELECT close_reason, gap_ms FROM ingest.calls WHERE call_id = 'before-text' AND close_reason IS NOT NULL"
    pipeline.wait(lambda: pipeline.rows(query) == [("ended", 0)], "the first file's call")


def test_a_call_that_is_there_is_not_sent_again_but_gone_on_with(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    record(tmp_path / "used.wav", "pcm_s16le")
    assert run("send", "call", "used.wav").code == 0
    state = "SELECT state FROM analytics_v1.calls WHERE call_id = 'used'"
    pipeline.wait(lambda: pipeline.rows(state) == [("analysed",)], "the call")
    ends = pipeline.ends(pipeline.topics.calls_audio)
    done = run("send", "call", "used.wav")
    assert (done.code, "call used is there already" in done.sentence()) == (1, True), done.err
    assert pipeline.ends(pipeline.topics.calls_audio) == ends
    again = run("send", "call", "used.wav", "--started-at", done.err.rpartition("--started-at ")[2].strip())
    assert again.code == 0, again.err
    read = "SELECT sum(next_offset) FROM ingest.ledger WHERE stage = 'segmenter'"
    ends = pipeline.ends(pipeline.topics.calls_audio)
    pipeline.wait(lambda: pipeline.one(read) == sum(ends.values()), "all is read")
    assert pipeline.rows("SELECT 1 FROM ingest.dead_letters WHERE subject_id = 'used'") == []


def test_a_used_call_id_is_refused_unless_kafka_or_postgres_alone_is_the_local_stacks(
    run: Run, pipeline: Pipeline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that nobody names is the pipeline's here: at Earful's own defaults nothing listens."""
    record(tmp_path / "looked-for.wav", "pcm_s16le")
    assert run("send", "call", "looked-for.wav", *STARTED).code == 0
    pipeline.wait(lambda: pipeline.rows("SELECT 1 FROM ingest.calls WHERE call_id = 'looked-for'"), "the call")
    local = {**pipeline.stack.endpoints, "postgres_url": pipeline.url}

    class There(Settings):
        kafka_bootstrap_servers: str = local["kafka"]
        postgres_url: SecretStr = SecretStr(local["postgres_url"])

    monkeypatch.setattr("settings.Settings", There)
    monkeypatch.setattr("commands.context.Settings", There)
    monkeypatch.setattr(send_module, "CallProducer", Kept)

    def refused(*hidden: str, stack: bool) -> bool:
        (tmp_path / "endpoints.json").write_text(json.dumps(local if stack else {}))
        unset = {f"EARFUL_{name}": "" for name in hidden}
        done = run("send", "call", "looked-for.wav", EARFUL_HOME=str(tmp_path), **unset)
        assert (done.code, "call looked-for is there already" in done.err) in ((1, True), (3, False)), done
        return done.code == 1

    both = ("KAFKA_BOOTSTRAP_SERVERS", "POSTGRES_URL")
    assert [refused(one, stack=False) for one in both] == [True, True]
    assert [refused(one, stack=True) for one in both] == [False, False]
    assert refused(*both, stack=True)
    assert refused(stack=True)


def test_a_producer_needs_no_postgres(run: Run, tmp_path: Path) -> None:
    record(tmp_path / "[final] a recording with a name that is longer than one line of a terminal.wav", "pcm_s16le")
    [file] = [one.name for one in tmp_path.glob("*.wav")]
    away = {"EARFUL_POSTGRES_URL": "postgresql://nobody@127.0.0.1:1/none", "COLUMNS": "80"}
    done = run("send", "call", file, **away)
    assert (done.code, done.out.splitlines()[0].partition(":")[0]) == (0, Path(file).stem), done.err
    assert len(done.out.splitlines()) == 1
    [told] = run("send", "call", file, "--json", "--call-id", "as-json", *STARTED, **away).json()
    assert (told["call_id"], told["channels"], told["rate"]) == ("as-json", 2, 8_000)


def line(review_id: str, **fields: object) -> str:
    plain = {"review_id": review_id, "product": "kettle", "text": "The battery is great.", "created_at": "2026-05-04"}
    return json.dumps(plain | fields) + "\n"


def test_reviews_edits_and_deletions_arrive(run: Run, pipeline: Pipeline, tmp_path: Path) -> None:
    lines = [line("sent-1"), line("sent-2"), line("sent-1", text="The battery died.", version=2)]
    (tmp_path / "reviews.jsonl").write_text("".join(lines))
    (tmp_path / "more.csv").write_text(
        "review_id,product,text,created_at,deleted\n"
        'sent-3,kettle,"Delivery was late, twice.",2026-05-04,\n'
        "sent-2,,,,true\n"
    )
    assert "sent 3 reviews and 0 deletions" in run("send", "reviews", "reviews.jsonl").out
    assert run("send", "reviews", "more.csv", "--json").json() == {"reviews": 1, "deletions": 1}
    query = "SELECT review_id, text FROM analytics_v1.reviews WHERE starts_with(review_id, 'sent-') ORDER BY 1"
    wanted = [("sent-1", "The battery died."), ("sent-3", "Delivery was late, twice.")]
    pipeline.wait(lambda: pipeline.rows(query) == wanted, "the reviews as they stand at the end")


class Kept:
    """A producer whose reviews and calls nobody needs; it breaks off halfway through a call of six seconds."""

    def __init__(self, servers: str, **options: object) -> None:
        pass

    def __enter__(self) -> Kept:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, event: object) -> None:
        pass

    def send_recording(self, file: Path, *, on_progress: Callable[[int], None], **options: object) -> None:
        on_progress(3_000)
        raise DeliveryError("calls.audio.v1", "halfway", "test")


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """What `earful send` shows in a terminal, without Kafka."""
    shown = io.StringIO()
    monkeypatch.setattr(send_module, "errors", Console(file=shown, force_terminal=True, width=100))
    monkeypatch.setattr(send_module, "ReviewProducer", Kept)
    monkeypatch.setattr(send_module, "CallProducer", Kept)
    monkeypatch.setattr(send_module, "require_kafka", lambda *_: None)
    return shown


def test_a_terminal_shows_how_much_of_a_call_is_sent(tmp_path: Path, terminal: io.StringIO) -> None:
    record(tmp_path / "shown.wav", "pcm_s16le")
    assert earful("send", "call", "shown.wav").code == 3
    shown = terminal.getvalue()
    assert "shown.wav" in shown
    assert " 50%" in shown


def test_a_terminal_shows_how_many_reviews_are_sent(tmp_path: Path, terminal: io.StringIO) -> None:
    (tmp_path / "many.jsonl").write_text("".join(line(f"many-{number}") for number in range(7)))
    assert earful("send", "reviews", "many.jsonl").out == "sent 7 reviews and 0 deletions\n"
    shown = terminal.getvalue()
    assert "many.jsonl" in shown
    assert "7 of 7 sent" in shown


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_wrong_line_is_named_and_nothing_is_sent(run: Run, pipeline: Pipeline, tmp_path: Path, kind: str) -> None:
    file = tmp_path / f"bad.{kind}"
    if kind == "jsonl":
        file.write_text(line("bad-1") + line("bad-2", rating="my card is 4111") + "no json 4111\n")
    else:
        file.write_text(
            "review_id,product,text,created_at\nbad-1,p,Good.,2026-05-04\nbad-2,p,Good.,4111\nbad-3,p,x,y,z,4111\n"
        )
    before = pipeline.ends(pipeline.topics.reviews_submitted)
    done = run("send", "reviews", file.name)
    assert done.code == 1
    assert f"bad.{kind}, line {2 if kind == 'jsonl' else 3}: " in done.err
    assert f"bad.{kind}, line {3 if kind == 'jsonl' else 4}: " in done.err
    assert "2 wrong; nothing was sent" in done.err
    assert "4111" not in done.err
    assert pipeline.ends(pipeline.topics.reviews_submitted) == before


def test_more_wrong_lines_than_are_looked_for_are_no_exact_number(tmp_path: Path) -> None:
    (tmp_path / "bad.jsonl").write_text("{}\n" * 101)
    assert "bad.jsonl: 100 or more wrong; nothing was sent" in earful("send", "reviews", "bad.jsonl").err


@pytest.mark.parametrize(
    ("name", "content"),
    [("no.jsonl", ""), ("no.csv", ""), ("no.jsonl", "\n"), ("no.csv", "review_id,text\n")],
)
def test_a_file_without_reviews_is_said(run: Run, tmp_path: Path, name: str, content: str) -> None:
    (tmp_path / name).write_text(content)
    done = run("send", "reviews", name)
    assert (done.code, "nothing was sent" in done.sentence()) == (1, True)


def test_a_file_of_another_kind_is_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "reviews.xml").write_text("<reviews/>")
    done = run("send", "reviews", "reviews.xml")
    assert (done.code, ".jsonl or .csv" in done.sentence()) == (2, True)
