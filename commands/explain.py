"""`earful explain`: what became of one call or review, and what it waits for."""

from __future__ import annotations

from typing import Any

import typer
from rich.markup import escape

from commands.context import AsJson, console, database, fail, print_json, settings
from commands.lag import lag
from errors import EarfulError
from report.render import clean
from settings import Settings

__all__ = ["explain"]

explain = typer.Typer(
    no_args_is_help=True,
    help="State, runs, dead letters, offsets, and what a call or review waits for."
    "\n\nExample: earful explain call card-fee",
)


#: What the state of a call says about what comes next.
WAITS_FOR = {
    "started": "its first chunk of audio",
    "streaming": "more audio, call.ended, or the reaper (EARFUL_CALL_SILENCE_TIMEOUT_SECONDS)",
    "paused": "call.resumed, call.ended, or the reaper (EARFUL_PAUSED_CALL_TIMEOUT_SECONDS)",
    "ended": "the transcriber to reach call.closed",
    "timed_out": "the transcriber to reach call.closed",
    "transcribed": "the summarizer",
}

#: The state is what analysts see, as of the current run; the audio's is how far the segmenter is with it.
CALL = """
SELECT c.call_id, v.state, c.state AS audio_state, c.call_started_at, c.close_reason, c.channels, c.roles, c.product,
       c.topic_id, c.partition, c.received::text AS received_seq, c.last_seq, c.duration_ms, c.gap_ms, c.late_chunks,
       c.paused, c.trace_id, c.last_commit_at
  FROM ingest.calls c JOIN analytics_v1.calls v USING (call_id) WHERE c.call_id = %(id)s"""

VERDICTS = """
SELECT l.stage, l.run_id, l.partition, v.kind, v.reason, min(v.first_offset) AS first_offset,
       max(v.last_offset) AS last_offset, count(*) AS ranges, sum(v.last_offset - v.first_offset + 1)::bigint AS records
  FROM ingest.verdicts v JOIN ingest.ledger l USING (ledger_id)
 WHERE l.topic_id = %(topic_id)s AND l.partition = %(partition)s AND l.stage = %(stage)s
 GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 4"""


#: How far the stages are in a partition. A call has the same one in each topic where its producer chose it by murmur2 of the
#: call's id, as Java's and ours do; the later stages' is another where not.
DONE = """
SELECT DISTINCT ON (stage) stage, run_id, topic, partition, next_offset, updated_at FROM ingest.ledger
 WHERE stage = ANY(%(stages)s) AND partition = %(partition)s
   AND (stage = 'segmenter' OR run_id = (SELECT run_id FROM ingest.current_run))
 ORDER BY stage, updated_at DESC"""

#: The transcriber's are about an utterance; whose it is says the record's key.
LETTERS_OF_CALL = """
SELECT dead_letter_id, stage, topic, partition, "offset", reason, detail, failed_at, replayed_at
  FROM ingest.dead_letters
 WHERE (stage IN ('segmenter', 'transcriber', 'summarizer') AND subject_id = %(id)s)
    OR (stage = 'transcriber' AND dead_letter_id IN
        (SELECT dead_letter_id FROM pii.dead_letter_payloads WHERE key = convert_to(%(id)s, 'UTF8')))
 ORDER BY failed_at"""
#: Submitted: of another run, or of none; the current one has not come to it yet.
HEAD = """
SELECT h.review_id, CASE WHEN h.deleted THEN 'deleted' ELSE coalesce(
         (SELECT r.state FROM ingest.reviews r WHERE r.review_id = h.review_id AND r.revision_id = h.revision_id
             AND r.run_id = (SELECT run_id FROM ingest.current_run) LIMIT 1),
         (SELECT 'dead_lettered' FROM ingest.dead_letters d WHERE d.stage = 'reviewer' AND d.subject_id = h.review_id
             AND d.topic_id = h.topic_id AND d."offset" = h."offset"
             AND d.run_id = (SELECT run_id FROM ingest.current_run) LIMIT 1),
         'submitted') END AS state,
       h.version, h.topic_id, h."offset", h.revision_id, h.deleted, h.changed_at
  FROM ingest.review_heads h WHERE h.review_id = %(id)s"""
LETTERS_OF_REVIEW = """
SELECT dead_letter_id, stage, topic, partition, "offset", reason, detail, failed_at, replayed_at
  FROM ingest.dead_letters WHERE stage = 'reviewer' AND subject_id = %(id)s ORDER BY failed_at"""


