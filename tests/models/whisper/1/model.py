"""A whisper that hears words in the hash of the samples: same audio, same words, and no two utterances alike."""

from __future__ import annotations

import hashlib

import numpy as np
import triton_python_backend_utils as pb_utils

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
        return pb_utils.InferenceResponse(
            [
                _strings("TEXT", text),
                _strings("FINISH_REASON", "stop"),
                _number("TOKENS_IN", samples.size // 320, np.int32),
                _number("TOKENS_OUT", len(text.split()), np.int32),
                _number("MEAN_LOGPROB", -digest[30] / 256, np.float32),
                _number("INFER_MS", 0.1, np.float32),
                _strings("MODEL", "whisper"),
                _strings("VERSION", "test-whisper-1"),
            ]
        )


def _text(request: object, name: str) -> str:
    return pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)[0].decode()


def _strings(name: str, text: str) -> object:
    return pb_utils.Tensor(name, np.array([text.encode()], np.object_))


def _number(name: str, value: float, dtype: type) -> object:
    return pb_utils.Tensor(name, np.array([value], dtype))


def _error(text: str, code: int) -> object:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(text, code))
