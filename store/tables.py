"""The tables of Earful, as SQLAlchemy Core metadata.

Schema `ingest` holds what the workers need to be right (ledger, verdicts, calls, outbox, runs) and the facts without
text; schema `pii` holds what somebody said or wrote (text, payloads, audio). Analysts see neither, only the views of
`analytics_v1` (migrations/sql). This module holds the bookkeeping; the facts are in store.fact_tables.
"""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

from store.columns import AWARE, COMMITTED, column, define, metadata

__all__ = [
    "attempts",
    "call_runs",
    "calls",
    "current_run",
    "dead_letter_payloads",
    "dead_letters",
    "ledger",
    "lost_ranges",
    "metadata",
    "outbox",
    "review_heads",
    "runs",
    "segmenter_audio",
    "segmenter_state",
    "topics",
    "verdicts",
]

ledger = define(
    "ledger",
    column("ledger_id", sa.BigInteger, "Number of this row, from 1", sa.Identity(always=True), primary_key=True),
    column("stage", sa.Text, "segmenter, transcriber, summarizer or reviewer"),
    column("run_id", sa.Uuid, "Run the stage works for; the segmenter has its own fixed one"),
    column("topic", sa.Text, "Kafka topic, with prefix"),
    column("topic_id", sa.Uuid, "Kafka's id of the topic; a recreated topic has another"),
    column("partition", sa.Integer, "Kafka partition, from 0"),
    column("next_offset", sa.BigInteger, "First offset not done yet, from 0"),
    column("epoch", sa.BigInteger, "Rises with each assignment, from 1; a lower one may not write"),
    column("created_at", AWARE, "Instant of the first assignment", server_default=sa.func.now()),
    column("updated_at", AWARE, "Instant of the last change", server_default=sa.func.now()),
    sa.UniqueConstraint("stage", "run_id", "topic_id", "partition"),
    sa.CheckConstraint("next_offset >= 0 AND epoch >= 1", name="range"),
    comment="How far each partition is done, per stage and run. The truth; never pruned.",
)

lost_ranges = define(
    "lost_ranges",
    column("ledger_id", sa.BigInteger, "Row of ingest.ledger", primary_key=True, autoincrement=False),
    column(
        "first_offset",
        sa.BigInteger,
        "First offset Kafka dropped before it was read",
        primary_key=True,
        autoincrement=False,
    ),
    column("last_offset", sa.BigInteger, "Last offset Kafka dropped before it was read, inclusive"),
    column("found_at", AWARE, "Instant of the assignment that found it", server_default=sa.func.now()),
    comment="Offsets that Kafka's retention removed before they were read. Each row is an alert.",
)

verdicts = define(
    "verdicts",
    column("ledger_id", sa.BigInteger, "Row of ingest.ledger", primary_key=True, autoincrement=False),
    column("first_offset", sa.BigInteger, "First offset of the range", primary_key=True, autoincrement=False),
    column("last_offset", sa.BigInteger, "Last offset of the range, inclusive"),
    column("kind", sa.Text, "result, consumed, control, duplicate, late, superseded, other_run or dead_letter"),
    column("reason", sa.Text, "snake_case code; null where the kind says it all", nullable=True),
    sa.CheckConstraint("first_offset >= 0 AND first_offset <= last_offset", name="range"),
    sa.CheckConstraint(
        "kind IN ('result', 'consumed', 'control', 'duplicate', 'late', 'superseded', 'other_run', 'dead_letter')",
        name="kind",
    ),
    pg.ExcludeConstraint(
        ("ledger_id", "="),
        (sa.text("int8range(first_offset, last_offset, '[]')"), "&&"),
        name="verdicts_one_per_offset",
        using="gist",
    ),
    comment="What became of each offset: exactly one verdict per stage and run, kept as ranges that never overlap.",
)

attempts = define(
    "attempts",
    column("ledger_id", sa.BigInteger, "Row of ingest.ledger", primary_key=True, autoincrement=False),
    column("offset", sa.BigInteger, "Kafka offset of the record that was tried", primary_key=True, autoincrement=False),
    column(
        "attempts",
        sa.Integer,
        "Times a worker began with this record after it took the partition over, or tried it alone, from 1",
    ),
    column("last_at", AWARE, "Instant of the last attempt", server_default=sa.func.now()),
    comment="Records that a worker began with, counted before they are decoded. Cleared on a clean revoke.",
)

topics = define(
    "topics",
    column(
        "generation",
        sa.BigInteger,
        "Order in which topics were first seen, from 1",
        sa.Identity(always=True),
        primary_key=True,
    ),
    column("topic_id", sa.Uuid, "Kafka's id of the topic"),
    column("topic", sa.Text, "Kafka topic, with prefix; null until a ledger names it", nullable=True),
    sa.UniqueConstraint("topic_id"),
    comment="Generations of topics: offsets of a later generation are newer than those of an earlier one.",
)

