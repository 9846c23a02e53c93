"""`earful aspects`: what a text, or every text of a file, speaks of and how it feels about it, without servers."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from commands.context import FAILED, WRONG, AsJson, console, errors, fail, print_json, watched
from report.render import clean

if TYPE_CHECKING:
    from sentiment.judge import JudgedText, Judges
    from sentiment.summary import AspectSummary, Judged

    Groups = Mapping[int, str | None]  # by line
    Reports = dict[str | None, list[AspectSummary]]

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
    by: Annotated[
        str | None,
        typer.Option(help="A column or field of the file, such as `product`: a report for each of its values"),
    ] = None,
    known: Annotated[str | None, typer.Option(help="Words that are aspects wherever they stand, with commas")] = None,
    model: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Folder with cvib/ or aspects/ of `earful cvib train`"),
    ] = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A line for each aspect found")] = False,
    as_html: Annotated[bool, typer.Option("--html", help="A page of its own, on standard output")] = False,
) -> None:
    """Aspects of a text, coloured by polarity; of a file, a report by aspect, with --by for each product.

    Example: earful aspects "The screen is gorgeous but the battery is terrible." --json
    """
    if sum((as_json, as_csv, as_html)) > 1:
        fail("--json, --csv and --html: one of them", WRONG)
    file = _file(what)
    rows = list(_rows(file)) if file else [(1, {"text": what})]
    texts = {line: str(row["text"]) for line, row in rows}
    if not any(text.strip() for text in texts.values()):
        fail(f"{file.name if file else 'the text'} is empty", WRONG)
    groups = None if by is None else _groups(file, dict(rows), by)
    judges = _judges(model)
    words = [one.strip() for one in known.split(",")] if known else []
    judged = [
        judges.judge(text, line=line, min_confidence=min_confidence, min_probability=abstain_below, known=words)
        for line, text in (watched(list(texts.items()), "judging") if file else texts.items())
    ]
    for one in judged:
        if one.refused and file:
            errors.print(f"{file.name}, line {one.line}: {one.refused}", highlight=False, markup=False, soft_wrap=True)
        elif one.refused:
            fail(one.refused)
    found = [aspect for one in judged for aspect in one.aspects]
    _print(as_json, as_csv, as_html, bool(file), judged, found, texts, groups, judges.versions)
    if all(one.refused for one in judged):
        raise typer.Exit(FAILED)


def _print(
    as_json: bool, as_csv: bool, as_html: bool, file: bool, judged: list[JudgedText], found: list[Judged],
    texts: dict[int, str], groups: Groups | None, versions: dict[str, str],
) -> None:  # fmt: skip
    from sentiment.summary import by_group

    group_of = groups or dict.fromkeys(texts)  # without --by all lines are one group without a name
    reports = by_group(texts, found, group_of) if file else {}
    if as_json and not file:
        print_json(asdict(judged[0]) | {"line": None, "versions": versions})
    elif as_json:
        each = [{"group": group_of[one.line]} | asdict(one) for one in judged]
        report = [{"group": group} | asdict(one) for group, some in reports.items() for one in some]
        print_json({"texts": each, "report": report, "versions": versions})
    elif as_csv:
        typer.echo(_csv(found, groups), nl=False)
    elif as_html:
        from commands.aspects_page import page

        typer.echo(page(judged, reports, named=groups is not None), nl=False)
    elif file:
        _show_reports(reports, judged, named=groups is not None)
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


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, object]]]:
    """Fields by line number, `text` among them; a wrong line ends the command."""
    from sentiment.labelled import FileProblem, rows

    if file.suffix.lower() not in (".csv", ".jsonl"):
        try:
            lines = file.read_bytes().decode("utf-8-sig").split("\n")
        except UnicodeDecodeError as err:
            line = file.read_bytes()[: err.start].count(b"\n") + 1
            fail(f"{file.name}, line {line}: it is not UTF-8", WRONG)
        # Only the line's end goes: `start` and `end` count characters of the file's line.
        texts = ((number, line.removesuffix("\r")) for number, line in enumerate(lines, start=1))
        yield from ((number, {"text": text}) for number, text in texts if text.strip())
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
            yield number, row


def _groups(file: Path | None, rows: Mapping[int, Mapping[str, object]], by: str) -> dict[int, str | None]:
    """What each line has in that column; None where it has nothing."""
    if file is None:
        fail("--by needs a file, whose rows it groups", WRONG)
    fields = {name for row in rows.values() for name in row}
    if by not in fields:
        fail(f"{file.name} has no {by!r}: its rows have {', '.join(sorted(fields))}", WRONG)
    return {line: None if row.get(by) in (None, "") else str(row[by]) for line, row in rows.items()}


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


def _show_reports(reports: Reports, judged: list[JudgedText], *, named: bool) -> None:
    for group, report in reports.items():
        if named:
            console.print(Text(clean(group) if group is not None else "(none)", "bold underline"))
        _show_report(report)
    refused = sum(one.refused is not None for one in judged)
    empty = sum(not one.aspects and one.refused is None for one in judged)
    console.print(f"{len(judged)} texts, {empty} without an aspect, {refused} refused", style="dim")


def _show_report(report: list[AspectSummary]) -> None:
    if not report:
        console.print("no aspect found", style="dim")
        return
    table = Table("aspect", "mentions", "-", "0", "+", "net", "95 %", box=None)
    for one in report:
        net = "" if one.net is None else f"{one.net:+.2f}"
        interval = "" if one.low is None else f"{one.low:+.2f} .. {one.high:+.2f}"
        colour = COLOURS[
            "unsure" if one.net is None else "positive" if one.net > 0 else "negative" if one.net < 0 else "neutral"
        ]
        counts = [str(n) for n in (one.mentions, one.negative, one.neutral, one.positive)]
        table.add_row(Text(clean(one.aspect)), *counts, Text(net, colour), interval)
    console.print(table)
    for one in report:
        for label, quote in one.quotes.items():
            shown = Text(clean(quote.text))
            shown.stylize(f"bold {COLOURS[label]}", quote.start, quote.end)
            console.print(Text.assemble(f"{clean(one.aspect)} {SIGNS[label]} “", shown, "”"), soft_wrap=True)


def _csv(found: list[Judged], groups: Groups | None) -> str:
    names = ("line", "start", "end", "aspect", "aspect_id", "polarity", "negative", "neutral", "positive", "confidence")
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow([*names, *(["group"] if groups else [])])
    for one in found:
        cells = [*(getattr(one, name) for name in names), *([groups[one.line]] if groups else [])]
        writer.writerow([round(cell, 4) if isinstance(cell, float) else _safe(cell) for cell in cells])
    return out.getvalue()


def _safe(cell: object) -> object:
    """A text that a spreadsheet would take for a formula gets an apostrophe before it."""
    return f"'{cell}" if isinstance(cell, str) and cell[:1] in ("=", "+", "-", "@", "\t") else cell
