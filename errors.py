"""The kinds of failure that Earful knows.

    EarfulError
    ├── Permanent   can never succeed: the record becomes a dead letter with its reason
    ├── Transient   may succeed later: retried inside the batch's deadline
    │   └── Undelivered   Kafka did not take what a stage made: retried, and no record's fault
    └── AccessRefused   what is there does not let us in: the worker leaves, and a person has to mend it

Anything else is unknown: the worker leaves without acknowledging, and whoever owns the partition next tries again.
"""

from __future__ import annotations

__all__ = ["AccessRefused", "EarfulError", "Permanent", "Transient", "Undelivered"]


class EarfulError(Exception):
    """Root of Earful's own errors."""


class Permanent(EarfulError):
    """This record can never succeed; fix the producer, then replay the dead letter.

    `reason` is a snake_case code of at most 40 characters; `detail` a sentence without any payload text.
    """

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}"


class AccessRefused(EarfulError):
    """Kafka or Postgres is there and does not let us in: credentials, certificate, protocol, a right."""


class Transient(EarfulError):
    """A dependency did not answer in time or is away; the same request may succeed later."""


class Undelivered(Transient):
    """Kafka did not take what was made of these records; however often that happens, it speaks against none of them."""
