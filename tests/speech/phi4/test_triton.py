"""The model `phi4` in a real Triton server: what the engine says in process, errors, cancelling, a full queue, the end."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from time import monotonic
from typing import Any
from uuid import uuid4

import numpy as np
import pytest

pytest.importorskip("torch", reason="phi4 runs in .venv-torch")

import tritonclient.grpc.aio as triton
from tritonclient.grpc import InferenceServerClient

from errors import Permanent, Transient
from speech.contract import EXTRA_INPUTS, EXTRA_OUTPUTS, INPUTS, OUTPUTS, SpeechAnswer, SpeechRequest, Task
from speech.phi4.prompts import TRANSCRIBE, Prompts
from speech.phi4.start import StartOptions, start
from speech.phi4.summary import GRAMMAR_METHOD
from speech.phi4.transcript import Utterance, dump_transcript
from stack.process import StackError
from store.fact_rows import TranscriptLine
from tests.speech.phi4.reference import Reference, Request, noise
from tests.speech.phi4.rig import checkpoint, stop_ids, tokenizer, tone
from tests.speech.phi4.test_parity import SECONDS, TOKENS
from tests.speech.phi4.triton_rig import LIMITS, HttpTriton, Refused, ask, asked, metrics, responses, serving, until
from workers.deadline import Deadline
from workers.inference import Inference
from workers.summaries import summary_of

ROOT = Path(__file__).resolve().parents[3]
pytestmark = pytest.mark.timeout(300)

CALL = [
    Utterance(id="a", role="agent", text="Good morning, how can I help?"),
    Utterance(id="b", role="customer", text="My kettle leaks."),
]
#: The tiny model's own length is its token limit: it seldom stops, and the loop guard is off.
LONG = SpeechRequest(task=Task.GENERATE, text="go on", max_tokens=3_000)


@pytest.fixture(name="server", scope="module")
def _server() -> Iterator[HttpTriton]:
    with serving(checkpoint()) as server:
        yield server
    assert server.returncode == 0, "a request was left open"


def requests() -> list[SpeechRequest]:
    """Every task, both kinds of audio, a few languages."""
    return [
        SpeechRequest(task=Task.TRANSCRIBE, audio=tone(1.3), max_tokens=20),
        SpeechRequest(task=Task.TRANSCRIBE, audio=tone(2.1, 1, 8_000), rate=8_000),
        SpeechRequest(task=Task.TRANSLATE, audio=tone(0.6, 2), language="de"),
        SpeechRequest(task=Task.TRANSLATE_CHAIN, audio=tone(0.9, 3, 22_050), rate=22_050, language="fr", max_tokens=30),
        SpeechRequest(task=Task.SUMMARIZE, audio=tone(5.0, 4), max_tokens=25),
        SpeechRequest(task=Task.SUMMARIZE, text=dump_transcript(CALL), max_tokens=40),
        SpeechRequest(task=Task.GENERATE, text="say <|end|> something", max_tokens=25),
        SpeechRequest(task=Task.TRANSCRIBE, audio=np.zeros(9_000, np.float32)),
    ]


def told(answer: SpeechAnswer) -> dict[str, Any]:
    """What does not depend on time."""
    details = {name: value for name, value in (answer.details or {}).items() if name != "timings"}
    return {
        "text": answer.text, "reason": answer.finish_reason, "in": answer.tokens_in, "out": answer.tokens_out,
        "logprob": round(answer.mean_logprob, 4), "model": answer.model, "version": answer.version, **details,
    }  # fmt: skip


async def test_the_server_says_what_the_engine_says(server: HttpTriton) -> None:
    with start(checkpoint(), StartOptions(device="cpu", limits=LIMITS)) as speech:
        wanted = [told(speech.answer(request)) for request in requests()]
    assert len({str(one.get("token_ids")) for one in wanted}) == len(wanted), (
        "the requests must differ, or nothing is compared"
    )
    found = await asked(server, [*requests()])
    assert [told(one) if isinstance(one, SpeechAnswer) else one for one in found] == wanted


@pytest.mark.timeout(600)
async def test_batches_of_mixed_clips_and_texts_give_the_tokens_of_transformers_one_at_a_time() -> None:
    """As test_parity.py, through the server: 0.05 to 40 s, every fifth a text; at most 1, 5 and 32 of them at once."""
    import torch

    prompts, reference = Prompts(tokenizer()), Reference(checkpoint(), torch.float64)
    asks: list[SpeechRequest] = []
    wanted: list[list[int]] = []
    for number, seconds in enumerate(SECONDS):
        if number % 5 == 4:
            text = f"say {number}"
            asks.append(SpeechRequest(task=Task.GENERATE, text=text, max_tokens=TOKENS))
            prompt = prompts.free(text)
        else:
            audio = noise(seconds, seed=number)
            asks.append(SpeechRequest(task=Task.TRANSCRIBE, audio=audio, max_tokens=TOKENS))
            prompt = prompts.bare(TRANSCRIBE, audio, 16_000)
        request = Request(before=prompt.before, after=prompt.after, samples=prompt.audio)
        tokens = reference.answer(request, TOKENS).tokens
        wanted.append([token for token in tokens if token not in stop_ids()])
    assert len({str(tokens) for tokens in wanted}) > len(wanted) * 3 // 4, "or nothing is compared"
    wide = replace(LIMITS, utterance_slots=32, utterance_slot_tokens=1_024, queue=64)
    with serving(checkpoint(), wide) as server:
        for most in (1, 5, 32):
            found = await asked(server, asks, most=most)
            assert [isinstance(one, SpeechAnswer) and (one.details or {})["token_ids"] for one in found] == wanted


BAD: list[tuple[SpeechRequest | dict[str, Any], str, str]] = [
    (SpeechRequest(task=Task.TRANSCRIBE, audio=np.zeros(0, np.float32)), "invalid: ", "empty|short"),
    (SpeechRequest(task=Task.TRANSCRIBE, audio=tone(1)[:100]), "invalid: ", "short"),
    (SpeechRequest(task=Task.TRANSCRIBE, audio=np.full(9_000, np.nan, np.float32)), "invalid: ", "NaN"),
    (SpeechRequest(task=Task.TRANSCRIBE, audio=tone(1) * 32_768), "invalid: ", "-1"),
    (SpeechRequest(task=Task.TRANSCRIBE, audio=tone(40.5)), "invalid: ", "too long"),
    (
        SpeechRequest(task=Task.SUMMARIZE, audio=np.zeros(31 * 60 * 8_000, np.float32), rate=8_000),
        "invalid: ",
        "too long",
    ),
    (SpeechRequest(task=Task.TRANSCRIBE), "invalid: ", "AUDIO is missing"),
    (SpeechRequest(task=Task.TRANSCRIBE, audio=tone(1), max_tokens=0), "invalid: ", "at least 1"),
    (SpeechRequest(task=Task.TRANSCRIBE, audio=tone(1), max_tokens=10**6), "invalid: ", "MAX_TOKENS"),
    # More than any slot holds: told at once, not after waiting for one.
    (SpeechRequest(task=Task.GENERATE, text="x", max_tokens=4_096), "invalid: ", "fit|tokens"),
    (SpeechRequest(task=Task.TRANSLATE, audio=tone(1), language="tlh"), "invalid: ", "languages"),
    (SpeechRequest(task=Task.SUMMARIZE, audio=tone(1), language="de"), "unimplemented: ", "English only"),
    (
        SpeechRequest(task=Task.TRANSCRIBE, audio=tone(1)).tensors() | {"TASK": np.array([b"sing"], np.object_)},
        "invalid: ",
        "unknown task",
    ),
]


async def test_a_bad_request_is_told_so_and_the_running_batch_never_notices(server: HttpTriton) -> None:
    good = requests()[:3]
    alone = await asked(server, [*good])
    together = await asked(server, [*good, *(bad for bad, _, _ in BAD)])
    assert [told(one) for one in together[:3]] == [told(one) for one in alone]  # type: ignore[arg-type]
    for (_, kind, says), one in zip(BAD, together[3:], strict=True):
        assert isinstance(one, Refused), one
        assert str(one).startswith(kind)
        assert any(word in str(one) for word in says.split("|")), one


async def test_deltas_come_before_the_answer_and_are_its_text(server: HttpTriton) -> None:
    request = replace(requests()[0], stream=True)
    async with triton.InferenceServerClient(server.address) as client:
        found = [one async for one in responses(client, request.tensors())]
    *deltas, last = found
    assert len(deltas) > 3
    assert all(set(one) == {"DELTA", "RESTART"} for one in deltas)
    assert "".join(one["DELTA"][0].decode() for one in deltas).strip() == last["TEXT"][0].decode()
    assert last["TEXT"][0].decode() == (await asked(server, [requests()[0]]))[0].text  # type: ignore[union-attr]


async def test_who_goes_away_frees_the_slot(server: HttpTriton) -> None:
    before = (await until(server, {"running": 0}))["cancelled_total"]
    async with triton.InferenceServerClient(server.address) as client:
        async with aclosing(responses(client, replace(LONG, stream=True).tensors())) as stream:
            assert "DELTA" in await anext(stream)
        await until(server, {"cancelled_total": before + 1, "running": 0})
        task = asyncio.create_task(ask(client, LONG))
        await until(server, {"running": 1})
        task.cancel()
        found = await until(server, {"cancelled_total": before + 2, "running": 0, "kv_tokens": 0})
    assert found["kv_tokens_all"] > 0


async def test_a_full_queue_refuses_and_the_server_stays_healthy(server: HttpTriton) -> None:
    slots, one = LIMITS.utterance_slots, replace(LONG, max_tokens=500)
    await asked(server, [replace(LONG, max_tokens=0)])
    first = asyncio.create_task(asked(server, [one] * (slots + LIMITS.queue + 6)))
    await asyncio.to_thread(_queued, server, LIMITS.queue - slots)  # so many are left when the slots are filled
    rest = asyncio.create_task(asked(server, [one] * (slots + 6)))
    await asyncio.to_thread(_queued, server, LIMITS.queue)
    assert await asyncio.to_thread(server.healthy), "a full model is not a dead one"
    found = [*await first, *await rest]
    refused = [one for one in found if isinstance(one, Refused)]
    assert 1 <= len(refused) <= 2 * (slots + 6)
    assert all("queue is full" in str(one) for one in refused)
    assert len({one.text for one in found if isinstance(one, SpeechAnswer)}) == 1
    numbers = await until(server, {"queued": 0.0, "running": 0.0})
    assert numbers["refused_total{unavailable}"] >= len(refused), "the canary may have been refused too"
    assert {"tokens_per_second", "rtfx", "new_tokens_total", "audio_seconds_total", "kv_tokens"} <= numbers.keys()
    assert numbers["new_tokens_total"] > 0
    assert numbers["refused_total{invalid}"] > 0


async def test_a_long_queue_is_no_illness_and_an_engine_that_stands_still_is_one(server: HttpTriton) -> None:
    many = LIMITS.queue + 2
    crowd = asyncio.create_task(asked(server, [LONG] * many))
    try:
        await asyncio.to_thread(_queued, server, LIMITS.queue - LIMITS.utterance_slots - 1)
        assert await asyncio.to_thread(server.healthy)
        assert metrics(server)["queued"] > 0, "the canary must have been behind others to the end"
        server.still.touch()
        assert not await asyncio.to_thread(server.check, seconds=7)  # "busy" would come after five
    finally:
        server.still.unlink(missing_ok=True)
        crowd.cancel()
    await until(server, {"running": 0, "queued": 0})
    assert await asyncio.to_thread(server.healthy)


def _queued(server: HttpTriton, many: int) -> None:
    deadline = monotonic() + 30
    while metrics(server).get("queued", 0) < many:
        assert monotonic() < deadline, "the requests never queued"


async def test_the_workers_ask_it_like_any_other(server: HttpTriton) -> None:
    inference = Inference(server.address, speech_model="phi4")
    try:
        samples = tone(1.3)
        [direct] = await asked(server, [SpeechRequest(task=Task.TRANSCRIBE, audio=samples)])
        assert isinstance(direct, SpeechAnswer)
        found = await inference.transcribe(samples, 16_000, Deadline.after(30))
        assert (found.answer.text, found.answer.version) == (direct.text, direct.version)
        assert await inference.canary(["phi4"])
        assert await inference.speech_version() == direct.version
        parameters = await inference.model_parameters("phi4")
        assert set(json.loads(parameters["capabilities"])["tasks"]) == set(Task)
        for _ in range(40):  # errors as the streams' status crashed the server in one of two such runs
            bad = [inference.transcribe(samples[:100], 16_000, Deadline.after(30)) for _ in range(6)]
            refused = await asyncio.gather(*bad, return_exceptions=True)
            assert {isinstance(one, Permanent) and one.reason for one in refused} == {"invalid_input"}
        with pytest.raises(Transient):
            await inference.transcribe(tone(30, 3), 16_000, Deadline.after(0.2))
        await until(server, {"running": 0})
    finally:
        await inference.close()


async def test_the_summarizer_takes_its_summaries(server: HttpTriton) -> None:
    lines = [
        TranscriptLine(utterance_id=uuid4(), role="agent", start_ms=0, text="Good morning, how can I help?"),
        TranscriptLine(utterance_id=uuid4(), role="customer", start_ms=900, text="My kettle leaks."),
    ]
    inference = Inference(server.address, speech_model="phi4")
    try:
        found = await summary_of(lines, inference, Deadline.after(60))
    finally:
        await inference.close()
    assert (found.made.model, found.said.method) == ("phi4", GRAMMAR_METHOD)
    assert found.said.summary
    assert {one for row in found.said.evidence() for one in row["utterance_ids"]} <= {  # type: ignore[attr-defined]
        str(line.utterance_id) for line in lines
    }


def test_the_configuration_is_the_contract(server: HttpTriton) -> None:
    with InferenceServerClient(server.address) as client:
        config = client.get_model_config("phi4").config
    assert config.model_transaction_policy.decoupled
    assert [(one.name, one.optional) for one in config.input] == [
        (spec.name, spec.optional) for spec in (*INPUTS, *EXTRA_INPUTS)
    ]
    assert [one.name for one in config.output] == [spec.name for spec in (*OUTPUTS, *EXTRA_OUTPUTS)]


def test_the_containers_health_check_asks_it_too(server: HttpTriton) -> None:
    check = [sys.executable, str(ROOT / "docker" / "canaries.py"), str(server.repository), server.http]
    done = subprocess.run(check, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


async def test_what_was_taken_is_answered_before_the_server_ends() -> None:
    with serving(checkpoint()) as server:
        running = asyncio.create_task(asked(server, [replace(LONG, max_tokens=500)] * 6))
        await until(server, {"running": 3})
        await asyncio.to_thread(server.stop)
        assert all(isinstance(one, SpeechAnswer) for one in await running)
        assert server.returncode == 0


def test_weights_that_are_none_are_said(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"holds no config\.json"):
        with serving(tmp_path):
            pass
