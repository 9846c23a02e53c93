"""Test 21: what people say and write stays where it belongs. Canaries in text, keys, headers and audio metadata go through
poison and an ill Triton at DEBUG, and are looked for in logs, metrics, dead-letter headers and reasons."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any
from urllib.request import urlopen

import pytest
import soundfile

from stack.stack import Stack
from stream.events import CallStarted, Message
from tests.faults.chaos import Chaos
from tests.faults.ills import ailing
from tests.faults.results import Figures
from tests.workers.pipeline import STAGES
from tests.workers.sending import STARTED, chunks, review, sample, whole_call

CANARY = "CANARY"
#: Of our own headers, beside those that the record came with.
OURS = ("__connect.errors.", "earful-")


def canary(where: str) -> str:
    return f"{CANARY}-{where}-4111"


def wav_with_metadata(value: bytes) -> bytes:
    """The same audio as a WAV that says a title, an artist and a comment."""
    pcm, rate = soundfile.read(io.BytesIO(value), dtype="int16", always_2d=True)
    out = io.BytesIO()
    with soundfile.SoundFile(out, "w", samplerate=rate, channels=pcm.shape[1], format="WAV", subtype="PCM_16") as file:
        file.title, file.artist, file.comment = canary("title"), canary("artist"), canary("comment")
        file.write(pcm)
    return out.getvalue()


def poisonous(p: Chaos) -> list[Message]:
    """Each way of being refused that quotes something, with a canary where it might be quoted."""
    good = review(canary("key"), canary("text"), author=canary("author"), version=1).to_message(p.topics)
    body = json.loads(good.value or b"{}")
    talk = sample("calls/card-fee", 0, 2_000)
    chunk = chunks(canary("call"), talk)[0].to_message(p.topics)
    bad = [
        b"{" + canary("json").encode(),
        canary("latin").encode() + b"\xff",
        json.dumps({**body, "review_id": canary("other-id")}).encode(),
        json.dumps({**body, "text": " ", "product": canary("product")}).encode(),
        json.dumps({**body, "created_at": canary("date")}).encode(),
        json.dumps({**body, "rating": canary("rating")}).encode(),
        json.dumps({**body, canary("field"): canary("value"), "version": canary("version")}).encode(),
        json.dumps({**body, "language": canary("language")}).encode(),
    ]
    out = [replace(good, value=value) for value in bad]
    out.append(replace(good, headers=(*good.headers, ("version", canary("version-header").encode()))))
    out.append(
        replace(good, headers=(*good.headers, (canary("header-name"), canary("header").encode()), ("version", b"x")))
    )
    for name in ("codec", "rate", "channels", "channel_roles", "seq", "call_started_at", "ce_type"):
        headers = tuple((one, canary(name).encode() if one == name else value) for one, value in chunk.headers)
        out.append(replace(chunk, headers=headers))
    out.append(replace(chunk, value=canary("audio").encode() * 40))
    return out


@pytest.mark.chaos
@pytest.mark.proof(21)
@pytest.mark.timeout(400)
def test_no_canary_is_told(stack: Stack, figures: Figures) -> None:
    servers = {name: (stack.home / "logs" / f"{name}.log").stat().st_size for name in ("kafka", "postgres", "triton")}
    with Chaos(stack, log_level="DEBUG") as p:
        p.expects_deaths = False
        ports = {stage: p.port(f"health_{stage}") for stage in STAGES}
        for stage, port in ports.items():
            p.worker(stage, health_port=port)
        p.produce(poisonous(p))
        for model, what, output in (("aspects", "empty", "VERSION"), ("cvib", "nan", "PROBABILITIES")):
            with ailing(stack.home, model, what, output=output):
                p.produce([review(canary(f"{model}-key"), f"The battery {canary(model)}.").to_message(p.topics)])
                p.wait(lambda model=model: f"{model} answered" in logs(p), f"{model} is ill")  # type: ignore[misc]
        with ailing(stack.home, "whisper", "error", times=2):
            p.produce([one.to_message(p.topics) for one in a_call()])
            p.wait(lambda: "whisper did not answer" in logs(p), "whisper raises")
        p.wait_until_settled(120)
        letters = p.rows("SELECT reason, detail FROM ingest.dead_letters")
        assert len(letters) == len(poisonous(p))
        told = {"logs": logs(p), "reasons": "\n".join(f"{reason} {detail}" for reason, detail in letters)}
        told["metrics"] = "".join(
            urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10).read().decode() for port in ports.values()
        )
        assert "earful_records_total" in told["metrics"]
        told["headers"] = "\n".join(
            f"{name} {value!r}"
            for topic in p.topics.consumed
            for record in p.records(p.topics.dlt(topic))
            for name, value in record.headers
            if name.startswith(OURS)
        )
        assert "exception.message" in told["headers"]
    for name, size in servers.items():
        with (stack.home / "logs" / f"{name}.log").open("rb") as file:
            file.seek(size)
            told[name] = file.read().decode(errors="replace")
    figures.note(
        load=f"{len(letters)} poisonous records, 2 reviews, a call", faults="Triton ill in three ways; log level DEBUG"
    )
    found = {where: [line[:300] for line in text.splitlines() if CANARY in line][:3] for where, text in told.items()}
    assert not any(found.values()), found


def a_call() -> list[Any]:
    """Its metadata and its audio's hold canaries; nothing is wrong with it."""
    events = whole_call(canary("good-call"), sample("calls/card-fee", 0, 8_000))
    first = events[0]
    assert isinstance(first, CallStarted)
    start = first.model_copy(update={"metadata": {"note": canary("metadata")}, "product": canary("call-product")})
    audio = [one.model_copy(update={"codec": "wav", "value": wav_with_metadata(one.value)}) for one in events[1:-1]]
    assert audio[0].call_started_at == STARTED
    return [start, *audio, events[-1]]


def logs(p: Chaos) -> str:
    return "".join(worker.log.read_text(errors="replace") for worker in p.workers)
