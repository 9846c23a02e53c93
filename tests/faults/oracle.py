"""The oracle: a producer's manifest against what Postgres holds and what was published. One for all tests."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from stream.events import Record
from tests.faults.load import Manifest, digest
from tests.workers.pipeline import STAGES, Pipeline

__all__ = ["Findings", "content", "content_hash", "difference", "examine", "falling"]


@dataclass(slots=True)
class Findings:
    """What is wrong; all empty when nothing is."""

    missing: list[str] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)
    duplicate: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)

    @property
    def clean(self) -> bool:
        return not (self.missing or self.extra or self.duplicate or self.wrong)

    def __str__(self) -> str:
        parts = [(name, getattr(self, name)) for name in ("missing", "extra", "duplicate", "wrong")]
        return "; ".join(f"{name} {len(found)} {found[:5]}" for name, found in parts)

    def compare(self, what: str, expected: Counter[str], found: Counter[str], *, at_least_once: bool = False) -> None:
        self.missing += [f"{what} {one}" for one in expected - found]
        self.extra += [f"{what} {one}" for one in found if one not in expected]
        if not at_least_once:
            self.duplicate += [f"{what} {one}" for one, times in found.items() if times > max(1, expected[one])]


def examine(p: Pipeline, manifest: Manifest, *, kafka: bool = True, ids_rise: bool = True) -> Findings:
    """Everything that the manifest promises, asked of a pipeline that has settled.

    Not `kafka` where Kafka itself has lost records: then only Postgres is asked. Not `ids_rise` where Postgres has lost
    its sequences: the ids of the outbox begin again then.
    """
    out = Findings()
    _verdicts(p, manifest, out)
    _reviews(p, manifest, out)
    _calls(p, manifest, out)
    _dead_letters(p, manifest, out)
    if kafka:
        _utterances(p, out)
        _published(p, manifest, out, ids_rise)
    return out


def _verdicts(p: Pipeline, manifest: Manifest, out: Findings) -> None:
    """Each offset of each topic that a stage reads has exactly one verdict, and it is the expected one.

    A topic that was deleted and made again has one log after the other; they differ in Kafka's id of the topic.
    """
    wanted = {(one.topic, one.log, one.partition, one.offset): one for one in manifest.entries}
    for stage, topic in zip(STAGES, p.topics.consumed, strict=True):
        logs = p.rows(
            "SELECT topic_id FROM ingest.ledger WHERE stage = %s AND topic = %s GROUP BY 1 ORDER BY min(ledger_id)",
            stage, topic,
        )  # fmt: skip
        number_of = {topic_id: number for number, (topic_id,) in enumerate(logs)}
        rows = p.rows(
            "SELECT l.topic_id, l.partition, v.first_offset, v.last_offset, v.kind, v.reason FROM ingest.verdicts v"
            " JOIN ingest.ledger l USING (ledger_id) WHERE l.stage = %s AND l.topic = %s",
            stage, topic,
        )  # fmt: skip
        found: Counter[str] = Counter()
        for topic_id, partition, first, last, kind, reason in rows:
            for offset in range(first, last + 1):
                log = number_of[topic_id]
                found[_place(topic, log, partition, offset)] += 1
                entry = wanted.get((topic, log, partition, offset))
                if entry and (kind not in entry.kinds or reason != entry.reason):
                    out.wrong.append(f"{entry.subject} {_place(topic, log, partition, offset)} is {kind} {reason}")
        current = manifest.logs[topic]
        expected = Counter(
            _place(topic, one.log, one.partition, one.offset)
            for one in manifest.entries
            if one.topic == topic and one.log < current
        )
        expected.update(
            _place(topic, current, partition, offset)
            for partition, end in p.ends(topic).items()
            for offset in range(end)
        )
        out.compare("verdict", expected, found)


def _place(topic: str, log: int, partition: int, offset: int) -> str:
    return f"{topic}{f' (made again, {log})' if log else ''}/{partition}/{offset}"


def _reviews(p: Pipeline, manifest: Manifest, out: Findings) -> None:
    expected = Counter(one.subject for one in manifest.entries if one.subject.startswith("review-"))
    out.compare("review", expected, Counter(name for (name,) in p.rows("SELECT review_id FROM ingest.reviews")))
    out.compare("text of", expected, Counter(name for (name,) in p.rows("SELECT review_id FROM pii.review_texts")))
    mentions = p.rows("SELECT coalesce(review_id, utterance_id::text) || '/' || span_start, count(*) FROM ingest.aspect_mentions"
                      " GROUP BY 1 HAVING count(*) > 1")  # fmt: skip
    out.duplicate += [f"mention {name} {count} times" for name, count in mentions]
    counted = p.rows("SELECT review_id FROM ingest.reviews r WHERE aspects <> (SELECT count(*) FROM ingest.aspect_mentions m"
                     " WHERE m.review_id = r.review_id AND m.revision_id = r.revision_id AND m.run_id = r.run_id)")  # fmt: skip
    out.wrong += [f"review {name} does not have the mentions it says" for (name,) in counted]


def _calls(p: Pipeline, manifest: Manifest, out: Findings) -> None:
    """Each call is complete once, and none is left open."""
    expected = Counter({one.subject for one in manifest.entries if one.subject.startswith("call-")})
    rows = p.rows("SELECT call_id, state, utterances FROM ingest.call_runs")
    out.compare("call", expected, Counter(call_id for call_id, _, _ in rows))
    out.wrong += [f"{call_id} is {state}" for call_id, state, _ in rows if state not in ("analysed", "no_speech")]
    left = Counter(name for (name,) in p.rows("SELECT call_id FROM ingest.segmenter_state"))
    out.compare("open call", Counter(), left)


def _utterances(p: Pipeline, out: Findings) -> None:
    """Each call is closed in one way; every utterance that its segmenter named has a row, and no other has."""
    named: dict[str, set[str]] = {}
    for record in p.records(p.topics.calls_utterances):
        if dict(record.headers)["ce_type"].startswith(b"calls.call.closed"):
            ids = set(json.loads(record.value or b"{}")["utterance_ids"])
            first = named.setdefault((record.key or b"").decode(), ids)
            if first != ids:
                out.wrong.append(f"{record.key!r} was closed twice, differently")
    stored = Counter(f"{call}/{one}" for call, one in p.rows("SELECT call_id, utterance_id FROM ingest.utterances"))
    out.compare("utterance", Counter(f"{call}/{one}" for call, ids in named.items() for one in ids), stored)


def _dead_letters(p: Pipeline, manifest: Manifest, out: Findings) -> None:
    expected = Counter(
        f"{one.topic}/{one.partition}/{one.offset}/{one.reason}/{one.sha256}" for one in manifest.entries if one.reason
    )
    found = Counter(
        f"{topic}/{partition}/{offset}/{reason}/{digest(value)}"
        for topic, partition, offset, reason, value in p.rows(
            'SELECT d.topic, d.partition, d."offset", d.reason, l.value FROM ingest.dead_letters d'
            " LEFT JOIN pii.dead_letter_payloads l USING (dead_letter_id)"
        )
    )
    out.compare("dead letter", expected, found)


def _published(p: Pipeline, manifest: Manifest, out: Findings, ids_rise: bool) -> None:
    """At least once, by ce_id or the dead letter's id; all with the outbox's id."""
    state = dict(p.rows("SELECT call_id, state FROM ingest.call_runs"))
    spoken = {one for one, what in state.items() if what == "analysed"}
    reviewed = {one.subject for one in manifest.entries if one.subject.startswith("review-")}
    expected = Counter([f"call/{one}/{p.run_id}" for one in spoken] + [f"review/{one}/{p.run_id}" for one in reviewed])
    insights = p.records(p.topics.insights)
    told = [dict(record.headers)["ce_id"].decode() for record in insights]
    out.compare("insight", expected, Counter(told), at_least_once=True)
    transcribed = p.records(p.topics.calls_transcribed)
    ids = Counter(dict(record.headers)["ce_id"].decode() for record in transcribed)
    out.compare("transcribed call", Counter(f"{one}/transcribed/{p.run_id}" for one in state), ids, at_least_once=True)
    letters = {str(one) for (one,) in p.rows("SELECT dead_letter_id FROM ingest.dead_letters")}
    buried = [record for topic in p.topics.consumed for record in p.records(p.topics.dlt(topic))]
    sent = {dict(record.headers)["earful-dead-letter-id"].decode() for record in buried}
    out.missing += [f"published letter {one}" for one in letters - sent]
    out.extra += [f"published letter {one}" for one in sent - letters]
    relayed = [*transcribed, *insights, *buried]
    out.wrong += [f"{_at(one)} has no outbox_id" for one in relayed if "outbox_id" not in dict(one.headers)]
    if ids_rise:
        out.wrong += falling(relayed)


def _at(record: Record) -> str:
    return f"{record.topic}/{record.partition}/{record.offset}"


def falling(records: Sequence[Record]) -> list[str]:
    """What a consumer would lose that drops, key by key, whatever has no higher outbox_id than it saw before; and ids that
    two messages have. Repeats are fine. `records` are in the order of their offsets."""
    out: list[str] = []
    highest: dict[tuple[str, bytes], int] = {}
    known: dict[int, tuple[str, bytes | None, bytes | None]] = {}
    for one in records:
        told = dict(one.headers).get("outbox_id")
        if told is None:
            continue
        number, key, message = int(told), (one.topic, one.key or b""), (one.topic, one.key, one.value)
        if number in known:
            if known[number] != message:
                out.append(f"{_at(one)} has outbox_id {number} of another message")
            continue
        known[number] = message
        if one.key and number < highest.get(key, 0):  # what has no key has no order
            out.append(f"{_at(one)} has outbox_id {number} after {highest[key]} of the same key")
        highest[key] = max(number, highest.get(key, 0))
    return out


QUERIES = (
    "SELECT review_id, product, text, version, rating, aspects FROM analytics_v1.reviews",
    "SELECT source, review_id, call_id, utterance_id, span_start, span_end, aspect_text, aspect_id, polarity,"
    " round(sentiment::numeric, 6), round(confidence::numeric, 6), occurred_at FROM analytics_v1.aspect_mentions",
    "SELECT call_id, utterance_id, channel, role, start_ms, end_ms, text, finish_reason FROM analytics_v1.utterances",
    "SELECT call_id, issue, outcome, actions, summary, evidence FROM analytics_v1.summaries",
    "SELECT call_id, state, gap_ms, duration_ms, channels, product FROM ingest.calls",
    "SELECT stage, topic, reason, subject_id, count(*) FROM ingest.dead_letters GROUP BY 1, 2, 3, 4",
)


def content(p: Pipeline) -> list[str]:
    """All that analysts may see and that no clock, offset or process decides, sorted."""
    prefix = p.topics.prefix
    return [
        json.dumps([number, *(str(value).removeprefix(prefix) for value in row)])
        for number, query in enumerate(QUERIES)
        for row in sorted(p.rows(query), key=str)
    ]


def content_hash(lines: list[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def difference(found: list[str], expected: list[str]) -> list[str]:
    """Lines that only one of the two has; empty for the same content."""
    one, other = Counter(found), Counter(expected)
    return [f"+ {line}" for line in (one - other)] + [f"- {line}" for line in (other - one)]
