"""The tables of Earful, as SQLAlchemy Core metadata.

Schema `ingest` holds what the workers need to be right (ledger, verdicts, calls, outbox, runs) and the facts without
text; schema `pii` holds what somebody said or wrote (text, payloads, audio). Analysts see neither, only the views of
`analytics_v1` (migrations/sql). This module holds the bookkeeping; the facts are in store.fact_tables.

Every column has a comment with its unit and range: `_table` refuses one without.
"""

from __future__ import annotations

from typing import Any, Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql as pg

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

metadata = sa.MetaData(
    naming_convention={
        "pk": "%(table_name)s_pkey",
        "uq": "%(table_name)s_%(column_0_N_name)s_key",
        "ck": "%(table_name)s_%(constraint_name)s_check",
        "ix": "%(table_name)s_%(column_0_N_name)s_idx",
        "fk": "%(table_name)s_%(column_0_N_name)s_fkey",
    }
)

AWARE = sa.DateTime(timezone=True)
COMMITTED = sa.text("clock_timestamp()")


def _table(
    name: str, *parts: sa.schema.SchemaItem, comment: str, schema: str = "ingest", postgresql_partition_by: str | None = None
) -> sa.Table:
    table: sa.Table = sa.Table(
        name, metadata, *parts, schema=schema, comment=comment, postgresql_partition_by=postgresql_partition_by
    )
    for column in table.columns:
        if not column.comment:
            raise TypeError(f"{schema}.{name}.{column.name} has no comment")
    return table


def _c(
    name: str,
    kind: type[sa.types.TypeEngine[Any]] | sa.types.TypeEngine[Any],
    comment: str,
    *parts: sa.schema.SchemaItem,
    primary_key: bool = False,
    nullable: bool = False,
    autoincrement: bool | Literal["auto"] = "auto",
    server_default: sa.ColumnElement[Any] | sa.TextClause | str | None = None,
) -> sa.Column[Any]:
    return sa.Column(
        name, kind, *parts, comment=comment, primary_key=primary_key, nullable=nullable,
        autoincrement=autoincrement, server_default=server_default,
    )


ledger = _table(
    "ledger",
    _c("ledger_id", sa.BigInteger, "Number of this row, from 1", sa.Identity(always=True), primary_key=True),
    _c("stage", sa.Text, "segmenter, transcriber, summarizer or reviewer"),
    _c("run_id", sa.Uuid, "Run the stage works for; the segmenter has its own fixed one"),
    _c("topic", sa.Text, "Kafka topic, with prefix"),
    _c("topic_id", sa.Uuid, "Kafka's id of the topic; a recreated topic has another"),
    _c("partition", sa.Integer, "Kafka partition, from 0"),
    _c("next_offset", sa.BigInteger, "First offset not done yet, from 0"),
    _c("epoch", sa.BigInteger, "Rises with each assignment, from 1; a lower one may not write"),
    _c("created_at", AWARE, "Instant of the first assignment", server_default=sa.func.now()),
    _c("updated_at", AWARE, "Instant of the last change", server_default=sa.func.now()),
    sa.UniqueConstraint("stage", "run_id", "topic_id", "partition"),
    sa.CheckConstraint("next_offset >= 0 AND epoch >= 1", name="range"),
    comment="How far each partition is done, per stage and run. The truth; never pruned.",
)

lost_ranges = _table(
    "lost_ranges",
    _c("ledger_id", sa.BigInteger, "Row of ingest.ledger", primary_key=True, autoincrement=False),
    _c("first_offset", sa.BigInteger, "First offset Kafka dropped before it was read", primary_key=True,
       autoincrement=False),
    _c("last_offset", sa.BigInteger, "Last offset Kafka dropped before it was read, inclusive"),
    _c("found_at", AWARE, "Instant of the assignment that found it", server_default=sa.func.now()),
    comment="Offsets that Kafka's retention removed before they were read. Each row is an alert.",
)

