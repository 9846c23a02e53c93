"""A canary: a small real inference that shows that a Triton model works.

A model's folder says in canary.json what to send, beside config.pbtxt:

    {"timeout_seconds": 5,
     "inputs": [{"name": "TEXT", "datatype": "BYTES", "shape": [1], "data": ["The battery is good."]},
                {"name": "AUDIO", "datatype": "FP32", "shape": [16000]}]}

An input without data is zeros; fewer data than the shape holds are repeated. A folder without the file gets no
canary, only "is it ready?".

A decoupled model is asked through a stream. The server counts its requests when it takes them, not when it answers, so
only the canary's own answer counts; "busy" is a part of the error with which a model shows that it is alive and full.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException, triton_to_np_dtype

__all__ = ["Canary"]

_TIMEOUT_SECONDS = 5.0


@dataclass(kw_only=True, slots=True)
class Canary:
    """One model's canary, and how many inferences of the model had succeeded when it last looked."""

    model: str
    inputs: list[InferInput] | None
    timeout_seconds: float
    busy: str | None = None
    _succeeded: int = field(default=-1)
    _priority: int | None = field(default=None)
    _decoupled: bool = field(default=False)
    _dims: dict[str, list[int]] = field(default_factory=dict)

    @classmethod
    def read(cls, folder: Path) -> Canary:
        """The canary of the model in `folder`. Raises ValueError for a canary.json that makes no sense."""
        path = folder / "canary.json"
        if not path.exists():
            return cls(model=folder.name, inputs=None, timeout_seconds=_TIMEOUT_SECONDS)
        try:
            spec = json.loads(path.read_text())
            inputs = [_tensor(entry) for entry in spec["inputs"]]
            timeout = float(spec.get("timeout_seconds", _TIMEOUT_SECONDS))
            busy = spec.get("busy")
        except (KeyError, TypeError, ValueError, InferenceServerException) as err:
            raise ValueError(f"{path}: {err}") from err
        return cls(model=folder.name, inputs=inputs, timeout_seconds=timeout, busy=busy)

    def sing(self, client: InferenceServerClient) -> bool:
        """Whether the model answers as its config.pbtxt says, or is so busy that it answers others only.

        A wrong answer is wrong, however many such answers the others got.
        """
        before = self._succeeded
        sound = self._answer(client)
        self._succeeded = self._count(client)
        return sound if sound is not None else before >= 0 and self._succeeded > before

    def _answer(self, client: InferenceServerClient) -> bool | None:
        """Whether its answer is sound; None without one in time."""
        try:
            if self.inputs is None:
                return bool(client.is_model_ready(self.model, client_timeout=self.timeout_seconds))
            if self._priority is None:
                config = client.get_model_config(self.model, client_timeout=self.timeout_seconds).config
                # 1 is the highest priority; 0 means that the model's queue has none.
                self._priority = 1 if config.dynamic_batching.priority_levels else 0
                self._decoupled = config.model_transaction_policy.decoupled
                self._dims = {} if self._decoupled else {one.name: list(one.dims) for one in config.output}
            result = self._streamed(client) if self._decoupled else self._asked(client, self._priority)
            found = {output.name: result.as_numpy(output.name) for output in result.get_response().outputs}
            # A numpy 2 in the backend's environment gives outputs without content.
            whole = bool(found) and set(self._dims) <= set(found)
            return whole and all(self._sound(name, value) for name, value in found.items())
        except InferenceServerException as err:
            return True if self.busy is not None and self.busy in (err.message() or "") else None
        except Empty:
            return None

    def _sound(self, name: str, value: np.ndarray[Any, Any] | None) -> bool:
        """Content, in the shape that the config says (dimensions of -1 are free), and numbers that are numbers."""
        if value is None:
            return False
        dims = self._dims.get(name)
        if dims is None:
            return True
        shaped = value.ndim == len(dims) and all(
            want in (-1, have) for want, have in zip(dims, value.shape, strict=True)
        )
        return shaped and (value.dtype.kind != "f" or bool(np.isfinite(value).all()))

    def _asked(self, client: InferenceServerClient, priority: int) -> Any:
        return client.infer(
            self.model,
            self.inputs,
            priority=priority,
            timeout=int(self.timeout_seconds * 1e6),  # in the server's queue, microseconds
            client_timeout=self.timeout_seconds,
        )

    def _streamed(self, client: InferenceServerClient) -> Any:
        """The first answer of a stream of one request, which is cancelled then. Raises its error, or Empty."""
        answers: SimpleQueue[tuple[Any, InferenceServerException | None]] = SimpleQueue()
        client.start_stream(lambda result, error: answers.put((result, error)), stream_timeout=self.timeout_seconds)
        try:
            client.async_stream_infer(self.model, self.inputs)
            result, error = answers.get(timeout=self.timeout_seconds)
        finally:
            client.stop_stream(cancel_requests=True)
        if error is not None:
            raise error
        return result

    def _count(self, client: InferenceServerClient) -> int:
        if self._decoupled:
            return 0
        try:
            statistics = client.get_inference_statistics(self.model, client_timeout=3)
        except InferenceServerException:
            return self._succeeded
        return sum(int(version.inference_stats.success.count) for version in statistics.model_stats)


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
