"""What a worker writes is of the models that its run was opened for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
from kafka import KafkaAdminClient

from errors import Transient
from settings import Settings
from stack.stack import Stack
from store.runs import Run, run_id_of
from tests.workers.pipeline import Pipeline
from tests.workers.sending import messages, review
from workers.deadline import Deadline
from workers.inference import AspectSpan, Inference, OtherModel
from workers.run import check_served, describe

SPAN = AspectSpan(start=4, end=11, confidence=1.0, aspect_id="")


@pytest.fixture(name="spec", scope="module")
def _spec(stack: Stack) -> dict[str, Any]:
    return asyncio.run(describe(Settings(triton_url=stack.endpoints["triton"])))


@pytest.fixture(name="inference")
async def _inference(stack: Stack) -> Any:
    made = Inference(stack.endpoints["triton"])
    yield made
    await made.close()


def run_of(spec: dict[str, Any]) -> Run:
    return Run(run_id=run_id_of(spec), spec=spec)


async def test_each_stage_is_told_the_versions_of_its_models(spec: dict[str, Any], inference: Inference) -> None:
    run = run_of(spec)
    assert await check_served(inference, "segmenter", run) == {}
    assert await check_served(inference, "transcriber", run) == {"whisper": "test-whisper-1"}
    sentiment = {"aspects": "test-aspects-1", "cvib": "test-cvib-1"}
    assert await check_served(inference, "reviewer", run) == sentiment
    assert await check_served(inference, "summarizer", run) == sentiment


@pytest.mark.parametrize(
    ("part", "other", "waiting"),
    [
        ("aspects", {"version": "older"}, {"reviewer", "summarizer"}),
        ("speech", {"model": "phi4", "version": "test-whisper-1"}, {"transcriber"}),
        ("summary", "extractive-v0", {"summarizer"}),
    ],
)
async def test_who_uses_another_model_than_the_runs_waits(
    spec: dict[str, Any], inference: Inference, part: str, other: object, waiting: set[str]
) -> None:
    run, waits = run_of(spec | {part: other}), {}
    for stage in ("segmenter", "transcriber", "summarizer", "reviewer"):
        try:
            await check_served(inference, stage, run)
        except Transient as err:
            waits[stage] = str(err)
    assert set(waits) == waiting
    assert all(f"run {run.run_id} was opened for {part}" in why for why in waits.values())


async def test_how_fast_a_model_runs_makes_no_other_run(spec: dict[str, Any], inference: Inference) -> None:
    elsewhere = spec | {"speech": spec["speech"] | {"threads": "9", "weights": "/elsewhere"}}
    assert await check_served(inference, "transcriber", run_of(elsewhere)) == {"whisper": "test-whisper-1"}
    with pytest.raises(Transient, match="decode=other"):
        await check_served(inference, "transcriber", run_of(spec | {"speech": spec["speech"] | {"decode": "other"}}))


async def test_an_answer_of_another_version_is_no_result(spec: dict[str, Any], inference: Inference) -> None:
    """Triton was started anew with another model, say; also its canary says so."""
    deadline = Deadline.after(30)
    inference.versions = await check_served(inference, "reviewer", run_of(spec))
    [span], _ = await inference.aspects("The battery is great.", deadline)
    await inference.polarities("The battery is great.", [replace(SPAN, start=span.start, end=span.end)], deadline)
    for model in ("aspects", "cvib"):
        inference.versions = {model: "older"}
        with pytest.raises(
            OtherModel, match=f"{model} answered as version test-{model}-1, and the run was opened for older"
        ):
            await inference.canary([model])
    inference.versions = {"aspects": "older"}
    with pytest.raises(OtherModel):
        await inference.aspects("The battery is great.", deadline)


async def test_a_model_that_is_not_served_is_said(stack: Stack, inference: Inference) -> None:
    with pytest.raises(Transient, match=f"Triton at {stack.endpoints['triton']} serves no model nobody"):
        await inference.model_parameters("nobody")


@pytest.fixture(name="pipeline")
def _pipeline(stack: Stack) -> Iterator[Pipeline]:
    with Pipeline(stack, partitions=1) as pipeline:
        yield pipeline


def test_a_worker_waits_for_a_run_of_the_models_that_are_served(pipeline: Pipeline, spec: dict[str, Any]) -> None:
    older = pipeline.open_run(spec | {"cvib": {"version": "older"}})
    port = pipeline.port("health")
    worker = pipeline.worker("reviewer", health_port=port)
    pipeline.wait(lambda: f"run {older} was opened for cvib" in worker.log.read_text(), "it says what it waits for")
    # Who waits is well, and a restart would not help.
    assert (status(port, "live"), status(port, "ready")) == (200, 503)
    assert b"earful_ready 0.0\n" in ask(port, "metrics")
    [place] = pipeline.produce(messages(pipeline.topics, [review("a-review")]))
    fitting = pipeline.open_run(spec)
    pipeline.wait(lambda: pipeline.rows("SELECT run_id FROM ingest.reviews"), "the review")
    assert pipeline.rows("SELECT run_id, source_offset FROM ingest.reviews") == [(fitting, place.offset)]
    assert (status(port, "live"), status(port, "ready")) == (200, 200)
    assert b"earful_ready 1.0\n" in ask(port, "metrics")


def test_a_worker_that_stands_by_is_ready(pipeline: Pipeline) -> None:
    """Two workers and one partition: the second waits for the first to leave, and that is no fault."""
    ports = [pipeline.port(f"health_{number}") for number in range(2)]
    for number, port in enumerate(ports):
        pipeline.worker("reviewer", number, health_port=port)
    pipeline.wait(lambda: all(status(port, "ready") == 200 for port in ports), "both are ready")
    assert [b"earful_ready 1.0\n" in ask(port, "metrics") for port in ports] == [True, True]


def test_a_worker_whose_topic_is_gone_is_not_ready(pipeline: Pipeline) -> None:
    """Kafka assigns it nothing then, too: that is no standing by."""
    port = pipeline.port("health")
    worker = pipeline.worker("reviewer", health_port=port)
    pipeline.wait(lambda: status(port, "ready") == 200, "it is ready")
    admin = KafkaAdminClient(bootstrap_servers=pipeline.stack.endpoints["kafka"])
    try:
        admin.delete_topics([pipeline.topics.reviews_submitted])
    finally:
        admin.close()
    pipeline.wait(lambda: "NoTopic" in worker.log.read_text(), "it says what it waits for")
    assert status(port, "ready") == 503


def ask(port: int, what: str) -> bytes:
    with urlopen(f"http://127.0.0.1:{port}/{what}", timeout=10) as answer:
        return bytes(answer.read())


def status(port: int, what: str) -> int:
    """The answer's status; 0 while nobody listens."""
    try:
        ask(port, what)
    except HTTPError as err:
        return err.code
    except URLError:
        return 0
    return 200
