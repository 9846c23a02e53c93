"""The model `whisper` in a real Triton server."""

from __future__ import annotations

import shutil
import threading
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from speech.contract import (
    INPUTS,
    OUTPUTS,
    InvalidRequest,
    Refusal,
    SpeechAnswer,
    SpeechRequest,
    Task,
    UnsupportedTask,
    error_from,
    parse_answer,
)
from speech.whisper import DecodeOptions, Recognizer
from stack.ports import Ports
from stack.triton import Triton
from tests.homes import temporary_home
from tests.speech.calls import sample_calls

MODEL = Path(__file__).resolve().parents[2] / "model_repo" / "whisper"


@pytest.fixture(scope="module")
def server() -> Iterator[Triton]:
    with temporary_home() as home:
        shutil.copytree(MODEL, home / "models" / "whisper", ignore=shutil.ignore_patterns("__pycache__"))
        server = Triton(home, Ports(home), [home / "models"])
        try:
            server.start()  # returns when the canary was answered
            yield server
        finally:
            server.stop()


@pytest.fixture(scope="module")
def client(server: Triton) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(server.address) as client:
        yield client


def ask(
    client: InferenceServerClient, request: SpeechRequest, *, priority: int = 0, timeout: int | None = None
) -> SpeechAnswer:
    tensors = request.tensors()
    inputs = []
    for spec in INPUTS:
        if spec.name in tensors:
            tensor = InferInput(spec.name, list(tensors[spec.name].shape), spec.datatype)
            tensor.set_data_from_numpy(tensors[spec.name])
            inputs.append(tensor)
    result = client.infer("whisper", inputs, priority=priority, timeout=timeout, client_timeout=60)
    return parse_answer({spec.name: result.as_numpy(spec.name) for spec in OUTPUTS})


def audio() -> tuple[NDArray[np.float32], int]:
    call = next(sample_calls("hotel-noise"))
    samples = call.samples[int(24.5 * call.rate) : int(28.7 * call.rate), 0]
    return samples.astype(np.float32) / np.float32(32768), call.rate


def test_the_server_says_what_the_recogniser_says(client: InferenceServerClient) -> None:
    samples, rate = audio()
    request = SpeechRequest(task=Task.TRANSCRIBE, audio=samples, rate=rate, language="en")
    want = Recognizer().answer(request)
    got = ask(client, request)
    assert "elevator" in got.text
    assert (got.text, got.finish_reason, got.tokens_in, got.tokens_out) == (
        want.text,
        want.finish_reason,
        want.tokens_in,
        want.tokens_out,
    )
    assert got.mean_logprob == pytest.approx(want.mean_logprob, abs=0.01)
    assert (got.model, got.version) == (want.model, want.version)


def test_bad_requests_fail_alone(client: InferenceServerClient) -> None:
    samples, rate = audio()
    good = SpeechRequest(task=Task.TRANSCRIBE, audio=samples, rate=rate)
    bad = [
        (SpeechRequest(task=Task.TRANSCRIBE, audio=np.full(9_000, np.nan, np.float32), rate=rate), InvalidRequest),
        (SpeechRequest(task=Task.TRANSCRIBE, audio=np.zeros(0, np.float32), rate=rate), InvalidRequest),
        (SpeechRequest(task=Task.TRANSCRIBE, audio=np.zeros(40 * 8_000, np.float32), rate=rate), InvalidRequest),
        (SpeechRequest(task=Task.TRANSCRIBE), InvalidRequest),
        (SpeechRequest(task=Task.SUMMARIZE, text="x"), UnsupportedTask),
    ]
    requests = [good, *(request for request, _ in bad), good]

    def outcome(request: SpeechRequest) -> SpeechAnswer | Refusal | None:
        try:
            return ask(client, request)
        except InferenceServerException as err:
            return error_from(err.message())

    with ThreadPoolExecutor(len(requests)) as pool:
        first, *errors, last = pool.map(outcome, requests)
    assert isinstance(first, SpeechAnswer)
    assert isinstance(last, SpeechAnswer)
    assert first.text == last.text != ""
    assert [type(error) for error in errors] == [kind for _, kind in bad]


def test_the_configuration_names_what_goes_into_the_run(client: InferenceServerClient) -> None:
    config = client.get_model_config("whisper").config
    parameters = {key: value.string_value for key, value in config.parameters.items()}
    assert parameters["version"] == Recognizer().version
    assert parameters["decode_options"] == DecodeOptions().canonical_json()
    assert [(tensor.name, tensor.optional) for tensor in config.input] == [
        (spec.name, spec.optional) for spec in INPUTS
    ]
    assert [tensor.name for tensor in config.output] == [spec.name for spec in OUTPUTS]


def test_the_queue_honours_timeouts_and_lets_canaries_pass(server: Triton, client: InferenceServerClient) -> None:
    samples, rate = audio()
    request = SpeechRequest(task=Task.TRANSCRIBE, audio=samples, rate=rate)
    finished: list[str] = []

    def work(name: str, priority: int = 0, timeout: int | None = None) -> None:
        try:
            ask(client, request, priority=priority, timeout=timeout)
            finished.append(name)
        except InferenceServerException:
            finished.append(f"{name} refused")

    with ThreadPoolExecutor(16) as pool:
        load = [pool.submit(work, f"load {i}") for i in range(10)]
        wait_for_queue(server, 5)
        late = pool.submit(work, "late", 0, 1_000)  # microseconds; three instances have three pieces each before it
        canary = pool.submit(work, "canary", 1)
        for future in (*load, late, canary):
            future.result()
    assert "late refused" in finished
    assert finished.index("canary") < max(place for place, name in enumerate(finished) if name.startswith("load"))
    assert len(finished) == 12


def pending(server: Triton) -> int:
    """Requests that wait in the model's queue."""
    with urllib.request.urlopen(server.metrics_url, timeout=5) as page:
        for line in page.read().decode().splitlines():
            if line.startswith("nv_inference_pending_request_count") and 'model="whisper"' in line:
                return int(float(line.rsplit(" ", 1)[1]))
    return 0


def wait_for_queue(server: Triton, length: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while pending(server) < length:
        assert time.monotonic() < deadline, "the requests never queued"
        threading.Event().wait(0.01)
