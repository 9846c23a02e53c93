"""`earful send`: calls and reviews into Kafka, as a producer would send them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from pydantic import ValidationError
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn

from commands.context import UNAVAILABLE, WRONG, AsJson, connect, errors, fail, print_json, require_kafka, settings
from commands.speakers import Roles, read_roles
from settings import Settings, load
from stream.events import Review, Topics
from stream.files import AudioFile, UnreadableAudio
from stream.producers import CallProducer, DeliveryError, ReviewProducer, SentCall
from stream.review_files import ReviewFileError, check_reviews, in_one_line, read_reviews
from workers import kafka

__all__ = ["send"]

#: As `report`, `explain` and `sql` print them, too.
TIMES = [
    "%Y-%m-%d",
    *(f"%Y-%m-%d{between}%H:%M:%S{rest}" for between in "T " for rest in ("", "%z", ".%f", ".%f%z")),
]

send = typer.Typer(no_args_is_help=True, help="Send calls or reviews to Kafka.\n\nExample: earful send call call.mp3")


@send.command("call")
def send_call(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="mp3, m4a, opus, wav, flac, ...")],
    call_id: Annotated[str | None, typer.Option(help="Default: the file's name without its ending")] = None,
    roles: Roles = None,
    product: Annotated[str | None, typer.Option(help="Product the call is about")] = None,
    started_at: Annotated[
        datetime | None,
        typer.Option(formats=TIMES, metavar="TIME", help="Start of the call (local time, or with offset); default now"),
    ] = None,
    realtime: Annotated[bool, typer.Option(help="As fast as it was spoken, in chunks of 200 ms")] = False,
    as_json: AsJson = False,
) -> None:
    """Send recordings. A call id is used once: two files of one name are refused, or a call that Postgres has already.

    Example: earful send call call.mp3 --roles customer,agent --product kettle
    """
    ids = call_ids(files, call_id)
    named = read_roles(roles)
    started = started_at.astimezone() if started_at else None
    using = settings()
    require_kafka(using, Topics(using.topic_prefix).calls_audio)
    refuse_used(using, ids, started)
    done: list[SentCall] = []
    try:
        with (
            CallProducer(using.kafka_bootstrap_servers, prefix=using.topic_prefix, **kafka.security(using)) as producer,
            Progress(console=errors, transient=True) as progress,
        ):
            for one, file in zip(ids, files, strict=True):
                task = progress.add_task(escape(file.name), total=length_of(file))
                sent = producer.send_recording(
                    file,
                    call_id=one,
                    roles=named or None,
                    started_at=started,
                    product=product,
                    realtime=realtime,
                    on_progress=lambda ms, task=task: progress.update(task, completed=ms),  # type: ignore[misc]
                )
                producer.flush()  # so that what is printed is there
                done.append(sent)
                if not as_json:
                    typer.echo(sentence(sent))
    except (UnreadableAudio, OSError) as err:
        fail(with_notes(str(err), err))
    except ValueError as err:  # roles that do not fit the channels, a call id that is none
        fail(with_notes(reason(err), err), WRONG)
    except DeliveryError as err:
        fail(with_notes(str(err), err), UNAVAILABLE)
    finally:
        if as_json:
            print_json([asdict(sent) for sent in done])


def call_ids(files: list[Path], call_id: str | None) -> list[str]:
    if call_id and len(files) > 1:
        fail("--call-id names one call; leave it out for several files", WRONG)
    ids = [call_id or file.stem for file in files]
    for one, times in Counter(ids).items():
        if times > 1:
            fail(f"{times} files would be the call {one}; send each by itself, with a --call-id of its own", WRONG)
    return ids


def sentence(sent: SentCall) -> str:
    return (
        f"{sent.call_id}: {sent.duration_ms / 1000:.1f} s, {sent.channels} channels at {sent.rate} Hz, "
        f"{sent.chunks} chunks, started at {sent.call_started_at.isoformat()}"
    )


def length_of(file: Path) -> int | None:
    """Milliseconds, where they are known before all is read; a pipe can be read but once."""
    if not file.is_file():
        return None
    with AudioFile(file) as opened:
        return opened.duration_ms


def refuse_used(using: Settings, ids: list[str], started: datetime | None) -> None:
    """Every record of another recording under a call's id would be a dead letter.

    Unknown where Postgres does not answer (a producer may know its Kafka alone), or where one of the two servers is the
    local stack's and the other is not.
    """
    of_local_stack = using.model_fields_set - load().model_fields_set
    if len({"kafka_bootstrap_servers", "postgres_url"} & of_local_stack) == 1:
        return
    try:
        with connect(using.postgres_url.get_secret_value()) as connection:
            there = connection.execute(
                "SELECT call_id, call_started_at FROM ingest.calls WHERE call_id = ANY(%s)", (ids,)
            ).fetchall()
    except psycopg.Error:
        return
    for call in there:
        if call["call_started_at"] != started:
            fail(
                f"call {call['call_id']} is there already; send this one with another --call-id, or, to send"
                f" the rest of the same recording, with --started-at {call['call_started_at'].isoformat()}"
            )


@send.command("reviews")
def send_reviews(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".jsonl or .csv")], as_json: AsJson = False
) -> None:
    """Send reviews, edits and deletions; nothing is sent when a line is wrong.

    Example: earful send reviews reviews.csv
    """
    events = count(file)
    using = settings()
    require_kafka(using, Topics(using.topic_prefix).reviews_submitted)
    sent = deleted = 0
    try:
        with (
            ReviewProducer(
                using.kafka_bootstrap_servers, prefix=using.topic_prefix, **kafka.security(using)
            ) as producer,
            Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                TextColumn("{task.completed} of {task.total} sent"),
                console=errors,
                transient=True,
            ) as progress,
        ):
            task = progress.add_task(escape(file.name), total=events)
            for event in read_reviews(file):
                if isinstance(event, Review):
                    producer.send(event)
                    sent += 1
                else:
                    producer.delete(event.review_id, version=event.version)
                    deleted += 1
                progress.advance(task)
    except DeliveryError as err:
        fail(with_notes(str(err), err), UNAVAILABLE)
    if as_json:
        print_json({"reviews": sent, "deletions": deleted})
    else:
        typer.echo(f"sent {sent} reviews and {deleted} deletions")


def count(file: Path) -> int:
    """How many reviews, edits and deletions it holds; ends the command where a line is wrong, or there is none."""
    if not file.stat().st_size:
        fail(f"{file.name} is empty; nothing was sent")
    try:
        found = check_reviews(file)
    except ReviewFileError as err:
        fail(str(err), WRONG)
    except OSError as err:
        fail(str(err))
    for problem in found.problems:
        errors.print(str(problem), highlight=False, markup=False, soft_wrap=True)
    if found.problems:
        more = "" if found.whole else " or more"
        fail(f"{file.name}: {len(found.problems)}{more} wrong; nothing was sent")
    if not found.events:
        fail(f"{file.name} holds no review; nothing was sent")
    return found.events


def with_notes(said: str, err: Exception) -> str:
    """Also what the sender noted: records that did not reach Kafka besides."""
    return "; ".join([said, *getattr(err, "__notes__", ())])


def reason(err: ValueError) -> str:
    """One line; pydantic's own text is several and repeats the value."""
    if isinstance(err, ValidationError):
        return in_one_line(err, "call")
    return str(err)
