"""Aspects as one HTML page: no script, nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentiment.judge import JudgedText
    from sentiment.summary import AspectSummary, Quote

__all__ = ["page"]

_HEAD = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Aspects</title>
<style>
body { font: 16px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em; }
mark { padding: 0 .2em; border-radius: .2em; } td, th { padding: .1em .8em .1em 0; text-align: left; vertical-align: top; }
.positive { background: #c8f0d0; } .negative { background: #f8cccc; }
.neutral { background: #f4ecc0; } .unsure { background: #e4e4e4; }
.refused { color: #777; }
</style>
"""


def page(
    judged: Sequence[JudgedText], reports: Mapping[str | None, Sequence[AspectSummary]], *, named: bool = False
) -> str:
    """The whole page; every text is escaped. `named`: each report under the name of its group."""
    tables = []
    for group, report in reports.items():
        tables.append(f"<h2>{escape(group if group is not None else '(none)')}</h2>\n" if named else "")
        tables.append(_table(report) if report else "")
    return "".join([_HEAD, *tables, *(_text(one) for one in judged), "</html>\n"])


def _text(one: JudgedText) -> str:
    if one.refused:
        return f'<p class="refused">line {one.line}: {escape(one.refused)}</p>\n'
    parts, at = [], 0
    for a in one.aspects:
        title = f"{a.aspect_id}: {a.polarity} {max(a.negative, a.neutral, a.positive):.2f}"
        parts.append(escape(one.text[at : a.start]))
        parts.append(f'<mark class="{a.polarity}" title="{escape(title)}">{escape(one.text[a.start : a.end])}</mark>')
        at = a.end
    return f"<p>{''.join(parts)}{escape(one.text[at:])}</p>\n"


def _quote(label: str, one: Quote) -> str:
    word = f'<mark class="{label}">{escape(one.text[one.start : one.end])}</mark>'
    return escape(one.text[: one.start]) + word + escape(one.text[one.end :])


def _table(report: Sequence[AspectSummary]) -> str:
    rows = []
    for one in report:
        net = "" if one.net is None else f"{one.net:+.2f}"
        interval = "" if one.low is None else f"{one.low:+.2f} .. {one.high:+.2f}"
        quotes = "<br>".join(_quote(label, quote) for label, quote in one.quotes.items())
        cells = [
            escape(one.aspect),
            *(str(n) for n in (one.mentions, one.negative, one.neutral, one.positive)),
            net,
            interval,
        ]
        rows.append("<tr>" + "".join(f"<td>{cell}</td>" for cell in [*cells, quotes]) + "</tr>\n")
    names = ("aspect", "mentions", "negative", "neutral", "positive", "net", "95 %", "quotes")
    head = "".join(f"<th>{name}</th>" for name in names)
    return f"<table><tr>{head}</tr>\n{''.join(rows)}</table>\n"
