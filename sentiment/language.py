"""Whether a text is English, by CLD2 (pycld2: Apache-2.0, offline, 13 microseconds a sentence): other text is refused.

The models know English alone, and would call what they cannot read neutral. CLD2 is asked only from 20 letters on, and
believed only when it names languages and English is not among them for a fifth of the text: mixed text is read.
"""

from __future__ import annotations

import pycld2

__all__ = ["LEAST_LETTERS", "foreign"]

LEAST_LETTERS = 20
LEAST_ENGLISH = 20  # percent of the text


def foreign(text: str) -> str | None:
    """The code of the language that a text is in (`de`, `zh`), None for English and for what nobody can tell."""
    if sum(c.isalpha() for c in text) < LEAST_LETTERS:
        return None
    readable = "".join(c if c.isprintable() else " " for c in text)  # CLD2 takes control characters for bad UTF-8
    try:
        _, _, found = pycld2.detect(readable, bestEffort=True)
    except pycld2.error:
        return None
    known = [(code, percent) for _, code, percent, _ in found if code != "un"]
    if not known or any(code == "en" and percent >= LEAST_ENGLISH for code, percent in known):
        return None
    return str(known[0][0])