dead_letters = define(
    "dead_letters",
    column("dead_letter_id", sa.Uuid, "uuid5 of stage, run, topic id, partition and offset", primary_key=True),
    column("stage", sa.Text, "Stage that gave the record up"),
    column("run_id", sa.Uuid, "Run in which it was given up"),
    column("topic", sa.Text, "Source topic, with prefix"),
    column("topic_id", sa.Uuid, "Kafka's id of the source topic"),
    column("partition", sa.Integer, "Source partition, from 0"),
    column("offset", sa.BigInteger, "Source offset, from 0"),
    column("reason", sa.String(40), "snake_case code of the reason"),
    column("detail", sa.Text, "One sentence; never text of the payload"),
    column(
        "subject_id",
        sa.Text,
        "What the record was about, if known: call, review, or for the transcriber the utterance",
        nullable=True,
    ),
    column("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
    column("failed_at", AWARE, "Instant of the verdict", server_default=COMMITTED),
    column("replayed_at", AWARE, "Instant of its replay; null: not replayed", nullable=True),
    column("replayed_partition", sa.Integer, "Partition of the replayed record, in the same topic", nullable=True),
    column("replayed_offset", sa.BigInteger, "Offset of the replayed record", nullable=True),
    sa.Index(None, "failed_at"),
    sa.Index(None, "subject_id", "run_id"),
    comment="Records that can never succeed, with the reason. The payload is in pii.dead_letter_payloads.",
)

dead_letter_payloads = define(
    "dead_letter_payloads",
    column("dead_letter_id", sa.Uuid, "Row of ingest.dead_letters", primary_key=True),
    column("key", sa.LargeBinary, "Key of the record, bytes", nullable=True),
    column("value", sa.LargeBinary, "Value of the record, bytes", nullable=True),
    column("headers", pg.JSONB, "Headers in their order: [[name, base64 of the value], ...]"),
    schema="pii",
    comment="Dead letters exactly as they were consumed.",
)

outbox = define(
    "outbox",
    column(
        "id",
        sa.BigInteger,
        "Order of publication; becomes the header outbox_id, which rises per key",
        sa.Identity(always=True),
        primary_key=True,
    ),
    column("topic", sa.Text, "Kafka topic, with prefix"),
    column("key", sa.LargeBinary, "Key, bytes"),
    column("headers", pg.JSONB, "Headers in their order: [[name, base64 of the value], ...]"),
    column("value", sa.LargeBinary, "Value, bytes; null is a tombstone", nullable=True),
    comment="Messages to be published; each row goes when the broker has acknowledged it.",
)

calls = define(
    "calls",
    column("call_id", sa.Text, "The producer's id of the call", primary_key=True),
    column("call_started_at", AWARE, "Start of the call as the producer says; its month is the partition of its facts"),
    column("channels", sa.Integer, "Channels of the recording, 1 or 2"),
    column("roles", sa.ARRAY(sa.Text), "Role of each channel: customer, agent or unknown"),
    column("product", sa.Text, "Product the call is about, as the producer says", nullable=True),
    column("topic_id", sa.Uuid, "Kafka's id of the audio topic"),
    column("partition", sa.Integer, "Partition of the call's audio, from 0"),
    column(
        "state",
        sa.Text,
        "started, streaming, ended, timed_out or audio_corrupt: how far its audio is. What a run made of it is in"
        " ingest.call_runs",
    ),
    column("close_reason", sa.Text, "ended or timed_out; null while open", nullable=True),
    column("received", pg.INT8MULTIRANGE, "Sequence numbers of the chunks received"),
    column("last_seq", sa.BigInteger, "Highest sequence number, from 0; null before the first chunk", nullable=True),
    column("duration_ms", sa.BigInteger, "Length of the audio so far, ms", server_default="0"),
    column("gap_ms", sa.BigInteger, "Audio that never came, ms", server_default="0"),
    column(
        "late_chunks",
        sa.Integer,
        "Chunks that came when the call was over or they had been given up as missing",
        server_default="0",
    ),
    column("late_ms", sa.BigInteger, "Audio of the late chunks, ms, as their producer says", server_default="0"),
    column("paused", sa.Boolean, "The producer paused the call", server_default=sa.false()),
    column("metadata", pg.JSONB, "What call.started carried beside the known fields", server_default=sa.text("'{}'")),
    column("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
    column("created_at", AWARE, "Instant of the first commit", server_default=sa.func.now()),
    column("last_commit_at", AWARE, "Instant of the last commit, by Postgres' clock", server_default=sa.func.now()),
    sa.CheckConstraint(
        "state IN ('started', 'streaming', 'ended', 'transcribed', 'analysed', 'no_speech', 'unsupported_language',"
        " 'audio_corrupt', 'timed_out', 'dead_lettered', 'erased')",
        name="state",
    ),
    sa.CheckConstraint("channels BETWEEN 1 AND 2 AND cardinality(roles) = channels", name="channels"),
    sa.Index("calls_call_started_at_idx", "call_started_at"),
    sa.Index("calls_open_idx", "last_commit_at", postgresql_where=sa.text("state IN ('started', 'streaming')")),
    comment="One row per call, whatever became of it.",
)

call_runs = define(
    "call_runs",
    column("call_id", sa.Text, "The producer's id of the call", primary_key=True),
    column("run_id", sa.Uuid, "Run", primary_key=True),
    column("call_started_at", AWARE, "Start of the call"),
    column("state", sa.Text, "transcribed, analysed, no_speech, unsupported_language or dead_lettered"),
    column("utterances", sa.Integer, "Utterances that call.closed named"),
    column("reason", sa.Text, "snake_case code where the state needs one", nullable=True),
    column("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
    column("transcribed_at", AWARE, "Instant at which the last utterance was done", server_default=COMMITTED),
    column("finished_at", AWARE, "Instant of the summary or of a terminal state; null before", nullable=True),
    sa.CheckConstraint(
        "state IN ('transcribed', 'analysed', 'no_speech', 'unsupported_language', 'dead_lettered', 'erased')",
        name="state",
    ),
    comment="State of a closed call in one run.",
)

review_heads = define(
    "review_heads",
    column("review_id", sa.Text, "The producer's id of the review", primary_key=True),
    column("version", sa.BigInteger, "Highest version seen; null if the producer gives none", nullable=True),
    column("generation", sa.BigInteger, "Generation of the topic (ingest.topics) of the newest record"),
    column("topic_id", sa.Uuid, "Kafka's id of the topic of the newest record"),
    column("offset", sa.BigInteger, "Original offset of the newest record"),
    column("revision_id", sa.Uuid, "uuid5 of review, topic id and offset: the revision that the views show"),
    column("deleted", sa.Boolean, "True: a tombstone; nothing older comes back"),
    column("changed_at", AWARE, "Instant of the last change", server_default=sa.func.now()),
    comment="The newest revision of each review; never pruned.",
)

runs = define(
    "runs",
    column("run_id", sa.Uuid, "uuid5 of the canonical JSON of the spec", primary_key=True),
    column("spec", pg.JSONB, "Models, versions, rules, prompts and decode options"),
    column("created_at", AWARE, "Instant at which the run was first opened", server_default=sa.func.now()),
    comment="What results were made with.",
)

current_run = define(
    "current_run",
    column("singleton", sa.Boolean, "Always true: there is one row", primary_key=True, server_default=sa.true()),
    column("run_id", sa.Uuid, "The run that the views show"),
    column("changed_at", AWARE, "Instant of the last switch", server_default=sa.func.now()),
    sa.CheckConstraint("singleton", name="singleton"),
    sa.ForeignKeyConstraint(["run_id"], ["ingest.runs.run_id"]),
    comment="The pointer that decides what analysts see: one row.",
)

segmenter_state = define(
    "segmenter_state",
    column("topic_id", sa.Uuid, "Kafka's id of the audio topic", primary_key=True),
    column("partition", sa.Integer, "Partition, from 0", primary_key=True, autoincrement=False),
    column("call_id", sa.Text, "An open call", primary_key=True),
    column("state", sa.LargeBinary, "Detector, resampler and order of the call's channels, bytes"),
    comment="What the segmenter knows of open calls, without audio.",
)

segmenter_audio = define(
    "segmenter_audio",
    column("topic_id", sa.Uuid, "Kafka's id of the audio topic", primary_key=True),
    column("partition", sa.Integer, "Partition, from 0", primary_key=True, autoincrement=False),
    column("call_id", sa.Text, "An open call", primary_key=True),
    column("channel", sa.Integer, "Channel, from 0", primary_key=True, autoincrement=False),
    column(
        "start_sample",
        sa.BigInteger,
        "First sample, counted from the start of the channel",
        primary_key=True,
        autoincrement=False,
    ),
    column("end_sample", sa.BigInteger, "Sample after the last one"),
    column("pcm", sa.LargeBinary, "int16 samples, little-endian, at the channel's rate"),
    schema="pii",
    comment="Audio of utterances that are not cut yet; rows are appended, and removed when the cut is made.",
)
