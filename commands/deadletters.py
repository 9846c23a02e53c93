"""`earful deadletters`: list, show, replay."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated
from uuid import UUID

import typer
from kafka import KafkaProducer
from kafka.errors import BrokerResponseError, KafkaError, KafkaTimeoutError
from rich.markup import escape
from sqlalchemy.ext.asyncio import AsyncConnection

from commands.context import (
    FAILED,
    UNAVAILABLE,
    WRONG,
    AsJson,
    Failed,
    console,
    errors,
    fail,
    in_transaction,
    print_json,
    print_table,
    require_kafka,
    require_topics,
    settings,
)
from report.render import clean
from settings import Settings
from store import calls
from store import dead_letters as letters
from store.dead_letters import DeadLetter, StoredDeadLetter
from stream.headerdocs import HEADERS
from stream.topics import Topics
from workers import kafka
from workers.replay import replay_headers
from workers.stages import STAGES

__all__ = ["deadletters"]

deadletters = typer.Typer(
    no_args_is_help=True,
    help="Records that can never succeed: list, show, or send them once more.\n\nExample: earful deadletters list",
)
#: The letter's row is locked meanwhile.
TIMEOUT_SECONDS = 30.0


@deadletters.command("list")
def list_letters(
    stage: Annotated[str | None, typer.Option(help="Only of this stage")] = None,
    reason: Annotated[str | None, typer.Option(help="Only with this reason")] = None,
    limit: Annotated[int, typer.Option(min=1, help="At most so many")] = 50,
    as_json: AsJson = False,
) -> None:
    """The newest first.

    Example: earful deadletters list --reason header_mismatch
    """
    if stage not in (None, *STAGES):
        fail(f"no stage {stage!r}: one of {', '.join(STAGES)}", WRONG)
    found = in_transaction(settings(), lambda c: letters.list(c, stage=stage, reason=reason, limit=limit + 1))
    shown = found[:limit]
    if as_json:
        print_json([plain(one) for one in shown])
    elif not shown:
        console.print("no dead letters" + (" of this stage and reason" if stage or reason else ""))
    else:
        print_table(("id", "topic", "part", "offset", "reason", "subject", "replayed"), map(cells, shown), whole="id")
    if len(found) > limit:
        errors.print(f"the newest {limit} only; --limit shows more")


def cells(one: StoredDeadLetter) -> tuple[str, ...]:
    letter = one.letter
    place = (letter.topic, str(letter.partition), str(letter.offset))
    replayed = one.replayed_at.isoformat(timespec="seconds") if one.replayed_at else ""
    return (str(one.dead_letter_id), *place, letter.reason, letter.subject_id or "", replayed)


@deadletters.command("show")
def show_letter(dead_letter_id: UUID, as_json: AsJson = False) -> None:
    """Everything but the payload, of which only the size is shown. Of headers that are none of ours only the name.

    Example: earful deadletters show 2f0c1c5e-4a53-5a3f-8c1e-1f6a2b8f9d10
    """
    one = known(dead_letter_id, in_transaction(settings(), lambda c: letters.get(c, dead_letter_id)))
    found = plain(one) | {
        "value_bytes": len(one.letter.value or b""),
        "headers": {name: told(name, value) for name, value in one.letter.headers},
    }
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        console.print(f"[bold]{name}[/bold] {escape(clean(str(value)))}", highlight=False, soft_wrap=True)


@deadletters.command("replay")
def replay_letters(
    dead_letter_ids: Annotated[list[UUID], typer.Argument(help="As `list` shows them", show_default=False)],
) -> None:
    """Produce records to their topics again, each once and in the order they had there; after their cause was mended.

    One that cannot be replayed holds up no other, and makes the exit code 1. Where Kafka or Postgres does not answer, it
    ends at once.

    Example: earful deadletters replay 2f0c1c5e-4a53-5a3f-8c1e-1f6a2b8f9d10
    """
    using = settings()
    # `list` has the newest first: call.ended would close its call before the audio comes.
    stored = {one.dead_letter_id: one for one in in_transaction(using, lambda c: letters.in_order(c, dead_letter_ids))}
    wanted = [*stored, *(one for one in dict.fromkeys(dead_letter_ids) if one not in stored)]
    ready = [stored[one] for one in wanted if goes(check_replayable, one, stored.get(one))]
    if ready:
        require_kafka(using)
    there = {topic for topic in sorted({one.letter.topic for one in ready}) if goes(require_topics, using, topic)}
    done = [one for one in ready if one.letter.topic in there and goes(replay, using, one.dead_letter_id)]
    if len(done) < len(wanted):
        raise Failed(FAILED)


def goes(work: Callable[..., None], *arguments: object) -> bool:
    """False where that letter or topic is refused, which was said; what holds up the others, too, ends the command."""
    try:
        work(*arguments)
    except Failed as err:
        if err.exit_code != FAILED:
            raise
        return False
    return True


def check_replayable(dead_letter_id: UUID, found: StoredDeadLetter | None) -> None:
    one = known(dead_letter_id, found)
    if one.replayed_at is not None:
        fail(f"{dead_letter_id} was replayed at {one.replayed_at.isoformat()}; a dead letter is replayed once")
    if not one.payload:
        fail(f"the payload of {dead_letter_id} was erased: there is nothing to replay")


def replay(using: Settings, dead_letter_id: UUID) -> None:
    """Only now the payload is read: of many letters one is in memory."""
    letter = known(dead_letter_id, in_transaction(using, lambda c: letters.get(c, dead_letter_id))).letter
    refuse_in_vain(using, letter)

    async def again(connection: AsyncConnection) -> tuple[int, int] | None:
        # The row stays locked until the mark is committed, so two people at once send it once.
        locked = await letters.get(connection, dead_letter_id, lock=True)
        if locked is None or locked.replayed_at is not None:
            return None
        partition, offset = produce(using, locked)
        await letters.mark_replayed(connection, dead_letter_id, partition, offset)
        return partition, offset

    place = in_transaction(using, again)
    if place is None:
        fail(f"somebody else has just replayed {dead_letter_id}")
    typer.echo(f"{dead_letter_id}: produced to {letter.topic}/{place[0]} at offset {place[1]}")


def refuse_in_vain(using: Settings, letter: DeadLetter) -> None:
    """End the command where there is nothing to send, or it would come too late whatever was mended."""
    if letter.key is None and letter.value is None:
        fail(
            f"{letter.topic}/{letter.partition} has at offset {letter.offset} no key and no value that anybody could read"
        )
    topics = Topics(using.topic_prefix)
    if letter.topic == topics.calls_utterances and letter.key:
        call_id, run_id = letter.key.decode(errors="replace"), letter.run_id
        if in_transaction(using, lambda c: calls.closed(c, run_id, call_id)):
            fail(
                f"call {call_id} is closed in run {run_id}: its utterances count no more; replay the topic under a new run"
            )
    if letter.topic != topics.calls_audio or not letter.subject_id:
        return
    call_id = letter.subject_id
    call = in_transaction(using, lambda c: calls.get_many(c, [call_id])).get(call_id)
    if call is not None and call.close_reason is not None:
        fail(
            f"call {call_id} is closed ({call.close_reason}): its audio would only be late; send the recording as a new call"
        )
    seq = seq_of(letter)
    if call is not None and any(first <= seq <= last for first, last in call.received):
        fail(
            f"call {call_id} has given up chunk {seq}: its place in the call is gone and counts as a gap; send the recording"
            " as a new call"
        )


def seq_of(letter: DeadLetter) -> int:
    """-1 where the record names none."""
    try:
        return int(dict(letter.headers)["seq"])
    except (KeyError, ValueError):
        return -1


def produce(using: Settings, one: StoredDeadLetter) -> tuple[int, int]:
    letter = one.letter
    headers = list(replay_headers(tuple(letter.headers), one.dead_letter_id, letter.topic_id, letter.offset))
    timeout_ms = int(TIMEOUT_SECONDS * 1000)
    options = {"delivery_timeout_ms": timeout_ms, "request_timeout_ms": timeout_ms // 2, "max_block_ms": timeout_ms}
    try:
        producer = KafkaProducer(**kafka.aio_options(using), **options, acks="all", enable_idempotence=True)
    except KafkaError as err:
        fail(f"Kafka does not answer ({type(err).__name__}); nothing was sent", UNAVAILABLE)
    try:
        future = producer.send(letter.topic, key=letter.key, value=letter.value, headers=headers)
        sent = future.get(timeout=TIMEOUT_SECONDS + 1)
    except KafkaError as err:
        if isinstance(err, BrokerResponseError) and not err.retriable:
            fail(f"Kafka refuses it ({type(err).__name__}); nothing was marked")
        fail(
            f"Kafka did not acknowledge it in {TIMEOUT_SECONDS:g} s; it is not marked as replayed and may have arrived all "
            "the same: replay it again, what comes twice counts once",
            UNAVAILABLE,
        )
    finally:
        try:
            producer.close(timeout=1)
        except KafkaTimeoutError:  # its thread would go on sending
            producer._sender.force_close()
    return sent.partition, sent.offset


def known(dead_letter_id: UUID, found: StoredDeadLetter | None) -> StoredDeadLetter:
    if found is None:
        fail(f"no dead letter {dead_letter_id}: `earful deadletters list` shows them")
    return found


def told(name: str, value: bytes) -> str | None:
    return value.decode(errors="replace") if name in HEADERS else None


def plain(one: StoredDeadLetter) -> dict[str, object]:
    letter = one.letter
    return {
        "dead_letter_id": one.dead_letter_id,
        "stage": letter.stage,
        "run_id": letter.run_id,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "reason": letter.reason,
        "detail": letter.detail,
        "subject_id": letter.subject_id,
        "trace_id": letter.trace_id,
        "failed_at": one.failed_at,
        "replayed_at": one.replayed_at,
        "replayed_partition": one.replayed_partition,
        "replayed_offset": one.replayed_offset,
    }
