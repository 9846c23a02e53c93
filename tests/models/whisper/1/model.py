"""A whisper that hears words in the hash of the samples: same audio, same words, and no two utterances alike."""

from __future__ import annotations

import hashlib
import os
import sys

import numpy as np
import triton_python_backend_utils as pb_utils

sys.path.append(os.environ["EARFUL_HOME"])
from tests.faults.ills import suffer, taint

WORDS = (
    "the battery is great", "the battery died", "delivery was late", "the price is too high", "the price is fair",
    "service was friendly", "nobody helped me", "I want a refund", "the screen is cracked", "it works now",
    "please call me back", "thank you", "we will send a new one", "I am not happy", "the staff was kind", "let me check",
)  # fmt: skip


class TritonPythonModel:
    """Task transcribe only. An empty AUDIO gives an empty text; 60 s or more is invalid."""

    def execute(self, requests: list) -> list:
        """One response per request, in order."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: object) -> object:
        task = _text(request, "TASK")
        audio = pb_utils.get_input_tensor_by_name(request, "AUDIO")
        rate = pb_utils.get_input_tensor_by_name(request, "RATE").as_numpy()
        if task != "transcribe":
            return _error(f"unimplemented: task {task!r}", pb_utils.TritonError.UNSUPPORTED)
        if audio is None or int(rate[0]) <= 0:
            return _error("invalid: transcribe needs AUDIO and RATE", pb_utils.TritonError.INVALID_ARG)
        samples = np.ascontiguousarray(audio.as_numpy(), np.float32)
        if samples.size >= 60 * int(rate[0]):
            return _error("invalid: AUDIO is 60 s or longer", pb_utils.TritonError.INVALID_ARG)
        digest = hashlib.sha256(samples.tobytes()).digest()
        words = [WORDS[byte % len(WORDS)] for byte in digest[: 1 + digest[31] % 3]] if samples.size else []
        text = ", ".join(words)
        ill = suffer("whisper", text)
        answer = {
            "TEXT": _strings(text),
            "FINISH_REASON": _strings("stop"),
            "TOKENS_IN": np.array([samples.size // 320], np.int32),
            "TOKENS_OUT": np.array([len(text.split())], np.int32),
            "MEAN_LOGPROB": np.array([-digest[30] / 256], np.float32),
            "INFER_MS": np.array([0.1], np.float32),
            "MODEL": _strings("whisper"),
            "VERSION": _strings("test-whisper-1"),
        }
        return pb_utils.InferenceResponse([pb_utils.Tensor(*one) for one in taint(ill, answer).items()])


def _text(request: object, name: str) -> str:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0].decode()


def _strings(text: str) -> np.ndarray:
    return np.array([text.encode()], np.object_)


def _error(text: str, code: int) -> object:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(text, code))
