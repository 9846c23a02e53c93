"""A summary that only quotes: what the CPU profile gives instead of a language model's.

`summarize` scores each sentence of a call with hand-written cues of English (cues.py) and takes the best:

* issue: what the customer complains of or asks for; early sentences count more
* outcome: what is settled; late sentences count more, and so does an offer the other side accepts
* actions: what somebody promised to do, or asked the other side to do

Nothing is invented: every finding is a quotation and names the utterances it stands in. The price is
that it misses what no single sentence says, irony, and other languages; `method` tells readers so.
Pure and deterministic: the same lines give the same summary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from store.fact_rows import TranscriptLine
from workers import cues

__all__ = ["METHOD", "CallSummary", "Finding", "summarize"]

METHOD = "extractive-v1"

#: More promises than this is a list nobody reads; the longest of the sample calls has three.
MAX_ACTIONS = 5
#: A sentence may be a whole utterance of 30 s without a full stop, some 90 words; two of them still fit a summary.
MAX_QUOTE_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A quotation and the utterances it is taken from, in time order."""

    text: str
    utterance_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """`summary` is empty if nobody said anything; issue and outcome are None where nothing points at one."""

    method: str
    issue: Finding | None
    outcome: Finding | None
    actions: tuple[Finding, ...]
    summary: str
    summary_utterance_ids: tuple[UUID, ...]

    def evidence(self) -> list[dict[str, object]]:
        """`[{"field": "issue", "utterance_ids": [...]}, ...]`, the n-th action as `actions[n]`; JSON-ready."""
        found = [("issue", self.issue), ("outcome", self.outcome)]
        found += [(f"actions[{n}]", action) for n, action in enumerate(self.actions)]
        fields = [(name, finding.utterance_ids) for name, finding in found if finding is not None]
        if self.summary:
            fields.append(("summary", self.summary_utterance_ids))
        return [{"field": name, "utterance_ids": [str(one) for one in ids]} for name, ids in fields if ids]


#: The end of a sentence: not `8 a.m. appointment`, not `Dr. Lee`.
_END = re.compile(r"(?<=[.!?])(?<!Mr\.)(?<!Ms\.)(?<!Mrs\.)(?<!Dr\.)\s+(?=[^a-z\s])")
#: Where recognition put a comma between a statement and a question: the statement still promises.
_THEN_ASKS = re.compile(
    r",\s+(?=(?:which|what|when|where|who|how|can|could|may|do|did|would|will|is|are)\b[^.!?]*\?$)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class _Sentence:
    """`at` is the utterance's place in the call, 0 for the first to 1 for the last."""

    line: int
    role: str
    at: float
    text: str
    plain: str

    @property
    def words(self) -> int:
        return len(self.plain.split())

    @property
    def asks(self) -> bool:
        return self.text.endswith("?")


def summarize(utterances: Sequence[TranscriptLine]) -> CallSummary:
    """The summary of one call. `utterances` in any order; those without a word are passed over."""
    lines = sorted(
        (line for line in utterances if re.search(r"\w", line.text)),
        key=lambda line: (line.start_ms, line.role, str(line.utterance_id)),
    )
    sentences = _sentences(lines)
    issue = _issue(lines, sentences)
    outcome = _outcome(lines, sentences)
    actions = _actions(lines, sentences)
    parts = [("Issue", issue), ("Outcome", outcome)]
    if outcome is None and actions:
        parts.append(("Next", actions[0]))
    told = [(label, finding) for label, finding in parts if finding is not None]
    if not told and lines:
        told = [("Said", _finding(lines, [max(sentences, key=lambda one: (one.words, -one.line))]))]
    named = {one for _, finding in told for one in finding.utterance_ids}
    return CallSummary(
        method=METHOD,
        issue=issue,
        outcome=outcome,
        actions=actions,
        summary=" ".join(f"{label}: “{finding.text}”" for label, finding in told),
        summary_utterance_ids=tuple(line.utterance_id for line in lines if line.utterance_id in named),
    )


def _sentences(lines: Sequence[TranscriptLine]) -> list[_Sentence]:
    last = max(1, len(lines) - 1)
    return [
        _Sentence(number, line.role, number / last, text, cues.plain(text))
        for number, line in enumerate(lines)
        for sentence in _END.split(line.text.strip())
        for text in _THEN_ASKS.split(sentence, maxsplit=1)
        if re.search(r"\w", text)
    ]


def _finding(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence], also: Sequence[int] = ()) -> Finding:
    text = " ".join(sentence.text for sentence in sentences)
    if len(text) > MAX_QUOTE_CHARS:
        text = text[: MAX_QUOTE_CHARS - 1].rsplit(" ", 1)[0] + "…"
    numbers = sorted({sentence.line for sentence in sentences} | set(also))
    return Finding(text=text, utterance_ids=tuple(lines[number].utterance_id for number in numbers))


