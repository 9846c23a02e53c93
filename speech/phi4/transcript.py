"""A transcript as the text of a request, and the summary as the text of its answer. Imports nothing heavy.

in   {"utterances": [{"id": "...", "role": "customer", "text": "..."}, ...]}, or plain text: each line an utterance,
     its id the line's number
out  {"method": "...", "issue": "..." | null, "outcome": "..." | null, "actions": ["..."], "summary": "...",
     "evidence": [{"field": "issue", "utterance_ids": ["..."]}, {"field": "actions[0]", ...}, ...]}
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from speech.contract import InvalidRequest

__all__ = ["Finding", "TranscriptSummary", "Utterance", "dump_transcript", "parse_transcript"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Utterance:
    """One utterance; `role` is customer, agent or unknown."""

    id: str
    role: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What was found, and the ids of the utterances that support it, in their order."""

    text: str
    utterance_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptSummary:
    """`method` tells whether a grammar held the answer to its form; without one, evidence may be missing."""

    method: str
    issue: Finding | None
    outcome: Finding | None
    actions: tuple[Finding, ...]
    summary: Finding

    def json(self) -> str:
        """The answer's text."""
        named = [("issue", self.issue), ("outcome", self.outcome)]
        named += [(f"actions[{n}]", action) for n, action in enumerate(self.actions)]
        named.append(("summary", self.summary))
        return json.dumps(
            {
                "method": self.method,
                "issue": self.issue.text if self.issue else None,
                "outcome": self.outcome.text if self.outcome else None,
                "actions": [action.text for action in self.actions],
                "summary": self.summary.text,
                "evidence": [
                    {"field": name, "utterance_ids": list(finding.utterance_ids)}
                    for name, finding in named
                    if finding is not None and finding.utterance_ids
                ],
            },
            ensure_ascii=False,
        )


def dump_transcript(utterances: Sequence[Utterance]) -> str:
    """The request's text for these utterances."""
    return json.dumps({"utterances": [asdict(one) for one in utterances]}, ensure_ascii=False)


def parse_transcript(text: str) -> list[Utterance]:
    """The utterances of a request's text, those without a word left out.

    InvalidRequest if none is left, an id comes twice, or half a surrogate pair is in it, which JSON can write.
    """
    found = [one for one in (_json(text) if text.lstrip().startswith("{") else _plain(text)) if one.text.strip()]
    if not found:
        raise InvalidRequest("the transcript holds no utterance")
    if len({one.id for one in found}) < len(found):
        raise InvalidRequest("two utterances of the transcript have the same id")
    try:
        "".join(one.id + one.text for one in found).encode()
    except UnicodeEncodeError as err:
        raise InvalidRequest("the transcript holds half a surrogate pair, which is no text") from err
    return found


def _json(text: str) -> list[Utterance]:
    try:
        return [
            Utterance(id=str(one["id"]), role=str(one.get("role", "unknown")), text=str(one["text"]))
            for one in json.loads(text)["utterances"]
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise InvalidRequest(
            'the transcript must be plain lines or {"utterances": [{"id", "role", "text"}, ...]}'
        ) from err


def _plain(text: str) -> list[Utterance]:
    return [Utterance(id=str(n), role="", text=line) for n, line in enumerate(text.splitlines(), start=1)]
