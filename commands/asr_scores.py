"""Word error rate and timing of transcripts against a ground truth (format of samples/calls)."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any
from uuid import uuid4

import psycopg
from psycopg.rows import DictRow
from rich.progress import Progress

from commands.context import database, errors, fail, require_kafka, settings
from commands.manifest import Clip, read_audio
from commands.recognition import Engine, lines_of, texts_of
from settings import Settings
from speech.segment import Segmenter
from speech.wer import word_errors
from stream.files import read_file
from stream.producers import CallProducer
from stream.topics import Topics
from workers import kafka

__all__ = ["evaluate_engine", "evaluate_manifest", "evaluate_pipeline", "read_truths", "score"]

#: The speech of the six sample calls takes half a minute on two cores.
PATIENCE_SECONDS = 900
#: A start is right within this, milliseconds.
TOLERANCE_MS = 250

Line = dict[str, Any]  # channel, start_ms, end_ms, text


def read_truths(folder: Path) -> dict[str, Mapping[str, Any]]:
    """Every NAME.json of the folder that has utterances, by name. Raises ValueError that names what is wrong."""
    truths: dict[str, Mapping[str, Any]] = {}
    for path in sorted(folder.glob("*.json")):
        try:
            truth = json.loads(path.read_text("utf-8"))
        except ValueError as err:
            raise ValueError(f"{path.name} is not JSON") from err
        if not isinstance(truth, dict) or "utterances" not in truth:
            continue
        if not isinstance(truth["utterances"], list) or not all(map(is_line, truth["utterances"])):
            raise ValueError(f"{path.name}: every utterance has a channel (0 or 1), start_ms (a number) and text")
        if not path.with_suffix(".flac").is_file():
            raise ValueError(f"{path.stem}.flac is missing beside {path.name}")
        truths[path.stem] = truth
    if not any(truth["utterances"] for truth in truths.values()):
        raise ValueError(f"{folder} holds no NAME.json with utterances")
    return truths


def is_line(one: object) -> bool:
    if not isinstance(one, dict):
        return False
    return (
        one.get("channel") in (0, 1)
        and isinstance(one.get("start_ms"), int | float)
        and isinstance(one.get("text"), str)
    )


def score(truths: Mapping[str, Mapping[str, Any]], found: Mapping[str, Sequence[Line]]) -> dict[str, float | int]:
    """Texts are compared over each whole channel; a start against the nearest one found in its channel."""
    references: list[str] = []
    hypotheses: list[str] = []
    misses: list[int] = []
    for name, truth in truths.items():
        said, written = by_channel(truth["utterances"]), by_channel(found.get(name, ()))
        for channel in sorted(said.keys() | written.keys()):  # words on a channel where nobody speaks count, too
            spoken, heard = said.get(channel, []), written.get(channel, [])
            references.append(" ".join(one["text"] for one in spoken))
            hypotheses.append(" ".join(one["text"] for one in heard))
            starts = [one["start_ms"] for one in heard] or [10**9]
            misses += [min(abs(one["start_ms"] - start) for start in starts) for one in spoken]
    words = word_errors(references, hypotheses)
    misses.sort()
    return {
        "calls": len(truths),
        "words": words.words,
        "word_error_rate": round(words.rate, 4),
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "utterances": len(misses),
        "starts_within_250_ms": round(sum(miss <= TOLERANCE_MS for miss in misses) / len(misses), 4),
        "start_error_p50_ms": misses[len(misses) // 2],
        "start_error_p95_ms": misses[min(len(misses) - 1, len(misses) * 95 // 100)],
    }


def by_channel(lines: Sequence[Line]) -> dict[int, list[Line]]:
    ordered = sorted(lines, key=lambda one: (one["channel"], one["start_ms"]))
    return {channel: list(group) for channel, group in groupby(ordered, key=lambda one: int(one["channel"]))}


def evaluate_engine(folder: Path, truths: Mapping[str, Mapping[str, Any]], engine: Engine) -> dict[str, float | int]:
    """In this process; RTFx is audio seconds (all channels) over seconds of cutting and recognition, files read before."""
    recordings = [read_file(folder / f"{name}.flac") for name in truths]
    segmenter = Segmenter()
    begun = time.perf_counter()
    lines, too_short = lines_of(recordings, engine, segmenter)
    timed = time.perf_counter() - begun
    seconds = sum(pcm.shape[0] * pcm.shape[1] / rate for pcm, rate in recordings)
    found = score(truths, dict(zip(truths, lines, strict=True)))
    return found | {"too_short": too_short} | rtfx(seconds, timed)


def evaluate_manifest(clips: Sequence[Clip], engine: Engine) -> dict[str, float | int]:
    """The leaderboard's protocol: each clip as it is, RTFx is audio seconds over seconds of recognition, files read before."""
    audio = [read_audio(clip.path) for clip in clips]
    segmenter = Segmenter()
    begun = time.perf_counter()
    texts, too_short = texts_of(audio, engine, segmenter)
    timed = time.perf_counter() - begun
    words = word_errors([clip.text for clip in clips], texts)
    return {
        "clips": len(clips),
        "words": words.words,
        "word_error_rate": round(words.rate, 4),
        "substitutions": words.substitutions,
        "deletions": words.deletions,
        "insertions": words.insertions,
        "too_short": too_short,
        **rtfx(sum(len(samples) / rate for samples, rate in audio), timed),
    }


