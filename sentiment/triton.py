"""What the two Triton models share: reading tensors, and errors that fail one request only.

`pb_utils` is the server's module, handed in because it exists inside the server alone.
"""

from __future__ import annotations

from typing import Any

from sentiment.serve import InvalidInput, UnsupportedLanguage, require_english

__all__ = ["cancelled", "counts_of", "english_texts_of", "invalid", "vector"]


def english_texts_of(pb_utils: Any, request: Any) -> list[str]:
    """The TEXT tensor's strings. Raises InvalidInput for bytes that are not UTF-8, UnsupportedLanguage."""
    values = pb_utils.get_input_tensor_by_name(request, "TEXT").as_numpy().reshape(-1)
    try:
        texts = [raw if isinstance(raw, str) else bytes(raw).decode("utf-8") for raw in values]
    except UnicodeDecodeError as err:
        raise InvalidInput("TEXT is not UTF-8") from err
    for text in texts:
        require_english(text)
    return texts


def counts_of(pb_utils: Any, request: Any, texts: int, spans: int) -> list[int]:
    """How many of the spans belong to each text: the COUNT tensor, which a request with one text may leave out.

    Raises InvalidInput where they do not add up.
    """
    given = pb_utils.get_input_tensor_by_name(request, "COUNT")
    counts = [spans] if given is None else [int(v) for v in given.as_numpy().reshape(-1)]
    if len(counts) != texts or min(counts, default=0) < 0 or sum(counts) != spans:
        raise InvalidInput(f"COUNT does not share {spans} spans among {texts} texts")
    return counts


def vector(pb_utils: Any, request: Any, name: str) -> list[int]:
    """An INT32 tensor as a list."""
    return [int(v) for v in pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)]


def invalid(pb_utils: Any, err: InvalidInput) -> Any:
    """The response that tells the caller its request can never succeed, and why."""
    if isinstance(err, UnsupportedLanguage):
        message = f"unsupported_language: {err}"
        return pb_utils.InferenceResponse([], pb_utils.TritonError(message, pb_utils.TritonError.UNSUPPORTED))
    return pb_utils.InferenceResponse([], pb_utils.TritonError(f"invalid: {err}", pb_utils.TritonError.INVALID_ARG))


def cancelled(pb_utils: Any) -> Any:
    """The response nobody waits for any more."""
    return pb_utils.InferenceResponse([], pb_utils.TritonError("cancelled", pb_utils.TritonError.CANCELLED))
