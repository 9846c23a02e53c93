"""What can be read of JSON that was cut off: an answer that reached its token limit."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["read_unfinished"]

#: A number may go on: 1 may be the beginning of 12. So may a literal, an escape, a key.
_GOES_ON = re.compile(r"(-?\d[\d.eE+-]*|[a-z]+)\Z")
#: JSON that was cut off needs three at most; text that never was JSON could have thousands of places to try.
_TRIES = 32
_HALF_ESCAPE = re.compile(r"(?<!\\)(\\\\)*(\\(u[0-9a-fA-F]{0,3})?)\Z")


def read_unfinished(text: str) -> Any:
    """The value of the longest beginning of `text` that becomes JSON by closing what is open; None where nothing does.

    A text that was cut off is kept as far as it goes, a number or a literal is dropped.
    """
    start = text.find("{")
    if start < 0:
        return None
    text = text[start:]
    try:
        return json.JSONDecoder().raw_decode(text)[0]
    except ValueError:
        pass
    end = len(text)
    for _ in range(_TRIES):
        value = _closed(text[:end])
        if value is not None:
            return value
        end = max(text.rfind(mark, 0, end) for mark in ',{["')
        if end <= 0:
            break
    return None


def _closed(text: str) -> Any:
    open_brackets, inside = _open(text)
    if inside:
        half = _HALF_ESCAPE.search(text)
        text = (text[: half.start(2)] if half else text) + '"'
    else:
        text = _GOES_ON.sub("", text).rstrip().removesuffix(",")
    closers = "".join("}" if bracket == "{" else "]" for bracket in reversed(open_brackets))
    try:
        return json.loads(text + closers)
    except ValueError:
        return None


def _open(text: str) -> tuple[list[str], bool]:
    """The brackets that are open at the end, and whether a string is."""
    brackets: list[str] = []
    inside = escaped = False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "{[":
            brackets.append(character)
        elif character in "}]" and brackets:
            brackets.pop()
    return brackets, inside