def rtfx(audio_seconds: float, timed_seconds: float) -> dict[str, float | int]:
    return {
        "audio_seconds": round(audio_seconds, 1),
        "timed_seconds": round(timed_seconds, 2),
        "rtfx": round(audio_seconds / timed_seconds, 1),
    }


def evaluate_pipeline(folder: Path, truths: Mapping[str, Mapping[str, Any]]) -> dict[str, float | int]:
    """Through Kafka, the workers and Postgres, as calls with ids of their own."""
    using = settings()
    require_kafka(using, Topics(using.topic_prefix).calls_audio)
    mark = f"eval-{uuid4().hex[:8]}-"
    begun = time.monotonic()
    with database(using.postgres_url.get_secret_value()) as connection:  # before anything is sent
        connection.autocommit = True
        connection.execute("SELECT 1 FROM analytics_v1.calls LIMIT 0")
        _send(using, folder, truths, mark)
        _wait(connection, [mark + name for name in truths], begun)
        rows = connection.execute(
            "SELECT call_id, channel, start_ms, end_ms, text FROM analytics_v1.utterances WHERE starts_with(call_id, %s)",
            (mark,),
        ).fetchall()
    found = {name: [row for row in rows if row["call_id"] == mark + name] for name in truths}
    return score(truths, found) | {"seconds": round(time.monotonic() - begun, 1)}


def _send(using: Settings, folder: Path, truths: Mapping[str, Mapping[str, Any]], mark: str) -> None:
    with CallProducer(using.kafka_bootstrap_servers, prefix=using.topic_prefix, **kafka.security(using)) as producer:
        for name, truth in truths.items():
            producer.send_recording(
                folder / f"{name}.flac",
                call_id=mark + name,
                roles=truth.get("channel_roles"),
                started_at=datetime.now(UTC),
                product="evaluation",
            )


def _wait(connection: psycopg.Connection[DictRow], call_ids: Sequence[str], begun: float) -> None:
    """Until all of them are transcribed; ends the command after PATIENCE_SECONDS."""
    with Progress(console=errors, transient=True) as progress:
        task = progress.add_task("transcribing", total=len(call_ids))
        while True:
            rows = connection.execute(
                "SELECT call_id FROM analytics_v1.calls WHERE call_id = ANY(%s) AND transcribed_at IS NOT NULL",
                (list(call_ids),),
            ).fetchall()
            left = sorted(set(call_ids) - {row["call_id"] for row in rows})
            progress.update(task, completed=len(call_ids) - len(left))
            if not left:
                return
            if time.monotonic() - begun > PATIENCE_SECONDS:
                fail(
                    f"{len(left)} calls are not transcribed after {PATIENCE_SECONDS} s; try `earful explain call {left[0]}`"
                )
            time.sleep(0.5)