def _issue(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence]) -> Finding | None:
    def score(sentence: _Sentence) -> float:
        trouble = sum(bool(cue.search(sentence.plain)) for cue in cues.TROUBLE)
        # The second and third sign of trouble count less than where it stands: callers say first why they call.
        points = min(1.4, 0.8 + 0.2 * trouble) if trouble else 0.0
        points += 0.8 * bool(cues.REASON.search(sentence.plain)) + 0.6 * bool(cues.WISH.search(sentence.plain))
        if sentence.words < 4 or (sentence.asks and not trouble) or cues.HOPE.search(sentence.plain):
            points *= 0.3
        if sentence.words < 8 and cues.ANSWER.search(sentence.plain):
            points *= 0.4
        if sentence.role != "customer" and cues.SERVICE.search(sentence.plain):
            points *= 0.2
        return points * (1 - 0.7 * sentence.at)

    told = [sentence for sentence in sentences if sentence.role != "agent"]
    best = max(told, key=score, default=None)  # the earlier of equals
    if best is None or score(best) < 0.2:
        plainly = (
            s for s in told if s.words >= 6 and s.role == "customer" and not s.asks and not cues.THANKS.search(s.plain)
        )
        best = next(plainly, None)
    return None if best is None else _finding(lines, [best, *_rest_of(best, sentences)])


def _rest_of(sentence: _Sentence, sentences: Sequence[_Sentence]) -> list[_Sentence]:
    """What the same speaker goes on with, if the utterance was cut in the middle of the sentence."""
    if sentence.text.endswith((".", "!", "?")):
        return []
    after = (one for one in sentences if one.line > sentence.line and one.role == sentence.role)
    return [one for one in (next(after, None),) if one is not None and one.line <= sentence.line + 2]


def _commits(sentence: _Sentence) -> float:
    """How much is promised: 2 what settles something, 1 what helps, else 0."""
    if sentence.asks:
        return 0.0
    verbs = {match[1] for match in cues.PROMISE.finditer(sentence.plain)}
    if verbs & cues.SETTLES or cues.GETS.search(sentence.plain):
        return 2.0
    return 1.0 if verbs & cues.HELPS else 0.0


def _actions(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence]) -> tuple[Finding, ...]:
    found: dict[str, _Sentence] = {}
    for sentence in sentences:
        asked = not sentence.asks and cues.ASKED.search(sentence.plain)
        if sentence.role != "customer" and (asked or _commits(sentence)):
            found.setdefault(sentence.plain, sentence)
    strongest = sorted(found.values(), key=lambda one: (-_commits(one), one.line))[:MAX_ACTIONS]
    return tuple(_finding(lines, [one]) for one in sorted(strongest, key=lambda one: one.line))


def _outcome(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence]) -> Finding | None:
    best: tuple[float, Sequence[_Sentence], Sequence[int]] = (0.0, (), ())
    by_line: list[list[_Sentence]] = [[] for _ in lines]
    for sentence in sentences:
        by_line[sentence.line].append(sentence)
    for number, mine in enumerate(by_line):
        settling = [one for one in mine if _settles(one)]
        if not settling:
            continue
        points = max(_settles(one) for one in settling) + (0.5 if len(settling) > 1 else 0.0)
        accepted = _accepted_by(by_line, number)
        points *= (0.4 + 0.6 * mine[0].at) * (1.25 if accepted else 1.0)
        if points >= best[0]:  # the later of equals
            best = (points, settling, accepted)
    return _finding(lines, best[1], best[2]) if best[1] else None


def _settles(sentence: _Sentence) -> float:
    if sentence.asks or cues.HOPE.search(sentence.plain):
        return 0.0
    if sentence.role == "customer":
        # A customer settles nothing but can tell that it is settled.
        return 1.5 if cues.SETTLED.search(sentence.plain) and not cues.OBJECTS.search(sentence.plain) else 0.0
    points = _commits(sentence)
    if cues.SETTLED.search(sentence.plain) or cues.DONE.search(sentence.plain) or cues.REFUSED.search(sentence.plain):
        points = 2.0
    if (
        cues.DAY.search(sentence.plain)
        and cues.CLOCK.search(sentence.plain)
        and (sentence.role == "agent" or not cues.SELF.search(sentence.plain))
    ):
        points = 2.0  # an appointment; if a caller may have said it with an I or my, more often plans
    return points


def _accepted_by(by_line: Sequence[Sequence[_Sentence]], number: int) -> list[int]:
    """The next line, if somebody else agrees in it."""
    if number + 1 >= len(by_line):
        return []
    answer = by_line[number + 1]
    first = answer[0]
    if first.role == by_line[number][0].role != "unknown" or first.asks or cues.OBJECTS.search(first.plain):
        return []
    return [number + 1] if any(cues.ACCEPTS.search(one.plain) for one in answer) else []
