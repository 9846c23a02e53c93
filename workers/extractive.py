"""A summary that only quotes: what the CPU profile gives instead of a language model's.

``summarize`` scores each sentence of a call with hand-written cues of English and takes the best:

* issue: what the customer complains of or asks for; early sentences count more
* outcome: what is settled; late sentences count more, and so does an offer the other side accepts
* actions: what somebody promised to do, or asked the other side to do

Nothing is invented: every finding is a quotation and names the utterances it stands in. The price is
that it misses what no single sentence says, irony, and other languages; ``method`` tells readers so.
Pure and deterministic: the same lines give the same summary.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

__all__ = ["METHOD", "CallSummary", "Finding", "TranscriptLine", "summarize"]

METHOD = "extractive-v1"

#: More promises than this is a list nobody reads; the longest of the sample calls has three.
MAX_ACTIONS = 5
#: A sentence may be a whole utterance of 30 s without a full stop, some 90 words; two of them still fit a summary.
MAX_QUOTE_CHARS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class TranscriptLine:
    """One utterance; ``role`` is customer, agent or unknown, ``start_ms`` counts from the call's start."""

    utterance_id: UUID
    role: str
    start_ms: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A quotation and the utterances it is taken from, in time order."""

    text: str
    utterance_ids: tuple[UUID, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CallSummary:
    """``summary`` is empty if nobody said anything; issue and outcome are None where nothing points at one."""

    method: str
    issue: Finding | None
    outcome: Finding | None
    actions: tuple[Finding, ...]
    summary: str
    summary_utterance_ids: tuple[UUID, ...]

    def evidence(self) -> list[dict[str, object]]:
        """``[{"field": "issue", "utterance_ids": [...]}, ...]``, the n-th action as ``actions[n]``; JSON-ready."""
        found = [("issue", self.issue), ("outcome", self.outcome)]
        found += [(f"actions[{n}]", action) for n, action in enumerate(self.actions)]
        fields = [(name, finding.utterance_ids) for name, finding in found if finding is not None]
        if self.summary:
            fields.append(("summary", self.summary_utterance_ids))
        return [{"field": name, "utterance_ids": [str(one) for one in ids]} for name, ids in fields]


def _any(*words: str) -> re.Pattern[str]:
    return re.compile(r"\b(?:" + "|".join(words) + r")\b")


# All cues read the plain form of a sentence: lower case, no contractions, one space between words.
_TROUBLE = (
    _any(r"(?:did|does|do|is|was|are|were|has|have|had|can|could|will|would) not", "never", "nobody", "no one", "no longer"),
    _any("problems?", "issues?", "trouble", "wrong", "errors?", "mistake", "complain\\w*", "dispute"),
    _any("broke\\w*", "breaks?", "crash\\w*", "fail\\w*", "fault\\w*", "defect\\w*", "damage\\w*", "crack\\w*", "leak\\w*"),
    _any("stuck", "stop(?:s|ped)", "drop(?:s|ped|ping)", "dies", "died", "dead", "freez\\w*", "froze\\w*", "disconnect\\w*"),
    _any("lost", "missing", "late", "delay\\w*", "slow\\w*", "waiting for", "expired", "outage", "down"),
    _any("nois[ye]\\w*", "dirty", "smell\\w*", "cold", "filthy", "swollen", "stained"),
    _any("overcharg\\w*", "charged", "fees?", "declined", "locked", "blocked", "stolen", "stole", "fraud\\w*", "twice"),
    _any("accident", "hit", "injur\\w*", "emergency"),
    _any("frustrat\\w*", "terrible", "awful", "horrible", "unacceptable", "fed up", "upset", "angry", "annoy\\w*"),
    _any("disappoint\\w*", "ruin\\w*", "mess", "worst", "confus\\w*", "ridiculous", "too (?:high|long|much|expensive|small|loud|late)"),
)  # fmt: skip
_REASON = _any(
    r"(?:am|was) calling (?:about|because|regarding|to)", r"the (?:problem|issue|trouble|thing) is",
    r"i have (?:a|an) (?:problem|issue|question|complaint)", r"there is (?:a|an|something)",
)  # fmt: skip
_WISH = _any(
    "i (?:would like|want|need|am trying|was trying|am looking) (?:to|for|a|an|my|some)",
    "how (?:do|can) i",
    "i wonder\\w*",
)
_ANSWER = re.compile(r"^(?:yes|yeah|no|sure|okay|right|correct)\b")
_HOPE = _any("hope\\w*", "if i", "i wish")
_THANKS = _any("thanks?", "appreciate", "great", "perfect", "wonderful", "excellent", "generous", "lovely")
_SERVICE = _any(
    r"(?:thank you|thanks) for (?:calling|waiting|holding|your patience)", r"how (?:can|may) i help", r"(?:can|may|could) (?:i|you) .{0,40}",
    r"(?:am|are) (?:very |really |so )?sorry", r"apologi[sz]e\w*", r"let me", r"speaking", r"i understand", r"you(?:r)? (?:account|warranty|line)",
)  # fmt: skip

_PROMISE = re.compile(
    r"\b(?:(?:i|we) (?:will|can|am going to|are going to|would like to|have to)|let me)(?: (?:also|just|now|gladly|certainly|then|go ahead and))? (\w+)"
)
_GETS = _any(r"you (?:will|should) (?:now )?(?:receive|get|see|have|hear|find)", r"will (?:appear|arrive|be (?:\w+ed|sent|there|with you))",
             r"(?:will|is going to) (?:call|contact|email|reach|visit|write to) you")  # fmt: skip
_ASKED = re.compile(
    r"\bplease (bring|call|charge|check|fill|keep|mail|pay|plug|reply|reset|restart|return|send|ship|sign|switch|take|try|turn|unplug|update|use|visit|write)\b"
)
#: What settles a matter, and what only helps with it.
_SETTLES = frozenset(
    "cancel change credit deliver exchange fix give grant honor honour issue pay process rebook refill refund reimburse "
    "reinstate remove repair replace reset resolve reverse send ship unlock upgrade waive book schedule".split()
)
_HELPS = frozenset(
    "add apply arrange ask attach block call close contact email escalate extend file flag forward inform leave mail make mark note "
    "notify open order order pass put raise register report request submit text transfer update".split()
)
_SETTLED = _any(
    r"(?:is|are|was|has been|have been|will be|now|all|i have|we have|just)(?: already| now)? (?:approved|booked|canceled|cancelled|changed|corrected|"
    r"credited|delivered|done|fixed|issued|processed|refunded|reimbursed|removed|repaired|replaced|reset|resolved|restored|reversed|"
    r"scheduled|sent|set|shipped|solved|sorted|unlocked|waived|working)",
    r"(?:that|it) (?:fixed|solved|worked|works)", r"(?:refund|credit|replacement|appointment|reservation) (?:will|is|has)",
)  # fmt: skip
_DONE = re.compile(r"^(?:okay |all right |alright )?(?:all )?(?:done|booked|all set|that is done|it is done)\b")
_REFUSED = _any(
    "unfortunately",
    "unable to",
    "not possible",
    "not able to",
    "(?:i|we) can not (?:refund|waive|do|offer|change|cancel|give)",
    "not eligible",
)
_DAY = _any(
    "today",
    "tonight",
    "tomorrow",
    "(?:mon|tues|wednes|thurs|fri|satur|sun)day",
    "next week",
    "(?:this|next) (?:morning|afternoon|evening)",
)
_CLOCK = _any("morning", "afternoon", "evening", "noon", "o clock", "at \\w+", "between \\w+ and \\w+", "am", "pm")
_ACCEPTS = _any("works", "that is (?:fine|great|good|generous|perfect|okay|wonderful)", "sounds good", "great", "perfect", "thank(?:s| you)",
                "appreciate", "all right then", "wonderful", "excellent")  # fmt: skip
_SELF = _any("i", "my", "me")
_OBJECTS = _any("but", "not", "no", "too late", "still")


@dataclass(frozen=True, slots=True)
class _Sentence:
    """``at`` is the utterance's place in the call, 0 for the first to 1 for the last."""

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
    """The summary of one call. ``utterances`` in any order; those without a word are passed over."""
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


