"""Triton's side of speech/phi4: tensors in, responses out whenever the engine has some."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.environ["EARFUL_HOME"])

from speech.contract import EXTRA_INPUTS, INPUTS
from speech.phi4.config import CheckpointError
from speech.phi4.limits import Limits
from speech.phi4.memory import TooSmall
from speech.phi4.metrics import Snapshot
from speech.phi4.model import Narrowband
from speech.phi4.service import Speech
from speech.phi4.serving import Code, Serving
from speech.phi4.start import StartOptions, start

# Triton's names; its module has the codes only once a model is loaded.
_CODES: dict[Code, str] = {
    "invalid": "INVALID_ARG",
    "unsupported": "UNSUPPORTED",
    "unavailable": "UNAVAILABLE",
    "cancelled": "CANCELLED",
    "internal": "INTERNAL",
}


class TritonPythonModel:
    """One engine; requests join and leave its running batch."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load, check, warm up; Triton says ready only then."""
        parameters = {
            key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        weights = parameters["weights"] or os.environ.get("PHI4_WEIGHTS", "")
        if not weights:
            raise pb_utils.TritonModelException("PHI4_WEIGHTS names no weights: see docs/phi4.md")
        try:
            options = StartOptions(
                device=parameters["device"],
                dtype=parameters["dtype"],
                lora=parameters["lora"],
                narrowband=Narrowband(parameters["narrowband"]),
                limits=Limits.from_json(parameters["limits"]),
            )
            speech = start(weights, options, tell=pb_utils.Logger.log_info)
        except (CheckpointError, TooSmall) as err:
            raise pb_utils.TritonModelException(str(err)) from err
        said, able = json.loads(parameters["capabilities"]), capabilities(speech)
        if said != able:
            raise pb_utils.TritonModelException(
                f"config.pbtxt says capabilities {said}, the model has {able}: correct it"
            )
        speech.warm_up()
        self._published = Published(args["model_name"])
        self._serving = Serving(speech, report=self._published.update)

    def execute(self, requests: list[Any]) -> None:
        """Queue the requests and return; each is answered through its own sender."""
        for request in requests:
            sender = Sender(request.get_response_sender())
            self._serving.take(partial(tensors_of, request), sender, canary=is_canary(request))

    def finalize(self) -> None:
        """Triton asks when nobody waits any more; whatever is left is answered all the same."""
        self._serving.close()
        self._published.close()


def tensors_of(request: Any) -> dict[str, Any]:
    """The inputs that are there."""
    tensors = {}
    for spec in (*INPUTS, *EXTRA_INPUTS):
        tensor = pb_utils.get_input_tensor_by_name(request, spec.name)
        if tensor is not None:
            tensors[spec.name] = np.array(tensor.as_numpy())  # Triton's memory goes back when `execute` returns
    return tensors


def is_canary(request: Any) -> bool:
    """Whether a health check asks: see speech/phi4/serving.py."""
    return bool(json.loads(request.parameters() or "{}").get("canary"))


class Sender:
    """A reply of serving.py through one of Triton's response senders.

    After the last response the server has forgotten the request: asking whether it was cancelled could wait for ever.
    """

    def __init__(self, sender: Any) -> None:
        self._sender = sender
        self._lock = threading.Lock()
        self._ended = False

    def send(self, tensors: Mapping[str, Any], *, last: bool) -> None:
        """A response."""
        response = pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in tensors.items()])
        self._put(response, last=last)

    def refuse(self, text: str, code: Code) -> None:
        """An error."""
        error = pb_utils.TritonError(text, getattr(pb_utils.TritonError, _CODES[code]))
        response = pb_utils.InferenceResponse(output_tensors=[], error=error)
        self._put(response, last=True)

    def cancelled(self) -> bool:
        """Whether the client went away or its deadline passed."""
        with self._lock:
            return not self._ended and bool(self._sender.is_cancelled())

    def _put(self, response: Any, *, last: bool) -> None:
        with self._lock:
            self._ended = self._ended or last
            self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0)


class Published:
    """The engine's numbers among Triton's metrics: `earful_phi4_...`."""

    def __init__(self, model: str) -> None:
        self._labels = {"model": model}
        self._families: dict[str, Any] = {}
        self._metrics: dict[tuple[str, ...], Any] = {}
        self._before = Snapshot()
        self._refused: dict[str, int] = {}

    def update(self, reading: Snapshot, refused: Mapping[str, int]) -> None:
        """Gauges as they are, rates since the last time, totals by what they grew."""
        grown = reading.since(self._before)
        for name, value in asdict(grown).items():
            self._put(name, value)
        self._put("tokens_per_second", grown.tokens_per_second)
        self._put("rtfx", grown.rtfx)
        for reason, count in refused.items():
            self._put("refused_total", count - self._refused.get(reason, 0), reason=reason)
        self._before, self._refused = reading, dict(refused)

    def close(self) -> None:
        """Takes them off; a metric that outlives the model may crash the process at its end."""
        self._metrics.clear()
        self._families.clear()

    def _put(self, name: str, value: float, **labels: str) -> None:
        counter = name.endswith("_total")
        if name not in self._families:
            kind = pb_utils.MetricFamily.COUNTER if counter else pb_utils.MetricFamily.GAUGE
            self._families[name] = pb_utils.MetricFamily(
                name=f"earful_phi4_{name}", description=name.replace("_", " "), kind=kind
            )
        key = (name, *labels.values())
        if key not in self._metrics:
            self._metrics[key] = self._families[name].Metric(labels=self._labels | labels)
        (self._metrics[key].increment if counter else self._metrics[key].set)(value)


def capabilities(speech: Speech) -> dict[str, Any]:
    """As config.pbtxt writes them."""
    able = speech.capabilities
    return {
        "languages": sorted(able.languages),
        "max_audio_seconds": able.max_audio_seconds,
        "tasks": sorted(able.tasks),
    }
