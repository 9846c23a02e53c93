"""A canary: a small real inference that shows that a Triton model works.

A model's folder says in canary.json what to send, beside config.pbtxt:

    {"timeout_seconds": 5,
     "inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": ["The battery is good."]},
                {"name": "AUDIO", "datatype": "FP32", "shape": [16000]}]}

An input without data is zeros; fewer data than the shape holds are repeated. A folder without the file gets no
canary, only "is it ready?".

A decoupled model is asked through a stream. The server counts its requests when it takes them, not when it answers, so
only the canary's own answer counts. The request carries the parameter `canary`, by which such a model knows that it may
answer that it is busy, as long as it works; "busy" in canary.json is a part of that error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

__all__ = ["COUNT_SECONDS", "Canary"]

_TIMEOUT_SECONDS = 5.0
#: To say how many requests succeeded, which a canary without an answer asks for.
COUNT_SECONDS = 3.0


@dataclass(kw_only=True, slots=True)
class Canary:
    """One model's canary; how it is asked is known once the model was reached."""

    model: str
    inputs: list[InferInput] | None
    timeout_seconds: float = _TIMEOUT_SECONDS
    busy: str | None = None
    _way: _Call | _Stream | None = field(default=None)

    @classmethod
    def read(cls, folder: Path) -> Canary:
        """The canary of the model in `folder`. Raises ValueError for a canary.json that makes no sense."""
        path = folder / "canary.json"
        if not path.exists():
            return cls(model=folder.name, inputs=None)
        try:
            spec = json.loads(path.read_text())
            inputs = [_tensor(entry) for entry in spec["inputs"]]
            timeout = float(spec.get("timeout_seconds", _TIMEOUT_SECONDS))
            busy = spec.get("busy")
        except (KeyError, TypeError, ValueError, InferenceServerException) as err:
            raise ValueError(f"{path}: {err}") from err
        return cls(model=folder.name, inputs=inputs, timeout_seconds=timeout, busy=busy)

    def sing(self, client: InferenceServerClient) -> bool:
        """Whether the model answers as it should, or shows that it is so busy that it answers others only."""
        try:
            if self.inputs is None:
                return bool(client.is_model_ready(self.model, client_timeout=self.timeout_seconds))
            if self._way is None:
                self._way = self._find(client)
        except InferenceServerException:
            return False
        return self._way.sing(client, self.inputs)

    def _find(self, client: InferenceServerClient) -> _Call | _Stream:
        config = client.get_model_config(self.model, client_timeout=self.timeout_seconds).config
        if config.model_transaction_policy.decoupled:
            return _Stream(model=self.model, timeout_seconds=self.timeout_seconds, busy=self.busy)
        return _Call(
            model=self.model,
            timeout_seconds=self.timeout_seconds,
            # 1 is the highest priority; 0 means that the model's queue has none.
            priority=1 if config.dynamic_batching.priority_levels else 0,
            dims={one.name: list(one.dims) for one in config.output},
        )


@dataclass(kw_only=True, slots=True)
class _Call:
    """A plain call, and how many of the model's inferences had succeeded when it last looked."""

    model: str
    timeout_seconds: float
    priority: int
    dims: dict[str, list[int]]
    succeeded: int = -1

    def sing(self, client: InferenceServerClient, inputs: list[InferInput]) -> bool:
        """Whether the answer is as config.pbtxt says, or others were answered since the last look.

        A wrong answer is wrong, however many such answers the others got.
        """
        before = self.succeeded
        sound = self._answer(client, inputs)
        self.succeeded = self._count(client)
        return sound if sound is not None else before >= 0 and self.succeeded > before

    def _answer(self, client: InferenceServerClient, inputs: list[InferInput]) -> bool | None:
        """Whether its answer is sound; None without one in time."""
        try:
            result = client.infer(
                self.model,
                inputs,
                priority=self.priority,
                timeout=int(self.timeout_seconds * 1e6),  # in the server's queue, microseconds
                client_timeout=self.timeout_seconds,
            )
        except InferenceServerException:
            return None
        return all(self._sound(result.as_numpy(name), dims) for name, dims in self.dims.items())

    def _sound(self, value: np.ndarray[Any, Any] | None, dims: list[int]) -> bool:
        """Content, in the shape that the config says (dimensions of -1 are free), and numbers that are numbers."""
        if value is None:  # also from a numpy 2 in the backend's environment: outputs without content
            return False
        shaped = value.ndim == len(dims) and all(
            want in (-1, have) for want, have in zip(dims, value.shape, strict=True)
        )
        return shaped and (value.dtype.kind != "f" or bool(np.isfinite(value).all()))

    def _count(self, client: InferenceServerClient) -> int:
        try:
            statistics = client.get_inference_statistics(self.model, client_timeout=COUNT_SECONDS)
        except InferenceServerException:
            return self.succeeded
        return sum(int(version.inference_stats.success.count) for version in statistics.model_stats)


@dataclass(kw_only=True, slots=True)
class _Stream:
    """A stream of one request."""

    model: str
    timeout_seconds: float
    busy: str | None

    def sing(self, client: InferenceServerClient, inputs: list[InferInput]) -> bool:
        """Whether the first answer has content, or says that the model is busy."""
        answers: SimpleQueue[tuple[InferResult | None, InferenceServerException | None]] = SimpleQueue()
        try:
            client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=self.timeout_seconds)
            client.async_stream_infer(self.model, inputs, parameters={"canary": True})
            result, error = answers.get(timeout=self.timeout_seconds)
        except (Empty, InferenceServerException):
            client.stop_stream(cancel_requests=True)
            return False
        # Not cancelled once it was answered: Triton 2.51 may keep a request whose cancelling crosses its last response for
        # ever, and then waits for it when it shall end.
        client.stop_stream()
        if result is None:
            return self.busy is not None and self.busy in str(error)
        outputs = result.get_response().outputs
        return bool(outputs) and all(result.as_numpy(output.name) is not None for output in outputs)


def _tensor(entry: dict[str, object]) -> InferInput:
    name, datatype, shape = str(entry["name"]), str(entry["datatype"]), entry["shape"]
    if not isinstance(shape, list):
        raise TypeError("a shape is a list of numbers")
    dtype = triton_to_np_dtype(datatype)
    if "data" not in entry:
        array = np.zeros(shape, dtype)
    elif datatype == "BYTES" and isinstance(entry["data"], list):
        array = np.array([str(text).encode() for text in entry["data"]], np.object_).reshape(shape)
    else:
        array = np.resize(np.array(entry["data"], dtype), shape)
    tensor = InferInput(name, shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor
