"""The report for a terminal, with rich. Pure: data in, a renderable out; colour only repeats what the words say.

Words of customers never pass as markup or escape sequences: they are cleaned and shown as plain text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table
from rich.text import Text

from report.model import (
    AspectRow,
    CallReport,
    Completeness,
    DeadLetters,
    Freshness,
    Line,
    Mention,
    Quote,
    Report,
    ReviewReport,
    Tally,
)

__all__ = ["DEFAULT_ASPECTS", "clean", "clock", "render"]

#: Per product; what both calls and reviews name comes first, so the rest is the long tail.
DEFAULT_ASPECTS = 6

_COLOURS = {"negative": "red", "neutral": "yellow", "positive": "green"}
_SIGNS = {"negative": "−", "neutral": "○", "positive": "+"}
_ROLES = {"customer": "cyan", "agent": "blue"}


def render(report: Report, *, aspects: int = DEFAULT_ASPECTS) -> RenderableType:
    """The whole report, one part below the other; parts without content are left out."""
    parts: list[RenderableType] = []
    for call in report.calls:
        parts += [*_call(call), Text()]
    if len(report.calls) < report.calls_total:
        parts += [Text(f"{len(report.calls)} of {report.calls_total} calls shown.", "dim"), Text()]
    if report.reviews:
        parts += [_title(f"The newest of {report.reviews_total} reviews"), *map(_review, report.reviews)]
    if report.aspects:
        parts += [_title("What calls and reviews say of the same products"), _aspect_table(report.aspects, aspects)]
    if report.completeness:
        parts += [_title("Did everything arrive?"), _completeness_table(report.completeness)]
    if report.freshness:
        parts += [_title("From Kafka record to row"), _freshness_table(report.freshness)]
    if report.dead_letters:
        parts += [_title("Records that can never succeed (dead letters)"), _dead_letter_table(report.dead_letters)]
    if not parts:
        parts.append(Text("Nothing has been analysed yet."))
    return Group(*parts)


def clean(text: str, *, keep: str = "") -> str:
    """Without control characters and marks that reverse the writing, which could forge what a terminal shows.

    A space stands for each, so that spans still fit.
    """
    return "".join(one if one in keep or not _forges(one) else " " for one in text)


def _forges(character: str) -> bool:
    """Joiners and soft hyphens do not: words and emoji need them."""
    return unicodedata.category(character) in {"Cc", "Cs", "Zl", "Zp"} or character in _TURNS


#: Unicode's bidirectional controls (UAX #9).
_TURNS = frozenset("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def clock(ms: int) -> str:
    """`m:ss` or `h:mm:ss`."""
    minutes, seconds = divmod(ms // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _title(text: str) -> RenderableType:
    return Rule(Text(text, "bold"), align="left", style="dim")


def _call(call: CallReport) -> Iterator[RenderableType]:
    facts = [
        clean(call.product or "no product"),
        f"{call.call_started_at:%Y-%m-%d %H:%M}",
        clock(call.duration_ms),
        call.state if not call.state_reason else f"{call.state} ({clean(call.state_reason)})",
    ]
    if call.gap_ms:
        facts.append(f"{call.gap_ms / 1000:.1f} s never came")
    if call.late_chunks:
        facts.append(f"{call.late_chunks} chunks too late")
    yield Text.assemble(("● ", "dim"), (clean(call.call_id), "bold"), "  ", " · ".join(facts))
    if call.lines:
        yield _transcript(call)
    findings = Table.grid(padding=(0, 2))
    findings.add_column(style="bold", no_wrap=True)
    findings.add_column()
    if call.summary and not (call.method or "").startswith("extractive"):  # whose words are the findings below
        findings.add_row("Summary", clean(call.summary))
    for label, finding in [("Issue", call.issue), ("Outcome", call.outcome)]:
        if finding is not None:
            findings.add_row(label, _quote(finding))
    for number, action in enumerate(call.actions):
        findings.add_row("" if number else "Actions", _quote(action))
    aspects = _mentions(call.lines)
    if aspects:
        findings.add_row("Aspects", aspects)
    if call.method and findings.row_count:
        findings.add_row("", Text(f"summary: {clean(call.method)}", "dim"))
    if findings.row_count:
        yield Padding(findings, (1 if call.lines else 0, 0, 0, 2))


def _transcript(call: CallReport) -> RenderableType:
    table = Table.grid(padding=(0, 2))
    table.add_column(justify="right", style="dim", no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column()
    several = len({line.channel for line in call.lines}) > 1  # two identical channels are heard once, as the first
    for line in call.lines:
        who = f"speaker {line.channel + 1}" if line.role == "unknown" and several else line.role
        table.add_row(clock(line.start_ms), Text(who, _ROLES.get(line.role, "")), _marked(line.text, line.mentions))
    return Padding(table, (0, 0, 0, 2))


def _review(review: ReviewReport) -> RenderableType:
    facts = [clean(review.product or "no product"), f"{review.created_at:%Y-%m-%d %H:%M}"]
    if review.rating is not None:
        facts.append(f"rated {review.rating:g}")
    if (review.version or 1) > 1:
        facts.append(f"version {review.version}")
    if review.state != "analysed":
        facts.append(review.state)
    title = Text.assemble(("● ", "dim"), (clean(review.review_id), "bold"), "  ", " · ".join(facts))
    found = _signs((_name(mention), mention.polarity, None) for mention in review.mentions)
    parts = [_marked(review.text, review.mentions), found] if found else [_marked(review.text, review.mentions)]
    return Group(title, Padding(Group(*parts), (0, 0, 1, 2)))


def _marked(said: str, mentions: Iterable[Mention]) -> Text:
    # Cleaning puts one character for one, so that spans still fit.
    text = Text(clean(said)) if said.strip() else Text("(nothing recognised)", "dim")
    for mention in mentions:
        text.stylize(f"underline {_COLOURS.get(mention.polarity, '')}", mention.span_start, mention.span_end)
    return text


def _quote(quote: Quote) -> Text:
    times = ", ".join(clock(at) for at in quote.at_ms)
    return Text.assemble(clean(quote.text), (f"  [{times}]" if times else "", "dim"))


def _mentions(lines: Iterable[Line]) -> Text:
    return _signs((_name(mention), mention.polarity, line.start_ms) for line in lines for mention in line.mentions)


def _signs(mentions: Iterable[tuple[str, str, int | None]]) -> Text:
    """`battery − 0:06 0:17 · screen + 0:17`: each aspect and polarity once, with its times if it has any."""
    times: dict[tuple[str, str], list[int]] = {}
    for name, polarity, at_ms in mentions:
        times.setdefault((name, polarity), []).extend(() if at_ms is None else (at_ms,))
    text = Text()
    for (name, polarity), at in times.items():
        text.append(" · " if text else "", "dim")
        text.append(f"{name} {_SIGNS.get(polarity, '?')}", _COLOURS.get(polarity, ""))
        text.append("".join(f" {clock(one)}" for one in dict.fromkeys(at)), "dim")
    return text


def _name(mention: Mention) -> str:
    return clean(mention.text).strip().lower() or clean(mention.aspect_id)


def _aspect_table(rows: Sequence[AspectRow], most: int) -> RenderableType:
    table = _table("product", "aspect", ">calls", ">n", ">reviews", ">n", ">difference")
    for product, group in groupby(rows, key=lambda row: row.product):
        ours = list(group)
        for number, row in enumerate(ours[:most]):
            calls, reviews = row.calls.net, row.reviews.net
            table.add_row(
                clean(product or "(no product)") if number == 0 else "",
                clean(row.aspect_id),
                _net(row.calls),
                str(row.calls.mentions or ""),
                _net(row.reviews),
                str(row.reviews.mentions or ""),
                f"{calls - reviews:+.2f}" if calls is not None and reviews is not None else "",
            )
        if len(ours) > most:
            table.add_row("", Text(f"and {len(ours) - most} more", "dim"))
    caption = (
        "Net sentiment: (positive − negative) / n, from −1 to +1; difference: calls − reviews. A small n says little."
    )
    return Group(table, Padding(Text(caption, "dim"), (0, 0, 1, 2)))


def _net(tally: Tally) -> Text:
    if tally.net is None:
        return Text("–", "dim")
    colour = "green" if tally.net > 0.25 else "red" if tally.net < -0.25 else "yellow"
    return Text(f"{tally.net:+.2f}", colour)


def _completeness_table(rows: Sequence[Completeness]) -> RenderableType:
    facts: list[tuple[str, Sequence[float]]] = [
        ("came", [row.total for row in rows]),
        ("complete: nothing more is to come", [row.complete for row in rows]),
        ("still open", [row.open for row in rows]),
        ("analysed", [row.analysed for row in rows]),
        ("without speech", [row.no_speech for row in rows]),
        ("timed out: their end never came", [row.timed_out for row in rows]),
        ("dead letters", [row.dead_lettered for row in rows]),
        ("other ends", [row.other_terminal for row in rows]),
        ("seconds of audio that never came", [row.gap_ms / 1000 for row in rows]),
        ("chunks that came too late", [row.late_chunks for row in rows]),
    ]
    table = _table("", *(f">{row.source}s" for row in rows))
    for number, (fact, values) in enumerate(facts):
        if number < 4 or any(values):  # the rest only where there is something to say
            table.add_row(fact, *(f"{value:,}" for value in values))
    return table


def _freshness_table(rows: Sequence[Freshness]) -> RenderableType:
    table = _table("", "hour", ">rows", ">p50 s", ">p95 s", ">longest s")
    for row in rows:
        delays = (f"{ms / 1000:.2f}" for ms in (row.p50_ms, row.p95_ms, row.max_ms))
        table.add_row(row.kind, f"{row.hour:%Y-%m-%d %H:%M}", str(row.rows), *delays)
    return table


def _dead_letter_table(rows: Sequence[DeadLetters]) -> RenderableType:
    table = _table("stage", "reason", ">records", ">replayed", "last")
    for row in rows:
        last = f"{row.last_at:%Y-%m-%d %H:%M}"
        table.add_row(clean(row.stage), clean(row.reason), str(row.records), str(row.replayed), last)
    return table


def _table(*columns: str) -> Table:
    """A leading `>` aligns a column to the right."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=True)
    for column in columns:
        if column.startswith(">"):  # a number cut short would lie: names give way instead
            table.add_column(column[1:], justify="right", no_wrap=True, min_width=len(column) - 1)
        else:
            table.add_column(column, no_wrap=True, overflow="ellipsis")
    return table
