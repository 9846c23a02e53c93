"""`earful report` and `earful sql`: what analysts see."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from itertools import islice
from typing import Annotated, Any, cast

import psycopg
import typer
from psycopg import Connection, Cursor
from psycopg.rows import DictRow, TupleRow, tuple_row

from commands.context import AsJson, console, database, fail, print_json, print_table, settings
from report import DEFAULT_CALLS, DEFAULT_REVIEWS, read, render

__all__ = ["print_report", "report", "sql"]

#: A terminal shows so many rows; --json shows all.
SHOWN_ROWS = 200


def print_report(connection: Connection[Any]) -> None:
    console.print(render(read(connection)))


def report(
    call: Annotated[list[str] | None, typer.Option(help="Only this call; may be given several times")] = None,
    calls: Annotated[int, typer.Option(min=0, help="The newest so many calls")] = DEFAULT_CALLS,
    reviews: Annotated[int, typer.Option(min=0, help="The newest so many reviews")] = DEFAULT_REVIEWS,
    as_json: AsJson = False,
) -> None:
    """Transcripts, summaries, aspects of calls and reviews side by side, completeness.

    Example: earful report --call late-delivery --reviews 0
    """
    with database(settings().postgres_url.get_secret_value()) as connection:
        found = read(connection, call_ids=call or None, calls=calls, reviews=reviews)
    known = {one.call_id for one in found.calls}
    missing = [one for one in call or () if one not in known]
    if missing:
        fail(f"no such call: {', '.join(missing)}; `earful explain call ID` says what is known of one")
    if as_json:
        print_json(found.to_dict())
    else:
        console.print(render(found))


def sql(
    query: Annotated[str, typer.Argument(help="One SELECT, read only")],
    as_json: AsJson = False,
) -> None:
    """Ask the analytics, as the analysts' role: views only, read only.

    Example: earful sql "SELECT call_id, state FROM analytics_v1.calls"
    """
    with database(settings().postgres_url.get_secret_value()) as connection:
        connection.execute("SET TRANSACTION READ ONLY")
        connection.execute("SET LOCAL ROLE earful_analyst")
        try:
            rows = every_row(connection, query) if as_json else first_rows(connection, query, SHOWN_ROWS + 1)
        except psycopg.errors.OperationalError:
            raise
        except psycopg.Error as err:
            if err.sqlstate is None:  # psycopg's own: nothing, SET, COPY and the like give no rows
                connection.close()
                fail("one SELECT is wanted, which gives rows")
            fail(str(err).strip())
    if as_json:
        print_json(rows)
    elif not rows:
        console.print("no rows")
    else:
        print_table(
            list(rows[0]),
            (["" if value is None else str(value) for value in row.values()] for row in rows[:SHOWN_ROWS]),
        )
        if len(rows) > SHOWN_ROWS:
            console.print(f"the first {SHOWN_ROWS} rows; --json prints all")


# Both by Postgres' extended protocol, which takes one statement: no RESET ROLE or COMMIT can stand before it.
def every_row(connection: Connection[DictRow], query: str) -> list[dict[str, Any]]:
    with connection.cursor(row_factory=tuple_row) as cursor:
        cursor.execute(query.encode(), prepare=True)
        return named(cursor, cursor.fetchall() if cursor.description else [])


def first_rows(connection: Connection[DictRow], query: str, most: int) -> list[dict[str, Any]]:
    """The rest is never sent: Postgres stops when the stream is closed."""
    cursor = connection.cursor(row_factory=tuple_row)
    stream = cast(Generator[TupleRow, None, None], cursor.stream(query.encode()))
    with closing(stream):
        return named(cursor, list(islice(stream, most)))


def named(cursor: Cursor[TupleRow], rows: list[TupleRow]) -> list[dict[str, Any]]:
    """Columns that Postgres gives the same name are numbered: count, count_2."""
    names: list[str] = []
    for column in cursor.description or ():
        name, number = column.name, 1
        while name in names:
            number += 1
            name = f"{column.name}_{number}"
        names.append(name)
    return [dict(zip(names, row, strict=True)) for row in rows]