def _plain(text: str) -> str:
    text = text.lower().replace("’", "'")
    text = re.sub(r"\bwon't\b", "will not", re.sub(r"\bcan(?:'t|not)\b", "can not", text))
    text = text.replace("n't", " not").replace("'ll", " will").replace("'m", " am").replace("'re", " are")
    text = (
        re.sub(r"\b(it|that|there|here|what|he|she)'s\b", r"\1 is", text)
        .replace("'ve", " have")
        .replace("'d", " would")
    )
    return " ".join(re.findall(r"\w+", text))


def _sentences(lines: Sequence[TranscriptLine]) -> list[_Sentence]:
    last = max(1, len(lines) - 1)
    return [
        _Sentence(number, line.role, number / last, text, _plain(text))
        for number, line in enumerate(lines)
        for text in re.split(r"(?<=[.!?])\s+", line.text.strip())
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
        trouble = sum(bool(cue.search(sentence.plain)) for cue in _TROUBLE)
        # The second and third sign of trouble count less than where it stands: callers say first why they call.
        points = min(1.5, 0.75 + 0.25 * trouble) if trouble else 0.0
        points += 0.5 * bool(_REASON.search(sentence.plain)) + 0.6 * bool(_WISH.search(sentence.plain))
        if sentence.words < 4 or (sentence.asks and not trouble) or _HOPE.search(sentence.plain):
            points *= 0.3
        if sentence.words < 8 and _ANSWER.search(sentence.plain):
            points *= 0.4
        if sentence.role != "customer" and _SERVICE.search(sentence.plain):
            points *= 0.2
        return points * (1 - 0.6 * sentence.at)

    told = [sentence for sentence in sentences if sentence.role != "agent"]
    best = max(told, key=score, default=None)  # the earlier of equals
    if best is None or score(best) < 0.2:
        plainly = (
            s for s in told if s.words >= 6 and s.role == "customer" and not s.asks and not _THANKS.search(s.plain)
        )
        best = next(plainly, None)
    return None if best is None else _finding(lines, [best])


def _commits(sentence: _Sentence) -> float:
    """How much is promised: 2 what settles something, 1 what helps, else 0."""
    if sentence.asks:
        return 0.0
    verbs = {match[1] for match in _PROMISE.finditer(sentence.plain)}
    if verbs & _SETTLES or _GETS.search(sentence.plain):
        return 2.0
    return 1.0 if verbs & _HELPS else 0.0


def _actions(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence]) -> tuple[Finding, ...]:
    found: dict[str, _Sentence] = {}
    for sentence in sentences:
        asked = not sentence.asks and _ASKED.search(sentence.plain)
        if sentence.role != "customer" and (asked or _commits(sentence)):
            found.setdefault(sentence.plain, sentence)
    strongest = sorted(found.values(), key=lambda one: (-_commits(one), one.line))[:MAX_ACTIONS]
    return tuple(_finding(lines, [one]) for one in sorted(strongest, key=lambda one: one.line))


