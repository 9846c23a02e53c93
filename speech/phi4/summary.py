"""The summary of a transcript: issue, outcome, actions and a few sentences, each naming the utterances that support it.

Utterances are numbered in the prompt, the grammar allows these numbers only, and they become ids again in the answer.
What does not fit one prompt is summarized in parts, and the parts' notes are merged in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from speech.contract import FinishReason, InvalidRequest
from speech.phi4.generation import Completion, Constraint, Generation, Prompt
from speech.phi4.grammar import Grammars
from speech.phi4.modes import Mode
from speech.phi4.prompts import LANGUAGES, Prompts
from speech.phi4.transcript import Finding, TranscriptSummary, Utterance
from speech.phi4.unfinished import read_unfinished
from speech.phi4.work import Ask, Work, worst

__all__ = ["GRAMMAR_METHOD", "PLAIN_METHOD", "Summarized", "Summarizer", "schema"]

GRAMMAR_METHOD = "phi4-json-v1"
PLAIN_METHOD = "phi4-text-v1"  # asked for JSON, not held to it
MAX_ACTIONS = 5
MAX_EVIDENCE = 8
_TEXT_CHARS = 300
_SUMMARY_CHARS = 800

_FORM = (
    ' Answer with JSON of this form: {"issue": {"text": "...", "utterances": [1]}, "outcome": {...}, "actions": [{...}], '
    '"summary": {...}}. issue: why the customer called; outcome: how it ended; actions: what somebody promised or asked '
    "for; summary: two or three sentences. Name with each the numbers of the utterances that support it. Write null for "
    "an issue or outcome that the call does not tell."
)
_WHOLE = "Below is the transcript of a call, its utterances numbered." + _FORM
_PART = "Below is part {part} of {parts} of the transcript of a call, its utterances numbered." + _FORM
_MERGE = (
    "Below are notes on consecutive parts of one call, each with the numbers of the utterances that support it. Merge them "
    "into one answer." + _FORM
)
_ROLES = {"customer": "Customer", "agent": "Agent"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Summarized:
    """The summary and what it took: all completions in the order they were asked for."""

    summary: TranscriptSummary
    completions: tuple[Completion, ...]
    finish_reason: FinishReason
    parts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Notes:
    """A summary by numbers."""

    issue: tuple[str, tuple[int, ...]] | None = None
    outcome: tuple[str, tuple[int, ...]] | None = None
    actions: tuple[tuple[str, tuple[int, ...]], ...] = ()
    summary: tuple[str, tuple[int, ...]] = ("", ())

    @property
    def numbers(self) -> set[int]:
        found = [self.issue, self.outcome, self.summary, *self.actions]
        return {number for one in found if one is not None for number in one[1]}


class Summarizer:
    """`window`: tokens of prompt and answer together that the engine takes of one request; `most_parts` of a transcript."""

    def __init__(self, prompts: Prompts, grammars: Grammars, *, window: int, most_parts: int) -> None:
        self._most_parts = most_parts
        self._prompts = prompts
        self._grammars = grammars
        self._window = window

    def summarize(
        self, utterances: Sequence[Utterance], *, tokens: int, language: str | None = None
    ) -> Work[Summarized]:
        """Steps to the summary in at most `tokens` tokens a sequence; InvalidRequest if not even one line would fit."""
        answer_in = f" Answer in {LANGUAGES[language]}." if language else ""
        room = self._room(_PART + answer_in, tokens)
        parts = self._parts(utterances, room)
        if len(parts) > self._most_parts:
            raise InvalidRequest(f"the transcript takes {len(parts)} prompts, at most {self._most_parts} are merged")
        one = len(parts) == 1
        asked = []
        for number, lines in enumerate(parts, start=1):
            words = (
                _WHOLE if one else _PART.replace("{part}", str(number)).replace("{parts}", str(len(parts)))
            ) + answer_in
            asked.append(self._generation(words, [ids for _, ids in lines], {n for n, _ in lines}, tokens))
        completions = list((yield Ask(generations=asked, stream=False)))
        notes = [self._read(done, {n for n, _ in lines}) for done, lines in zip(completions, parts, strict=True)]
        while len(notes) > 1:
            merged: list[_Notes] = []
            asked, groups = [], self._groups(notes, self._room(_MERGE + answer_in, tokens))
            for group in groups:
                allowed = set().union(*(notes.numbers for notes, _ in group))
                lines_ids = [ids for _, lines in group for ids in lines]
                asked.append(self._generation(_MERGE + answer_in, lines_ids, allowed, tokens))
            done = list((yield Ask(generations=asked, stream=False)))
            completions += done
            for completion, group in zip(done, groups, strict=True):
                merged.append(self._read(completion, set().union(*(notes.numbers for notes, _ in group))))
            notes = merged
        return Summarized(
            summary=self._named(notes[0], utterances),
            completions=tuple(completions),
            finish_reason=worst([one.finish_reason for one in completions]),
            parts=len(parts),
        )

    @property
    def method(self) -> str:
        """How answers are held to their form."""
        return GRAMMAR_METHOD if self._grammars.available else PLAIN_METHOD

    def _room(self, words: str, tokens: int) -> int:
        """Tokens that are left for lines."""
        room = self._window - tokens - self._prompts.free_tokens - len(self._prompts.data(words)) - 8
        if room < 32:
            raise InvalidRequest(f"a token limit of {tokens} leaves no room for the transcript")
        return room

    def _generation(self, words: str, lines: Sequence[tuple[int, ...]], numbers: set[int], tokens: int) -> Generation:
        constraint: Callable[[], Constraint] | None = None
        if self._grammars.available:
            constraint = self._grammars.of_schema(schema(numbers))
        prompt: Prompt = self._prompts.free_ids((*self._prompts.data(words), *(one for line in lines for one in line)))
        return Generation(prompt=prompt, mode=Mode.LANGUAGE, max_new_tokens=tokens, constraint=constraint)

    def _parts(self, utterances: Sequence[Utterance], room: int) -> list[list[tuple[int, tuple[int, ...]]]]:
        """Numbered lines as tokens, in parts of at most `room` tokens; a line too long for one goes on in the next."""
        parts: list[list[tuple[int, tuple[int, ...]]]] = [[]]
        left = room
        for number, one in enumerate(utterances, start=1):
            role = _ROLES.get(one.role)
            label = f"\n[{number}] {role}: " if role else f"\n[{number}] "
            for ids in self._cut(label, " ".join(one.text.split()), room):
                if len(ids) > left and parts[-1]:
                    parts.append([])
                    left = room
                parts[-1].append((number, ids))
                left -= len(ids)
        return parts

    def _cut(self, label: str, text: str, room: int) -> list[tuple[int, ...]]:
        ids = self._prompts.data(label + text)
        if len(ids) <= room or len(text) < 2:
            return [ids[:room]]
        half = text.rfind(" ", 1, len(text) // 2 + 1)
        half = half if half > 0 else len(text) // 2
        return [*self._cut(label, text[:half], room), *self._cut(label, text[half:].lstrip(), room)]

    def _groups(self, notes: Sequence[_Notes], room: int) -> list[list[tuple[_Notes, list[tuple[int, ...]]]]]:
        """Notes of neighbouring parts, two at least, as many as fit together; each is cut to what leaves room for a second."""
        groups: list[list[tuple[_Notes, list[tuple[int, ...]]]]] = [[]]
        left = room
        for number, one in enumerate(notes, start=1):
            lines = self._note_lines(number, one, room // 2)
            size = sum(map(len, lines))
            if size > left and len(groups[-1]) > 1:
                groups.append([])
                left = room
            groups[-1].append((one, lines))
            left -= size
        if len(groups) > 1 and len(groups[-1]) == 1 and len(groups[-2]) > 2:
            groups[-1].insert(0, groups[-2].pop())
        return groups

    def _note_lines(self, number: int, notes: _Notes, room: int) -> list[tuple[int, ...]]:
        named = [("summary", notes.summary), ("issue", notes.issue), ("outcome", notes.outcome)]
        named += [("action", action) for action in notes.actions]
        lines = []
        for name, finding in named:
            if finding is None or not finding[0]:
                continue
            ids = self._prompts.data(f"\nPart {number}, {name} {list(finding[1])}: {finding[0]}")[:room]
            lines.append(ids)
            room -= len(ids)
            if room <= 0:
                break
        return lines

    def _read(self, completion: Completion, numbers: set[int]) -> _Notes:
        value = read_unfinished(completion.text)
        if not isinstance(value, Mapping):
            return _Notes(summary=(completion.text.strip()[:_SUMMARY_CHARS], ()))
        actions = value.get("actions")
        found = [_finding(one, numbers) for one in actions] if isinstance(actions, list) else []
        return _Notes(
            issue=_finding(value.get("issue"), numbers),
            outcome=_finding(value.get("outcome"), numbers),
            actions=tuple(one for one in found if one is not None)[:MAX_ACTIONS],
            summary=_finding(value.get("summary"), numbers) or ("", ()),
        )

    def _named(self, notes: _Notes, utterances: Sequence[Utterance]) -> TranscriptSummary:
        def named(finding: tuple[str, tuple[int, ...]]) -> Finding:
            return Finding(text=finding[0], utterance_ids=tuple(utterances[number - 1].id for number in finding[1]))

        return TranscriptSummary(
            method=self.method,
            issue=named(notes.issue) if notes.issue else None,
            outcome=named(notes.outcome) if notes.outcome else None,
            actions=tuple(named(action) for action in notes.actions),
            summary=named(notes.summary),
        )


def schema(numbers: set[int]) -> dict[str, Any]:
    """The JSON schema of an answer about utterances of these numbers; evidence may be missing only where there are none."""

    def finding(chars: int) -> dict[str, Any]:
        evidence: dict[str, Any] = {"type": "array", "maxItems": MAX_EVIDENCE if numbers else 0}
        if numbers:
            first, last = min(numbers), max(numbers)
            gaps = len(numbers) <= last - first
            only = {"enum": sorted(numbers)} if gaps else {"type": "integer", "minimum": first, "maximum": last}
            evidence |= {"items": only, "minItems": 1}
        return {
            "type": "object",
            "properties": {"text": {"type": "string", "minLength": 1, "maxLength": chars}, "utterances": evidence},
            "required": ["text", "utterances"],
            "additionalProperties": False,
        }

    maybe = {"anyOf": [finding(_TEXT_CHARS), {"type": "null"}]}
    return {
        "type": "object",
        "properties": {
            "issue": maybe,
            "outcome": maybe,
            "actions": {"type": "array", "items": finding(_TEXT_CHARS), "maxItems": MAX_ACTIONS},
            "summary": finding(_SUMMARY_CHARS),
        },
        "required": ["issue", "outcome", "actions", "summary"],
        "additionalProperties": False,
    }


def _finding(value: Any, numbers: set[int]) -> tuple[str, tuple[int, ...]] | None:
    """A finding with the numbers that exist, each once, in order; None for anything else and for no text."""
    if not isinstance(value, Mapping) or not isinstance(value.get("text"), str):
        return None
    # Half a surrogate pair is JSON, but no text that could be stored.
    text = value["text"].encode("utf-8", errors="replace").decode().strip()
    named = value.get("utterances")
    # JSON's true is one of Python's integers.
    found = {one for one in named if type(one) is int and one in numbers} if isinstance(named, list) else set()
    return (text, tuple(sorted(found))) if text else None
