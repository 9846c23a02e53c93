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
        def tensor(name: str) -> np.ndarray | None:
            given = pb_utils.get_input_tensor_by_name(request, name)
            return None if given is None else given.as_numpy().reshape(-1)

        texts, counts = [one.decode() for one in tensor("TEXT")], tensor("COUNT")
        spans = list(zip(tensor("START").tolist(), tensor("END").tolist(), strict=True))
        owners = np.repeat(np.arange(len(texts)), [len(spans)] if counts is None else counts)
        asked = [(texts[owner], *span) for owner, span in zip(owners, spans, strict=True)]
        if any(not 0 <= start < end <= len(text) for text, start, end in asked):
            error = pb_utils.TritonError("invalid: a span is outside the text", pb_utils.TritonError.INVALID_ARG)
            return pb_utils.InferenceResponse([], error)
        ills = [suffer("cvib", text) for text in texts]
        rows = np.array([_row(text, start, end) for text, start, end in asked], np.float32).reshape(-1, 3)
        answer = {"PROBABILITIES": rows, "VERSION": np.array([b"test-cvib-1"], np.object_)}
        return pb_utils.InferenceResponse(
            [pb_utils.Tensor(*one) for one in taint(next(filter(None, ills), {}), answer).items()]
        )


def _row(text: str, start: int, end: int) -> list[float]:
    near = text[max(0, start - _NEAR_CHARACTERS) : end + _NEAR_CHARACTERS]
    good, bad = len(_GOOD.findall(near)), len(_BAD.findall(near))
    rest = 0.05 + 0.1 * hashlib.sha256(f"{text}:{start}:{end}".encode()).digest()[0] / 255
    winner = 2 if good > bad else 0 if bad > good else 1
    return [1 - 2 * rest if index == winner else rest for index in range(3)]
