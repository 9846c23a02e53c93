"""`earful send`: calls and reviews into Kafka, as a producer would send them."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.progress import BarColumn, Progress, TextColumn

from commands.context import UNAVAILABLE, WRONG, console, errors, fail, require_kafka, settings
from commands.speakers import Roles, read_roles
from stream.events import Review, Topics
from stream.files import UnreadableAudio
from stream.producers import CallProducer, DeliveryError, ReviewProducer
from stream.review_files import ReviewFileError, check_reviews, read_reviews
from workers import kafka

__all__ = ["send"]

send = typer.Typer(no_args_is_help=True, help="Send calls or reviews to Kafka.")


@send.command("call")
def send_call(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="mp3, m4a, opus, wav, flac, ...")],
    call_id: Annotated[str | None, typer.Option(help="Default: the file's name without its ending")] = None,
    roles: Roles = None,
    product: Annotated[str | None, typer.Option(help="Product the call is about")] = None,
    started_at: Annotated[datetime | None, typer.Option(help="Start of the call (local time); default now")] = None,
    realtime: Annotated[bool, typer.Option(help="As fast as it was spoken, in chunks of 200 ms")] = False,
) -> None:
    """Send recordings.

    Example: earful send call call.mp3 --roles customer,agent --product kettle
    """
    if call_id and len(files) > 1:
        fail("--call-id names one call; leave it out for several files", WRONG)
    named = read_roles(roles)
    using = settings()
    require_kafka(using, Topics(using.topic_prefix).calls_audio)
    try:
        with (
            CallProducer(using.kafka_bootstrap_servers, prefix=using.topic_prefix, **kafka.security(using)) as producer,
            Progress(console=errors, transient=True) as progress,
        ):
            for file in files:
                task = progress.add_task(file.name, total=None)
                sent = producer.send_recording(
                    file,
                    call_id=call_id or file.stem,
                    roles=named or None,
                    started_at=started_at.astimezone() if started_at else None,
                    product=product,
                    realtime=realtime,
                    on_progress=lambda ms, task=task: progress.update(task, completed=ms),  # type: ignore[misc]
                )
                producer.flush()  # so that what is printed is there
                console.print(
                    f"{sent.call_id}: {sent.duration_ms / 1000:.1f} s, {sent.channels} channels at {sent.rate} Hz, "
                    f"{sent.chunks} chunks, started at {sent.call_started_at.isoformat()}"
                )
    except (UnreadableAudio, OSError) as err:
        fail(with_notes(str(err), err))
    except ValueError as err:  # roles that do not fit the channels, a call id that is none
        fail(with_notes(reason(err), err), WRONG)
    except DeliveryError as err:
        fail(with_notes(str(err), err), UNAVAILABLE)


@send.command("reviews")
def send_reviews(file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".jsonl or .csv")]) -> None:
    """Send reviews, edits and deletions; nothing is sent when a line is wrong.

    Example: earful send reviews reviews.csv
    """
    try:
        problems = check_reviews(file)
    except ReviewFileError as err:
        fail(str(err), WRONG)
    except OSError as err:
        fail(str(err))
    for problem in problems:
        errors.print(str(problem), highlight=False, markup=False, soft_wrap=True)
    if problems:
        fail(f"{file.name}: {len(problems)} wrong; nothing was sent")
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
                TextColumn("{task.completed} sent"),  # how many there are would take reading the file once more
                console=errors,
                transient=True,
            ) as progress,
        ):
            task = progress.add_task(file.name, total=None)
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
    console.print(f"sent {sent} reviews and {deleted} deletions")


def with_notes(said: str, err: Exception) -> str:
    """Also what the sender noted: records that did not reach Kafka besides."""
    return "; ".join([said, *getattr(err, "__notes__", ())])


def reason(err: ValueError) -> str:
    """One line; pydantic's own text is several and repeats the value."""
    if isinstance(err, ValidationError):
        parts = err.errors(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, part['loc'])) or 'call'}: {part['msg']}" for part in parts)
    return str(err)
