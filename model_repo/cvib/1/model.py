"""Triton's side of the model `cvib`: tensors in and out, errors per request. The work is in sentiment/serve.py."""

from __future__ import annotations

import os
import sys
from itertools import islice
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.environ["EARFUL_HOME"])

from sentiment.serve import InvalidInput, PolarityModel
from sentiment.triton import counts_of, english_texts_of, require_configured, respond, vector


class TritonPythonModel:
    """Answers each request by itself."""

    def initialize(self, args: dict) -> None:
        """Load the weights beside this file; refuses where config.pbtxt speaks of others."""
        self._model = PolarityModel(Path(__file__).parent)
        require_configured(pb_utils, args, version=self._model.version)

    def execute(self, requests: list) -> list:
        """One response per request, in order."""
        return [respond(pb_utils, request, self._answer) for request in requests]

    def _answer(self, request: object) -> dict[str, np.ndarray]:
        texts = english_texts_of(pb_utils, request)
        starts, ends = vector(pb_utils, request, "START"), vector(pb_utils, request, "END")
        if len(starts) != len(ends):
            raise InvalidInput("START and END have different lengths")
        spans = iter(zip(starts, ends, strict=True))
        counts = counts_of(pb_utils, request, len(texts), len(starts))
        pairs = [
            pair
            for text, n in zip(texts, counts, strict=True)
            for pair in self._model.pairs(text, list(islice(spans, n)))
        ]
        return {
            "PROBABILITIES": self._model.judge(pairs),
            "VERSION": np.array([self._model.version.encode()], np.object_),
        }
