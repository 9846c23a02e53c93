"""Triton's side of the model `aspects`: tensors in and out, errors per request. The work is in sentiment/serve.py."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.insert(0, os.environ["EARFUL_HOME"])

from sentiment.serve import AspectModel
from sentiment.taxonomy import VERSION
from sentiment.triton import english_texts_of, known_of, require_configured, respond


class TritonPythonModel:
    """Answers each request by itself."""

    def initialize(self, args: dict) -> None:
        """Load the weights beside this file; refuses where config.pbtxt speaks of others."""
        self._model = AspectModel(Path(__file__).parent)
        require_configured(pb_utils, args, version=self._model.version, taxonomy=VERSION)

    def execute(self, requests: list) -> list:
        """One response per request, in order."""
        return [respond(pb_utils, request, self._answer) for request in requests]

    def _answer(self, request: object) -> dict[str, np.ndarray]:
        found = self._model.find_all(english_texts_of(pb_utils, request), known=known_of(pb_utils, request))
        aspects = [a for one in found for a in one]
        return {
            "COUNT": np.array([len(one) for one in found], np.int32),
            "START": np.array([a.start for a in aspects], np.int32),
            "END": np.array([a.end for a in aspects], np.int32),
            "CONFIDENCE": np.array([a.confidence for a in aspects], np.float32),
            "ASPECT_ID": np.array([a.aspect_id.encode() for a in aspects], np.object_),
            "VERSION": np.array([self._model.version.encode()], np.object_),
        }
