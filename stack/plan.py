"""What a supervisor is to run."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Plan"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What `up` asks for; kept as plan.json in the home.

    `prepare` are commands that run once, in order, when the servers are up; `workers` are kept running. Both run in
    the folder in which `up` was called.
    `env` is added to the environment of both; {kafka}, {postgres_url}, {triton} and {metrics} in its
    values stand for the endpoints.
    """

    model_repositories: list[str]
    prepare: list[list[str]] = field(default_factory=list)
    workers: dict[str, list[str]] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
