"""What the two Triton models share: reading tensors, and errors that fail one request only.

`pb_utils` is the server's module, handed in because it exists inside the server alone.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from traceback import extract_tb
from typing import Any

from sentiment.serve import MAX_CHARACTERS, InvalidInput, UnsupportedLanguage, require_english

__all__ = [
    "MAX_KNOWN",
    "MAX_SPANS",
    "MAX_TEXTS",
    "counts_of",
    "english_texts_of",
    "known_of",
    "require_configured",
    "respond",
    "vector",
]

#: One instance answers request by request, so what one may ask is bounded: texts, and in MAX_CHARACTERS and MAX_SPANS the
#: sums over its texts. Workers send 8 texts at most.
MAX_TEXTS = 64
MAX_SPANS = 512
MAX_KNOWN = 1_000


def require_configured(pb_utils: Any, args: Mapping[str, str], **served: str) -> None:
    """Raises TritonModelException where config.pbtxt names another version than is served: runs are opened by its names."""
    parameters = json.loads(args["model_config"])["parameters"]
    for name, value in served.items():
        said = parameters[name]["string_value"]
        if said != value:
            raise pb_utils.TritonModelException(f"config.pbtxt says {name} {said}, but {value} is here: correct it")


def respond(pb_utils: Any, request: Any, answer: Callable[[Any], Mapping[str, Any]]) -> Any:
    """The response to one request: `answer`'s outputs, or an error that is this request's alone."""
    try:
        if request.is_cancelled():
            return _error(pb_utils, "cancelled", pb_utils.TritonError.CANCELLED)
        return pb_utils.InferenceResponse([pb_utils.Tensor(name, value) for name, value in answer(request).items()])
    except UnsupportedLanguage as err:
        return _error(pb_utils, f"unsupported_language: {err}", pb_utils.TritonError.UNSUPPORTED)
    except InvalidInput as err:
        return _error(pb_utils, f"invalid: {err}", pb_utils.TritonError.INVALID_ARG)
    except Exception as err:  # noqa: BLE001 -- the boundary: one request must not fail another; its words may hold the text
        at = extract_tb(err.__traceback__)[-1]
        place = f"{at.filename.rpartition('/')[2]}:{at.lineno}"
        return _error(pb_utils, f"{type(err).__name__} at {place}", pb_utils.TritonError.INTERNAL)


def _error(pb_utils: Any, message: str, code: int) -> Any:
    return pb_utils.InferenceResponse([], pb_utils.TritonError(message, code))


def english_texts_of(pb_utils: Any, request: Any) -> list[str]:
    """The TEXT tensor's strings. Raises InvalidInput for too much or what is not UTF-8, UnsupportedLanguage."""
    texts = _strings(pb_utils, request, "TEXT", MAX_TEXTS)
    for text in texts:
        require_english(text)
    return texts


def known_of(pb_utils: Any, request: Any) -> list[str]:
    """The words of the KNOWN tensor, which a request may leave out. Raises InvalidInput."""
    return _strings(pb_utils, request, "KNOWN", MAX_KNOWN)


def _strings(pb_utils: Any, request: Any, name: str, most: int) -> list[str]:
    given = pb_utils.get_input_tensor_by_name(request, name)
    values = [] if given is None else given.as_numpy().reshape(-1)
    if len(values) > most:
        raise InvalidInput(f"{name} holds {len(values)} texts, {most} are the most of a request")
    try:
        texts = [raw if isinstance(raw, str) else bytes(raw).decode("utf-8") for raw in values]
    except UnicodeDecodeError as err:
        raise InvalidInput(f"{name} is not UTF-8") from err
    characters = sum(map(len, texts))
    if characters > MAX_CHARACTERS:
        raise InvalidInput(f"{name} holds {characters} characters, {MAX_CHARACTERS} are the most of a request")
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
    """An INT32 tensor of the spans as a list. Raises InvalidInput for more than MAX_SPANS."""
    values = pb_utils.get_input_tensor_by_name(request, name).as_numpy().reshape(-1)
    if len(values) > MAX_SPANS:
        raise InvalidInput(f"{name} holds {len(values)} spans, {MAX_SPANS} are the most of a request")
    return [int(v) for v in values]
