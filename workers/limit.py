"""A limit on dead letters: where nothing can succeed, somebody should look before the rest is buried, too."""

from __future__ import annotations

from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from errors import EarfulError
from store import ledger
from store.ledger import Position
from workers.stage import Batch, Work

__all__ = ["TooManyDeadLetters", "check_limit"]


class TooManyDeadLetters(EarfulError):
    """Too many dead letters in a row: stop, and stay stopped until a person has looked."""


async def check_limit(
    connection: AsyncConnection, position: Position, batch: Batch, work: Work[Any], most_in_a_row: int
) -> None:
    """Inside step 5, after the verdicts. Raises TooManyDeadLetters; the batch stays undone then."""
    kind, reason = work.verdicts[batch.records[-1].offset]
    if kind != "dead_letter":
        return
    count = await ledger.buried_in_a_row(connection, position.ledger_id)
    if count > most_in_a_row:
        raise TooManyDeadLetters(
            f"{batch.key.topic}/{batch.key.partition}: {count} records in a row can never succeed, the last one for {reason};"
            " look at them, then raise EARFUL_DEAD_LETTERS_IN_A_ROW"
        )
