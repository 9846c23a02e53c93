"""A polarity that good and bad words within 30 characters of the span decide, with a hash for the last digits."""

from __future__ import annotations

import hashlib
import os
import re
import sys

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.append(os.environ["EARFUL_HOME"])
from tests.faults.ills import suffer, taint

_GOOD = re.compile(r"\b(?:good|great|fair|friendly|kind|works|love|happy)\b", re.IGNORECASE)
_BAD = re.compile(r"\b(?:bad|died|late|high|cracked|not|nobody|hate|broken)\b", re.IGNORECASE)
_NEAR_CHARACTERS = 30


class TritonPythonModel:
    """Rows of (negative, neutral, positive) that add up to 1; a span outside the text is invalid."""

    def execute(self, requests: list) -> list:
        """One response per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        text = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)[0].decode()
        starts = pb_utils.get_input_tensor_by_name(request, "START").as_numpy()
        ends = pb_utils.get_input_tensor_by_name(request, "END").as_numpy()
        spans = list(zip(starts.tolist(), ends.tolist(), strict=True))
        if any(not 0 <= start < end <= len(text) for start, end in spans):
            error = pb_utils.TritonError("invalid: a span is outside the text", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error)
        ill = suffer("cvib", text)
        rows = np.array([_row(text, start, end) for start, end in spans], np.float32).reshape(-1, 3)
        answer = {"PROBABILITIES": rows, "VERSION": np.array([b"test-cvib-1"], np.object_)}
        return pb_utils.InferenceResponse([pb_utils.Tensor(*one) for one in taint(ill, answer).items()])


def _row(text: str, start: int, end: int) -> list[float]:
    near = text[max(0, start - _NEAR_CHARACTERS) : end + _NEAR_CHARACTERS]
    good, bad = len(_GOOD.findall(near)), len(_BAD.findall(near))
    rest = 0.05 + 0.1 * hashlib.sha256(f"{text}:{start}:{end}".encode()).digest()[0] / 255
    winner = 2 if good > bad else 0 if bad > good else 1
    return [1 - 2 * rest if index == winner else rest for index in range(3)]