@explain.command("call")
def call(call_id: str, as_json: AsJson = False) -> None:
    """Why a call is where it is.

    Example: earful explain call card-fee
    """
    using = settings()
    with database(using.postgres_url.get_secret_value()) as connection:
        rows = connection.execute(CALL, {"id": call_id}).fetchall()
        letters = connection.execute(LETTERS_OF_CALL, {"id": call_id}).fetchall()
        if not rows and not letters:
            fail(f"no call {call_id!r} has reached Postgres; {what_is_left(using, 'segmenter')}")
        found: dict[str, Any] = dict(rows[0]) if rows else {"call_id": call_id, "state": "dead_lettered"}
        found["runs"] = connection.execute(
            "SELECT r.run_id, r.run_id = c.run_id AS current, r.state, r.utterances, r.transcribed_at, r.finished_at,"
            " (SELECT count(*) FROM ingest.utterances u WHERE u.call_id = r.call_id AND u.run_id = r.run_id) AS rows"
            " FROM ingest.call_runs r LEFT JOIN ingest.current_run c ON true WHERE r.call_id = %s",
            (call_id,),
        ).fetchall()
        found["dead_letters"] = letters
        if rows:
            audio = {"topic_id": rows[0]["topic_id"], "partition": rows[0]["partition"], "stage": "segmenter"}
            found["verdicts_of_all_calls_in_its_audio_partition"] = connection.execute(VERDICTS, audio).fetchall()
            key = {"stages": ["segmenter", "transcriber", "summarizer"], "partition": rows[0]["partition"]}
            found["stages_of_its_partition"] = connection.execute(DONE, key).fetchall()
        current = next((run for run in found["runs"] if run["current"]), None)
        state = current["state"] if current else found.get("audio_state", found["state"])
        held = state == "streaming" and found["paused"]
        found["waits_for"] = WAITS_FOR.get("paused" if held else state) or of_a_replay(state, letters)
    show(found, as_json)


@explain.command("review")
def review(review_id: str, as_json: AsJson = False) -> None:
    """Why a review is where it is.

    Example: earful explain review r-001
    """
    using = settings()
    with database(using.postgres_url.get_secret_value()) as connection:
        heads = connection.execute(HEAD, {"id": review_id}).fetchall()
        letters = connection.execute(LETTERS_OF_REVIEW, {"id": review_id}).fetchall()
        if not heads and not letters:
            fail(f"no review {review_id!r} has reached Postgres; {what_is_left(using, 'reviewer')}")
        found: dict[str, Any] = dict(heads[0]) if heads else {"review_id": review_id, "state": "dead_lettered"}
        found["runs"] = connection.execute(
            "SELECT r.run_id, r.run_id = c.run_id AS current, r.state, r.version, r.aspects, r.source_partition,"
            " r.source_offset, v.kind AS verdict, r.committed_at"
            " FROM ingest.reviews r LEFT JOIN ingest.current_run c ON true"
            " LEFT JOIN ingest.ledger l ON l.stage = 'reviewer' AND l.run_id = r.run_id AND l.topic_id = r.source_topic_id"
            "  AND l.partition = r.source_partition"
            " LEFT JOIN ingest.verdicts v ON v.ledger_id = l.ledger_id"
            "  AND r.source_offset BETWEEN v.first_offset AND v.last_offset"
            " WHERE r.review_id = %s ORDER BY r.committed_at",
            (review_id,),
        ).fetchall()
        found["dead_letters"] = letters
        for run in found["runs"][-1:]:
            key = {"stages": ["reviewer"], "partition": run["source_partition"]}
            found["stages_of_its_partition"] = connection.execute(DONE, key).fetchall()
        submitted = found["state"] == "submitted"
        found["waits_for"] = "the reviewer, in the current run" if submitted else of_a_replay(found["state"], letters)
    show(found, as_json)


def what_is_left(using: Settings, stage: str) -> str:
    """Why a stage may not have come to a record yet."""
    try:
        left = lag(using)[stage]
    except EarfulError as err:
        return f"how far the {stage} is behind is not known: {err}"
    if left:
        return f"the {stage} has {left} records yet to read: where that number does not fall, its log says why"
    return f"the {stage} has read all that Kafka has: look at the id, EARFUL_TOPIC_PREFIX and the producer"


def of_a_replay(state: str, letters: list[dict[str, Any]]) -> str:
    """What one waits for that nothing but a replay can help."""
    replayed = state == "dead_lettered" and letters and letters[-1]["replayed_at"] is not None
    return "its replay, which no stage has reached yet" if replayed else "nothing"


def show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        if isinstance(value, list) and all(isinstance(row, dict) for row in value):
            console.print(f"[bold]{name}[/bold]" if value else f"[bold]{name}[/bold] none")
            for row in value:
                console.print(
                    "   " + escape(clean("  ".join(f"{key}={one}" for key, one in row.items()))),
                    soft_wrap=True,
                    highlight=False,
                )
        else:
            console.print(f"[bold]{name}[/bold] {escape(clean(str(value)))}", highlight=False, soft_wrap=True)
