"""`earful eval`: how well the models do, against a ground truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from commands.aspect_scores import read_truth, score_aspects
from commands.asr_scores import evaluate_engine, evaluate_manifest, evaluate_pipeline, read_truths
from commands.context import UNAVAILABLE, WRONG, AsJson, database, fail, print_json, settings
from commands.engines import Lora, Options, Weights, open_engine
from commands.manifest import MANIFEST, read_manifest
from errors import EarfulError
from stream.producers import DeliveryError

__all__ = ["evaluate"]

evaluate = typer.Typer(
    no_args_is_help=True,
    help="Measure the models against a ground truth.\n\nExample: earful eval asr samples/calls",
)


@evaluate.command("asr")
def asr(
    folder: Annotated[
        Path,
        typer.Argument(
            exists=True, file_okay=False, help="NAME.flac beside NAME.json, as in samples/calls, or manifest.jsonl"
        ),
    ],
    engine: Annotated[
        str | None, typer.Option(help="whisper or phi4, in this process; default: the running pipeline")
    ] = None,
    weights: Weights = None,
    lora: Lora = "auto",
    as_json: AsJson = False,
) -> None:
    """Word error rate and timing error against a ground truth; with --engine also the speed.

    Through the pipeline the calls stay in Postgres, of the product `evaluation`.
    A folder with manifest.jsonl ({"path": ..., "text": ...} a line) is measured as the Open ASR leaderboard does.

    Example: earful eval asr samples/calls
    """
    manifest = (folder / MANIFEST).is_file()
    if manifest and engine is None:
        fail(f"a folder with {MANIFEST} is measured in this process: name an --engine", WRONG)
    try:
        clips, truths = (read_manifest(folder), {}) if manifest else ([], read_truths(folder))
    except ValueError as err:
        fail(str(err), WRONG)
    try:
        if engine is None:
            show(evaluate_pipeline(folder, truths), as_json)
            return
        with open_engine(engine, Options(weights=weights, lora=lora)) as opened:
            show(evaluate_manifest(clips, opened) if manifest else evaluate_engine(folder, truths, opened), as_json)
    except DeliveryError as err:
        fail(str(err), UNAVAILABLE)
    except (ValueError, EarfulError) as err:  # a rate that is not supported, what the engine refuses
        fail(str(err))


@evaluate.command("aspects")
def aspects(
    truth: Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="As samples/reviews.truth.jsonl")],
    as_json: AsJson = False,
) -> None:
    """How well the current run found and judged the aspects of reviews that were sent before.

    Example: earful eval aspects samples/reviews.truth.jsonl
    """
    try:
        known = read_truth(truth)
    except ValueError as err:
        fail(str(err), WRONG)
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