verdicts = _table(
    "verdicts",
    _c("ledger_id", sa.BigInteger, "Row of ingest.ledger", primary_key=True, autoincrement=False),
    _c("first_offset", sa.BigInteger, "First offset of the range", primary_key=True, autoincrement=False),
    _c("last_offset", sa.BigInteger, "Last offset of the range, inclusive"),
    _c("kind", sa.Text,
       "result, consumed, control, duplicate, late, superseded, other_run or dead_letter"),
    _c("reason", sa.Text, "snake_case code; null where the kind says it all", nullable=True),
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

attempts = _table(
    "attempts",
    _c("ledger_id", sa.BigInteger, "Row of ingest.ledger", primary_key=True, autoincrement=False),
    _c("offset", sa.BigInteger, "Kafka offset of the record that was tried", primary_key=True, autoincrement=False),
    _c("attempts", sa.Integer, "Times a worker began this record by itself, from 1"),
    _c("last_at", AWARE, "Instant of the last attempt", server_default=sa.func.now()),
    comment="Records tried one at a time, counted before they are decoded. Cleared on a clean revoke.",
)

topics = _table(
    "topics",
    _c("generation", sa.BigInteger, "Order in which topics were first seen, from 1", sa.Identity(always=True),
       primary_key=True),
    _c("topic_id", sa.Uuid, "Kafka's id of the topic"),
    _c("topic", sa.Text, "Kafka topic, with prefix; null until a ledger names it", nullable=True),
    sa.UniqueConstraint("topic_id"),
    comment="Generations of topics: offsets of a later generation are newer than those of an earlier one.",
)

dead_letters = _table(
    "dead_letters",
    _c("dead_letter_id", sa.Uuid, "uuid5 of stage, run, topic id, partition and offset", primary_key=True),
    _c("stage", sa.Text, "Stage that gave the record up"),
    _c("run_id", sa.Uuid, "Run in which it was given up"),
    _c("topic", sa.Text, "Source topic, with prefix"),
    _c("topic_id", sa.Uuid, "Kafka's id of the source topic"),
    _c("partition", sa.Integer, "Source partition, from 0"),
    _c("offset", sa.BigInteger, "Source offset, from 0"),
    _c("reason", sa.String(40), "snake_case code of the reason"),
    _c("detail", sa.Text, "One sentence; never text of the payload"),
    _c("subject_id", sa.Text,
       "What the record was about, if known: call, review, or for the transcriber the utterance", nullable=True),
    _c("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
    _c("failed_at", AWARE, "Instant of the verdict", server_default=COMMITTED),
    _c("replayed_at", AWARE, "Instant of its replay; null: not replayed", nullable=True),
    _c("replayed_partition", sa.Integer, "Partition of the replayed record, in the same topic", nullable=True),
    _c("replayed_offset", sa.BigInteger, "Offset of the replayed record", nullable=True),
    sa.Index(None, "failed_at"),
    sa.Index(None, "subject_id", "run_id"),
    comment="Records that can never succeed, with the reason. The payload is in pii.dead_letter_payloads.",
)

dead_letter_payloads = _table(
    "dead_letter_payloads",
    _c("dead_letter_id", sa.Uuid, "Row of ingest.dead_letters", primary_key=True),
    _c("key", sa.LargeBinary, "Key of the record, bytes", nullable=True),
    _c("value", sa.LargeBinary, "Value of the record, bytes", nullable=True),
    _c("headers", pg.JSONB, "Headers in their order: [[name, base64 of the value], ...]"),
    schema="pii",
    comment="Dead letters exactly as they were consumed.",
)

outbox = _table(
    "outbox",
    _c("id", sa.BigInteger, "Order of publication; becomes the header outbox_id, which rises per key",
       sa.Identity(always=True), primary_key=True),
    _c("topic", sa.Text, "Kafka topic, with prefix"),
    _c("key", sa.LargeBinary, "Key, bytes"),
    _c("headers", pg.JSONB, "Headers in their order: [[name, base64 of the value], ...]"),
    _c("value", sa.LargeBinary, "Value, bytes; null is a tombstone", nullable=True),
    comment="Messages to be published; each row goes when the broker has acknowledged it.",
)

calls = _table(
    "calls",
    _c("call_id", sa.Text, "The producer's id of the call", primary_key=True),
    _c("call_started_at", AWARE, "Start of the call as the producer says; its month is the partition of its facts"),
    _c("channels", sa.Integer, "Channels of the recording, 1 or 2"),
    _c("roles", sa.ARRAY(sa.Text), "Role of each channel: customer, agent or unknown"),
    _c("product", sa.Text, "Product the call is about, as the producer says", nullable=True),
    _c("topic_id", sa.Uuid, "Kafka's id of the audio topic"),
    _c("partition", sa.Integer, "Partition of the call's audio, from 0"),
    _c("state", sa.Text, "started, streaming, ended, transcribed, analysed, or a terminal state"),
    _c("close_reason", sa.Text, "ended or timed_out; null while open", nullable=True),
    _c("received", pg.INT8MULTIRANGE, "Sequence numbers of the chunks received"),
    _c("last_seq", sa.BigInteger, "Highest sequence number, from 0; null before the first chunk", nullable=True),
    _c("duration_ms", sa.BigInteger, "Length of the audio so far, ms", server_default="0"),
    _c("gap_ms", sa.BigInteger, "Audio that never came, ms", server_default="0"),
    _c("late_chunks", sa.Integer, "Chunks that came when the call was over", server_default="0"),
    _c("paused", sa.Boolean, "The producer paused the call", server_default=sa.false()),
    _c("metadata", pg.JSONB, "What call.started carried beside the known fields", server_default=sa.text("'{}'")),
    _c("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
    _c("created_at", AWARE, "Instant of the first commit", server_default=sa.func.now()),
    _c("last_commit_at", AWARE, "Instant of the last commit, by Postgres' clock", server_default=sa.func.now()),
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

call_runs = _table(
    "call_runs",
    _c("call_id", sa.Text, "The producer's id of the call", primary_key=True),
    _c("run_id", sa.Uuid, "Run", primary_key=True),
    _c("call_started_at", AWARE, "Start of the call"),
    _c("state", sa.Text, "transcribed, analysed, no_speech, unsupported_language, dead_lettered or erased"),
    _c("utterances", sa.Integer, "Utterances that call.closed named"),
    _c("reason", sa.Text, "snake_case code where the state needs one", nullable=True),
    _c("trace_id", sa.Text, "W3C trace id, 32 hex digits", nullable=True),
    _c("transcribed_at", AWARE, "Instant at which the last utterance was done", server_default=COMMITTED),
    _c("finished_at", AWARE, "Instant of the summary or of a terminal state; null before", nullable=True),
    sa.CheckConstraint(
        "state IN ('transcribed', 'analysed', 'no_speech', 'unsupported_language', 'dead_lettered', 'erased')",
        name="state",
    ),
    comment="State of a closed call in one run.",
)

review_heads = _table(
    "review_heads",
    _c("review_id", sa.Text, "The producer's id of the review", primary_key=True),
    _c("version", sa.BigInteger, "Highest version seen; null if the producer gives none", nullable=True),
    _c("generation", sa.BigInteger, "Generation of the topic (ingest.topics) of the newest record"),
    _c("topic_id", sa.Uuid, "Kafka's id of the topic of the newest record"),
    _c("offset", sa.BigInteger, "Original offset of the newest record"),
    _c("revision_id", sa.Uuid, "uuid5 of review, topic id and offset: the revision that the views show"),
    _c("deleted", sa.Boolean, "True: a tombstone; nothing older comes back"),
    _c("changed_at", AWARE, "Instant of the last change", server_default=sa.func.now()),
    comment="The newest revision of each review; never pruned.",
)

runs = _table(
    "runs",
    _c("run_id", sa.Uuid, "uuid5 of the canonical JSON of the spec", primary_key=True),
    _c("spec", pg.JSONB, "Models, versions, rules, prompts and decode options"),
    _c("created_at", AWARE, "Instant at which the run was first opened", server_default=sa.func.now()),
    comment="What results were made with.",
)

current_run = _table(
    "current_run",
    _c("singleton", sa.Boolean, "Always true: there is one row", primary_key=True, server_default=sa.true()),
    _c("run_id", sa.Uuid, "The run that the views show"),
    _c("changed_at", AWARE, "Instant of the last switch", server_default=sa.func.now()),
    sa.CheckConstraint("singleton", name="singleton"),
    sa.ForeignKeyConstraint(["run_id"], ["ingest.runs.run_id"]),
    comment="The pointer that decides what analysts see: one row.",
)

segmenter_state = _table(
    "segmenter_state",
    _c("topic_id", sa.Uuid, "Kafka's id of the audio topic", primary_key=True),
    _c("partition", sa.Integer, "Partition, from 0", primary_key=True, autoincrement=False),
    _c("call_id", sa.Text, "An open call", primary_key=True),
    _c("state", sa.LargeBinary, "Detector, resampler and order of the call's channels, bytes"),
    comment="What the segmenter knows of open calls, without audio.",
)

segmenter_audio = _table(
    "segmenter_audio",
    _c("topic_id", sa.Uuid, "Kafka's id of the audio topic", primary_key=True),
    _c("partition", sa.Integer, "Partition, from 0", primary_key=True, autoincrement=False),
    _c("call_id", sa.Text, "An open call", primary_key=True),
    _c("channel", sa.Integer, "Channel, from 0", primary_key=True, autoincrement=False),
    _c("start_sample", sa.BigInteger, "First sample, counted from the start of the channel", primary_key=True,
       autoincrement=False),
    _c("end_sample", sa.BigInteger, "Sample after the last one"),
    _c("pcm", sa.LargeBinary, "int16 samples, little-endian, at the channel's rate"),
    schema="pii",
    comment="Audio of utterances that are not cut yet; rows are appended, and removed when the cut is made.",
)
