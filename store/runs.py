"""Runs: what results are made with, and which run analysts see."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from uuid import NAMESPACE_URL, UUID, uuid5

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = ["CUT_RUN", "Run", "current", "find", "list_runs", "open_run", "run_id_of", "use"]

_NAMESPACE = uuid5(NAMESPACE_URL, "earful:run")


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """Models, versions, rules, prompts and decode options under which results are written."""

    run_id: UUID
    spec: Mapping[str, object]


def run_id_of(spec: Mapping[str, object]) -> UUID:
    """uuid5 of the canonical JSON: the same spec is the same run, wherever and in whatever order it is written."""
    return uuid5(
        _NAMESPACE, json.dumps(spec, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    )


CUT_RUN = uuid5(_NAMESPACE, "cut:v1")
"""The segmenter's run: there is one cut version per deployment, and old calls are not cut again."""

_USE = sa.text(
    "INSERT INTO ingest.current_run AS c (singleton, run_id, changed_at) VALUES (true, :run_id, now())"
    " ON CONFLICT (singleton) DO UPDATE SET run_id = excluded.run_id, changed_at = now()"
    " WHERE c.run_id <> excluded.run_id"
)


async def open_run(conn: AsyncConnection, spec: Mapping[str, object], make_current: bool) -> Run:
    """Enter a run, if it is new; `make_current` makes the views show it."""
    run = Run(run_id=run_id_of(spec), spec=spec)
    await conn.execute(
        sa.text("INSERT INTO ingest.runs (run_id, spec) VALUES (:run_id, CAST(:spec AS jsonb)) ON CONFLICT DO NOTHING"),
        {"run_id": run.run_id, "spec": json.dumps(spec)},
    )
    if make_current:
        await use(conn, run.run_id)
    return run


async def current(conn: AsyncConnection) -> UUID | None:
    """The run that the views show; None before the first."""
    found: UUID | None = (await conn.execute(sa.text("SELECT run_id FROM ingest.current_run"))).scalar_one_or_none()
    return found


async def find(conn: AsyncConnection, run_id: UUID | None = None) -> Run | None:
    """This run, or the one that the views show."""
    found = await conn.execute(
        sa.text(
            "SELECT run_id, spec FROM ingest.runs"
            " WHERE run_id = coalesce(CAST(:run_id AS uuid), (SELECT run_id FROM ingest.current_run))"
        ),
        {"run_id": run_id},
    )
    return next((Run(run_id=r.run_id, spec=r.spec) for r in found), None)


async def use(conn: AsyncConnection, run_id: UUID) -> None:
    """Make the views show this run. Raises sqlalchemy.exc.IntegrityError for a run that was never opened."""
    await conn.execute(_USE, {"run_id": run_id})


async def list_runs(conn: AsyncConnection) -> list[Run]:
    """All runs, the oldest first."""
    found = await conn.execute(sa.text("SELECT run_id, spec FROM ingest.runs ORDER BY created_at, run_id"))
    return [Run(run_id=r.run_id, spec=r.spec) for r in found]
