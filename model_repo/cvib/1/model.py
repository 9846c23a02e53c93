"""Triton's side of the model `cvib`: tensors in and out, errors per request. The work is in sentiment/serve.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.environ["EARFUL_HOME"])

from sentiment.serve import InvalidInput, PolarityModel
from sentiment.triton import cancelled, invalid, text_of, vector


class TritonPythonModel:
    """Answers each request by itself."""

    def initialize(self, args: dict) -> None:
        """Load the weights beside this file."""
        self._model = PolarityModel(Path(__file__).parent)

    def execute(self, requests: list) -> list:
        """One response per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        if request.is_cancelled():
            return cancelled(pb_utils)
        try:
            text, starts, ends = (
                text_of(pb_utils, request),
                vector(pb_utils, request, "START"),
                vector(pb_utils, request, "END"),
            )
            if len(starts) != len(ends):
                raise InvalidInput("START and END have different lengths")
            rows = self._model.probabilities(text, list(zip(starts, ends, strict=True)))
        except InvalidInput as err:
            return invalid(pb_utils, err)
        version = np.array([self._model.version.encode()], np.object_)
        return pb_utils.InferenceResponse([pb_utils.Tensor("PROBABILITIES", rows), pb_utils.Tensor("VERSION", version)])
