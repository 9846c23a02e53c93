"""The model `phi4` with a tiny checkpoint in a real Triton server, and clients that stream."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Any

import tritonclient.grpc.aio as triton

from speech.contract import EXTRA_INPUTS, EXTRA_OUTPUTS, INPUTS, OUTPUTS, SpeechAnswer, SpeechRequest, parse_answer
from speech.phi4.limits import Limits
from stack.canary import Canary
from stack.ports import Ports
from stack.triton import Triton
from tests.homes import temporary_home

MODEL = Path(__file__).resolve().parents[3] / "model_repo" / "phi4"
LIMITS = Limits(
    utterance_slots=3,
    utterance_slot_tokens=4_096,
    summary_slots=1,
    summary_slot_tokens=4_096,
    queue=12,
    guard=False,
)


#: At the end of the model's copy: its engine makes no step while the file is there.
_STANDS_STILL = """
import time
from speech.phi4.batch import Batch
_step = Batch.step
def _step_unless_still(batch):
    while os.path.exists(os.environ["STILL"]):
        time.sleep(0.02)
    return _step(batch)
Batch.step = _step_unless_still
"""


class HttpTriton(Triton):
    """As in compose.yaml: the health check speaks HTTP. The engine stands still as long as there is a file `still`."""

    def __init__(self, home: Path, ports: Ports, repositories: list[Path], weights: Path) -> None:
        self.still = home / "still"
        super().__init__(home, ports, repositories, extra_env={"PHI4_WEIGHTS": str(weights), "STILL": str(self.still)})

    def _command(self, backends: Path) -> list[str | Path]:
        words = [word for word in super()._command(backends) if not str(word).startswith("--allow-http")]
        return [*words, "--allow-http=true", "--http-address=127.0.0.1", f"--http-port={self._ports['http']}"]

    def check(self, *, seconds: float) -> bool:
        """`healthy`, where no canary waits longer than so."""
        canaries = self._canaries
        self._canaries = [Canary.read(folder) for folder in self._folders()]
        for canary in self._canaries:
            canary.timeout_seconds = seconds
        try:
            return self.healthy()
        finally:
            self._canaries = canaries

    @property
    def returncode(self) -> int | None:
        """How the server ended."""
        return self._child.returncode

    @property
    def http(self) -> str:
        return f"http://127.0.0.1:{self._ports['http']}"

    @property
    def repository(self) -> Path:
        """The models as the server sees them."""
        return self._home / "triton" / "models"


@contextmanager
def serving(weights: Path, limits: Limits = LIMITS) -> Iterator[HttpTriton]:
    """A server with model_repo/phi4, but for its limits and what makes it stand still."""
    with temporary_home() as home:
        folder = home / "models" / "phi4"
        shutil.copytree(MODEL, folder, ignore=shutil.ignore_patterns("__pycache__"))
        config = (folder / "config.pbtxt").read_text()
        (folder / "config.pbtxt").write_text(config.replace('"{}"', f"'{limits.canonical_json()}'"))
        with (folder / "1" / "model.py").open("a") as file:
            file.write(_STANDS_STILL)
        ports = Ports(home)
        ports.choose("http")
        server = HttpTriton(home, ports, [home / "models"], weights)
        try:
            server.start()  # returns when the canary was answered
            yield server
        finally:
            server.stop()


class Refused(Exception):
    """The server's words."""


async def responses(client: triton.InferenceServerClient, tensors: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    """The tensors of each response to one request; raises Refused."""
    inputs = []
    for spec in (*INPUTS, *EXTRA_INPUTS):
        if spec.name in tensors:
            value = tensors[spec.name]
            inputs.append(triton.InferInput(spec.name, list(value.shape), spec.datatype))
            inputs[-1].set_data_from_numpy(value)

    async def one() -> AsyncIterator[dict[str, Any]]:
        yield {"model_name": "phi4", "inputs": inputs}

    stream = client.stream_infer(one(), stream_timeout=90)
    refused = None
    try:
        async for result, error in stream:
            refused = error
            if result is not None:
                found = {spec.name: result.as_numpy(spec.name) for spec in (*OUTPUTS, *EXTRA_OUTPUTS)}
                yield {name: value for name, value in found.items() if value is not None}
    finally:
        stream.cancel()  # nothing, once it has ended
    if refused is not None:
        raise Refused(refused.message())


async def ask(client: triton.InferenceServerClient, request: SpeechRequest | dict[str, Any]) -> SpeechAnswer:
    """The answer; raises Refused. Fails where anything but one response came."""
    tensors = request if isinstance(request, dict) else request.tensors()
    [last] = [found async for found in responses(client, tensors)]
    return parse_answer(last)


async def asked(
    server: Triton, requests: Sequence[SpeechRequest | dict[str, Any]], *, most: int = 1 << 20
) -> list[SpeechAnswer | Refused]:
    """All over one client, at most so many at once; each one's answer or refusal."""
    room = asyncio.Semaphore(most)

    async def one(client: triton.InferenceServerClient, request: SpeechRequest | dict[str, Any]) -> SpeechAnswer:
        async with room:
            return await ask(client, request)

    async with triton.InferenceServerClient(server.address) as client:
        found = await asyncio.gather(*(one(client, request) for request in requests), return_exceptions=True)
    for one in found:
        if not isinstance(one, SpeechAnswer | Refused):
            raise one
    return found  # type: ignore[return-value]


def metrics(server: Triton) -> dict[str, float]:
    """The engine's own numbers, as `name` or `name{reason}`; none while the page is not up, which comes last."""
    try:
        with urllib.request.urlopen(server.metrics_url, timeout=5) as page:
            text = page.read().decode()
    except urllib.error.URLError:
        return {}
    found = {}
    for name, labels, value in re.findall(r"^earful_phi4_(\w+)\{([^}]*)\} (\S+)$", text, re.MULTILINE):
        reason = re.search(r'reason="(\w+)"', labels)
        found[name + (f"{{{reason[1]}}}" if reason else "")] = float(value)
    return found


async def until(server: Triton, wanted: dict[str, float], seconds: float = 30) -> dict[str, float]:
    """The numbers as soon as these are among them; AssertionError after so many seconds."""
    deadline = monotonic() + seconds
    while not wanted.items() <= (found := metrics(server)).items():
        assert monotonic() < deadline, f"{json.dumps(found)} never had {wanted}"
        await asyncio.sleep(0.1)
    return found
