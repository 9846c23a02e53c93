"""What the two Triton models share: reading tensors, and errors that fail one request only.

`pb_utils` is the server's module, handed in because it exists inside the server alone.
"""

from __future__ import annotations

from typing import Any

from sentiment.serve import InvalidInput

__all__ = ["cancelled", "invalid", "text_of", "vector"]


def text_of(pb_utils: Any, request: Any) -> str:
    """The TEXT tensor's one string. Raises InvalidInput for bytes that are not UTF-8 or another count of strings."""
    values = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
    if len(values) != 1:
        raise InvalidInput(f"TEXT holds {len(values)} strings, one is expected")
    raw = values[0]
    if isinstance(raw, str):
        return raw
    try:
        return bytes(raw).decode("utf-8")
    except UnicodeDecodeError as err:
        raise InvalidInput("TEXT is not UTF-8") from err


def vector(pb_utils: Any, request: Any, name: str) -> list[int]:
    """An INT32 tensor as a list."""
    return [int(v) for v in pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)]


def invalid(pb_utils: Any, err: InvalidInput) -> Any:
    """The response that tells the caller its request can never succeed."""
    return pb_utils.InferenceResponse([], pb_utils.TritonError(f"invalid: {err}", pb_utils.TritonError.INVALID_ARG))


def cancelled(pb_utils: Any) -> Any:
    """The response nobody waits for any more."""
    return pb_utils.InferenceResponse([], pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED))
