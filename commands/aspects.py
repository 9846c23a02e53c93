"""`earful aspects`: what a text, or every text of a file, speaks of and how it feels about it, without servers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from commands.context import FAILED, WRONG, AsJson, console, errors, fail, print_json
from report.render import clean

if TYPE_CHECKING:
    from sentiment.judge import JudgedText, Judges
    from sentiment.summary import AspectSummary, Judged

__all__ = ["aspects"]

COLOURS = {"positive": "green", "negative": "red", "neutral": "yellow", "unsure": "dim"}
SIGNS = {"positive": "+", "negative": "-", "neutral": "0", "unsure": "?"}


def aspects(
    what: Annotated[str, typer.Argument(help="A text, or a file: .txt (a text a line), .csv or .jsonl (field `text`)")],
    min_confidence: Annotated[
        float | None, typer.Option(min=0.0, max=1.0, help="Least confidence of an aspect; default: the model's own")
    ] = None,
    abstain_below: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A polarity less probable than this is `unsure` and not counted")
    ] = 0.0,
    known: Annotated[str | None, typer.Option(help="Words that are aspects wherever they stand, with commas")] = None,
    model: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder with cvib/ or aspects/ of `earful cvib train`"),
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A line for each aspect found")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="A page of its own, on standard output")] = False,
) -> None:
    """Aspects of a text, coloured by polarity; of a file, a report by aspect.

    Example: earful aspects "The screen is gorgeous but the battery is terrible." --json
    """
    if sum((as_json, as_csv, as_html)) > 1:
        fail("--json, --csv and --html: one of them", WRONG)
    file = _file(what)
    texts = dict(_texts(file)) if file else {1: what}
    if not any(text.strip() for text in texts.values()):
        fail(f"{file.name if file else 'the text'} is empty", WRONG)
    judges = _judges(model)
    words = [one.strip() for one in known.split(",")] if known else []
    judged = [
        judges.judge(text, line=line, min_confidence=min_confidence, min_probability=abstain_below, known=words)
        for line, text in texts.items()
    ]
    for one in judged:
        if one.refused and file:
            errors.print(f"{file.name}, line {one.line}: {one.refused}", highlight=False, markup=False, soft_wrap=True)
        elif one.refused:
            fail(one.refused)
    found = [aspect for one in judged for aspect in one.aspects]
    _print(as_json, as_csv, as_html, bool(file), judged, found, texts, judges.versions)
    if all(one.refused for one in judged):
        raise typer.Exit(FAILED)


def _print(
    as_json: bool, as_csv: bool, as_html: bool, file: bool,
    judged: list[JudgedText], found: list[Judged], texts: dict[int, str], versions: dict[str, str],
) -> None:  # fmt: skip
    from sentiment.summary import summarize

    report = summarize(texts, found) if file else []
    if as_json and not file:
        print_json(asdict(judged[0]) | {"line": None, "versions": versions})
    elif as_json:
        each = [asdict(one) for one in judged]
        print_json({"texts": each, "report": [asdict(one) for one in report], "versions": versions})
    elif as_csv:
        typer.echo(_csv(found), nl=False)
    elif as_html:
        from commands.aspects_page import page

        typer.echo(page(judged, report), nl=False)
    elif file:
        _show_report(report, judged)
    else:
        _show_text(judged[0])


def _file(what: str) -> Path | None:
    """The file that is meant; None for a text."""
    path = Path(what)
    try:
        if path.is_file():
            return path
        if path.is_dir():
            fail(f"{what} is a folder: a text or a file is wanted", WRONG)
    except OSError:  # longer than a file's name may be
        return None
    if path.suffix.lower() in (".txt", ".csv", ".jsonl") and not any(c.isspace() for c in what):
        fail(f"no file {what}", WRONG)
    return None


def _texts(file: Path) -> Iterator[tuple[int, str]]:
    """Texts by line number; a wrong line ends the command."""
    from sentiment.labelled import FileProblem, rows

    if file.suffix.lower() not in (".csv", ".jsonl"):
        try:
            lines = file.read_bytes().decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as err:
            line = file.read_bytes()[: err.start].count(b"\n") + 1
            fail(f"{file.name}, line {line}: it is not UTF-8", WRONG)
        # Only the line's end goes: `start` and `end` count characters of the file's line.
        yield from ((number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1) if line.strip())
        return
    for number, row in rows(file):
        if isinstance(row, FileProblem):
            fail(str(row), WRONG)
        text = row.get("text")
        if not isinstance(text, str):
            if row.get("deleted"):  # a file of reviews may delete some
                continue
            fail(f"{file.name}, line {number}: `text` is missing", WRONG)
        if text.strip():
            yield number, text


def _judges(model: Path | None) -> Judges:
    from sentiment.judge import Judges

    folders = {kind: model / kind for kind in ("aspects", "cvib") if model and (model / kind / "model.json").is_file()}
    if model and not folders:
        fail(f"{model} holds neither cvib/ nor aspects/ with a model.json", WRONG)
    try:
        return Judges(aspects=folders.get("aspects"), cvib=folders.get("cvib"))
    except (ValueError, KeyError, OSError) as err:
        fail(f"{model}: {err}", WRONG)


def _show_text(one: JudgedText) -> None:
    shown = Text(clean(one.text, keep="\n"))
    for a in one.aspects:
        shown.stylize(f"bold {COLOURS[a.polarity]}", a.start, a.end)
    console.print(shown, soft_wrap=True)
    if not one.aspects:
        console.print("no aspect found", style="dim")
        return
    table = Table("", "aspect", "id", "polarity", "probability", "confidence", box=None)
    for a in one.aspects:
        best = max(a.negative, a.neutral, a.positive)
        style = COLOURS[a.polarity]
        table.add_row(
            SIGNS[a.polarity],
            Text(clean(a.aspect), style),
            a.aspect_id,
            Text(a.polarity, style),
            f"{best:.2f}",
            f"{a.confidence:.2f}",
        )
    console.print(table)


def _show_report(report: list[AspectSummary], judged: list[JudgedText]) -> None:
    refused = sum(one.refused is not None for one in judged)
    empty = sum(not one.aspects and one.refused is None for one in judged)
    table = Table("aspect", "mentions", "-", "0", "+", "net", "95 %", box=None)
    for one in report:
        net = "" if one.net is None else f"{one.net:+.2f}"
        interval = "" if one.low is None else f"{one.low:+.2f} .. {one.high:+.2f}"
        colour = COLOURS[
            "unsure" if one.net is None else "positive" if one.net > 0 else "negative" if one.net < 0 else "neutral"
        ]
        counts = [str(n) for n in (one.mentions, one.negative, one.neutral, one.positive)]
        table.add_row(one.aspect, *counts, Text(net, colour), interval)
    console.print(table)
    for one in report:
        for label, quote in one.quotes.items():
            console.print(Text(f"{one.aspect} {SIGNS[label]} “{clean(quote)}”", COLOURS[label]), soft_wrap=True)
    console.print(f"{len(judged)} texts, {empty} without an aspect, {refused} refused", style="dim")


def _csv(found: list[Judged]) -> str:
    names = ("line", "start", "end", "aspect", "aspect_id", "polarity", "negative", "neutral", "positive", "confidence")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(names)
    for one in found:
        cells = [getattr(one, name) for name in names]
        writer.writerow([round(cell, 4) if isinstance(cell, float) else _safe(cell) for cell in cells])
    return out.getvalue()


def _safe(cell: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t") else cell