def _outcome(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence]) -> Finding | None:
    best: tuple[float, Sequence[_Sentence], Sequence[int]] = (0.0, (), ())
    for number in range(len(lines)):
        mine = [one for one in sentences if one.line == number]
        settling = [one for one in mine if _settles(one)]
        if not settling:
            continue
        points = max(_settles(one) for one in settling) + (0.5 if len(settling) > 1 else 0.0)
        accepted = _accepted_by(lines, sentences, number)
        points *= (0.4 + 0.6 * mine[0].at) * (1.25 if accepted else 1.0)
        if points >= best[0]:  # the later of equals
            best = (points, settling, accepted)
    return _finding(lines, best[1], best[2]) if best[1] else None


def _settles(sentence: _Sentence) -> float:
    if sentence.asks or _HOPE.search(sentence.plain):
        return 0.0
    if sentence.role == "customer":
        # A customer settles nothing but can tell that it is settled.
        return 1.5 if _SETTLED.search(sentence.plain) and not _OBJECTS.search(sentence.plain) else 0.0
    points = _commits(sentence)
    if _SETTLED.search(sentence.plain) or _DONE.search(sentence.plain) or _REFUSED.search(sentence.plain):
        points = 2.0
    if _DAY.search(sentence.plain) and _CLOCK.search(sentence.plain) and not _SELF.search(sentence.plain):
        points = 2.0  # an appointment; with an I or my in it, more often somebody's plans
    return points


def _accepted_by(lines: Sequence[TranscriptLine], sentences: Sequence[_Sentence], number: int) -> list[int]:
    """The next line, if somebody else agrees in it."""
    after = number + 1
    if after >= len(lines) or (lines[after].role == lines[number].role != "unknown"):
        return []
    answer = [one for one in sentences if one.line == after]
    first = answer[0]
    if _ACCEPTS.search(" ".join(one.plain for one in answer)) and not first.asks and not _OBJECTS.search(first.plain):
        return [after]
    return []
