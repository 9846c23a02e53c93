"""`earful transcribe` and `earful eval`: recognition without servers, and how well the models do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.aspect_scores import read_truth, score_aspects
from commands.context import UNAVAILABLE, WRONG, database, fail, print_json, settings
from commands.evaluate import Transcriber, evaluate_engine, evaluate_pipeline, read_truths
from errors import Permanent
from stream.files import UnreadableAudio, read_file
from stream.producers import DeliveryError

__all__ = ["evaluate", "transcribe"]

evaluate = typer.Typer(no_args_is_help=True, help="Measure the models against a ground truth.")
AsJson = Annotated[bool, typer.Option("--json", help="For programs")]


def transcribe(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    engine: Annotated[str, typer.Option(help="whisper")] = "whisper",
    roles: Annotated[str | None, typer.Option(help="Who speaks on each channel, e.g. customer,agent")] = None,
    as_json: AsJson = False,
) -> None:
    """The pipeline's decoding, cutting and recognition in one process, without servers.

    Example: earful transcribe call.mp3 --roles customer,agent --json
    """
    if engine != "whisper":
        fail(f"no engine {engine!r} here: whisper", WRONG)
    named = [one.strip() for one in roles.split(",")] if roles else []
    transcriber = Transcriber()
    results = []
    for file in files:
        try:
            pcm, rate = read_file(file)
            lines = transcriber.lines(pcm, rate)
        except (UnreadableAudio, ValueError, Permanent) as err:
            fail(f"{file}: {err}")
        said = [
            line | {"role": named[line["channel"]] if line["channel"] < len(named) else "unknown"} for line in lines
        ]
        results.append({"file": str(file), "lines": said})
        if not as_json:
            for line in said:
                typer.echo(f"{line['start_ms'] / 1000:8.2f}  {line['role']:<9} {line['text']}")
    if as_json:
        print_json(results)


@evaluate.command("asr")
def asr(
    folder: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="NAME.flac beside NAME.json, as in samples/calls")
    ],
    engine: Annotated[str | None, typer.Option(help="In this process; default: the running pipeline")] = None,
    as_json: AsJson = False,
) -> None:
    """Word error rate and timing error against a ground truth.

    Example: earful eval asr samples/calls
    """
    if engine not in (None, "whisper"):
        fail(f"no engine {engine!r} here: whisper", WRONG)
    try:
        truths = read_truths(folder)
    except ValueError as err:
        fail(str(err), WRONG)
    try:
        found = evaluate_engine(folder, truths) if engine else evaluate_pipeline(folder, truths)
    except UnreadableAudio as err:
        fail(str(err))
    except DeliveryError as err:
        fail(str(err), UNAVAILABLE)
    show(found, as_json)


@evaluate.command("aspects")
def aspects(
    truth: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As samples/reviews.truth.jsonl")],
    as_json: AsJson = False,
) -> None:
    """How well the current run found and judged the aspects of reviews that were sent before.

    Example: earful eval aspects samples/reviews.truth.jsonl
    """
    known = read_truth(truth)
    with database(settings().postgres_url.get_secret_value()) as connection:
        there = connection.execute(
            "SELECT review_id FROM analytics_v1.reviews WHERE review_id = ANY(%s)", (list(known),)
        ).fetchall()
        rows = connection.execute(
            "SELECT review_id, span_start, span_end, polarity FROM analytics_v1.aspect_mentions"
            " WHERE source = 'review' AND review_id = ANY(%s)",
            (list(known),),
        ).fetchall()
    if not there:
        fail(f"none of the {len(known)} reviews of {truth.name} is in Postgres; `earful send reviews` sends them")
    present = {row["review_id"] for row in there}
    show(score_aspects({one: spans for one, spans in known.items() if one in present}, rows), as_json)


def show(found: dict[str, float | int], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        typer.echo(f"{name:<28} {value}")
