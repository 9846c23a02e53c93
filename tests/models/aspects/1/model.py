"""Aspects that are fixed words, and KNOWN ones: each is found wherever it stands. German is refused, as the real one does."""

from __future__ import annotations

import os
import re
import sys

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.append(os.environ["EARFUL_HOME"])
from sentiment.language import foreign
from tests.faults.ills import suffer, taint

ASPECTS = ("battery", "delivery", "price", "service", "screen", "staff")


class TritonPythonModel:
    """Character spans of the fixed words, in order; none is an answer of length 0."""

    def execute(self, requests: list) -> list:
        """One response per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        raw = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
        try:
            texts = [one.decode() for one in raw]
        except UnicodeDecodeError:
            error = pb_utils.TritonError("invalid: TEXT is not UTF-8", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error)
        if any(foreign(text) == "de" for text in texts):
            error = pb_utils.TritonError("unsupported_language: the text is German", pb_utils.TritonError.UNSUPPORTED)
            return pb_utils.InferenceResponse([], error)
        ills = [suffer("aspects", text) for text in texts]
        given = pb_utils.get_input_tensor_by_name(request, "KNOWN")
        known = () if given is None else (one.decode() for one in given.as_numpy().reshape(-1))
        pattern = re.compile(rf"\b(?:{'|'.join((*ASPECTS, *map(re.escape, known)))})\b", re.IGNORECASE)
        each = [list(pattern.finditer(text)) for text in texts]
        found = [match for one in each for match in one]
        answer = {
            "COUNT": np.array([len(one) for one in each], np.int32),
            "START": np.array([match.start() for match in found], np.int32),
            "END": np.array([match.end() for match in found], np.int32),
            "CONFIDENCE": np.full(len(found), 0.9, np.float32),
            "ASPECT_ID": np.array([match[0].lower().encode() for match in found], np.object_),
            "VERSION": np.array([b"test-aspects-1"], np.object_),
        }
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(*one) for one in taint(next(filter(None, ills), {}), answer).items()]
        )
