"""Triton's side of speech/whisper.py: tensors in, tensors out, an error for the request that deserves it."""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.environ["EARFUL_HOME"])

from errors import Permanent
from speech.contract import INPUTS, SpeechRequest, Task, UnsupportedTask, error_text, parse_request
from speech.whisper import Cancelled, DecodeOptions, Recognizer


class TritonPythonModel:
    """One instance: one recognizer, one request at a time."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load and warm up; refuses to start where the configuration's version is not that of the weights."""
        parameters = {
            key: value["string_value"] for key, value in json.loads(args["model_config"])["parameters"].items()
        }
        options = DecodeOptions.from_json(parameters["decode_options"])
        self._recognizer = Recognizer(
            parameters["weights"] or None, threads=int(parameters["threads"]), options=options
        )
        if parameters["version"] != self._recognizer.version:
            raise pb_utils.TritonModelException(
                f"config.pbtxt says version {parameters['version']}, the weights are {self._recognizer.version}: correct it"
            )
        self._recognizer.answer(SpeechRequest(task=Task.TRANSCRIBE, audio=np.zeros(16_000, dtype=np.float32)))

    def execute(self, requests: list[Any]) -> list[Any]:
        """One response for each request, in order."""
        return [self._respond(request) for request in requests]

    def _respond(self, request: Any) -> Any:
        try:
            tensors = {}
            for spec in INPUTS:
                tensor = pb_utils.get_input_tensor_by_name(request, spec.name)
                if tensor is not None:
                    tensors[spec.name] = tensor.as_numpy()
            answer = self._recognizer.answer(parse_request(tensors), cancelled=request.is_cancelled)
        except UnsupportedTask as err:
            return _error(error_text(err), pb_utils.TritonError.UNSUPPORTED)
        except Permanent as err:
            return _error(error_text(err), pb_utils.TritonError.INVALID_ARG)
        except Cancelled:
            return _error("cancelled", pb_utils.TritonError.CANCELLED)
        except Exception as err:  # noqa: BLE001 -- the boundary: one request must not fail another; no payload in the text
            return _error(f"{type(err).__name__} while recognising", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, array) for name, array in answer.tensors().items()])


def _error(text: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(text, code))
