"""Typed reading of a record's headers; what is wrong becomes errors.Permanent without the header's content."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from uuid import UUID

from errors import Permanent
from stream.ids import is_traceparent
from stream.limits import MAX_YEAR, MIN_YEAR
from stream.records import Headers

__all__ = ["HeaderReader", "format_instant", "instant"]

_INTEGER = re.compile(r"-?[0-9]{1,19}")
_INSTANT = re.compile(r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}(:\d{2}(\.\d{1,9})?)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII)


def instant(text: str) -> datetime:
    """An RFC 3339 time with offset, in UTC and microseconds. Raises ValueError for any other text."""
    if not _INSTANT.fullmatch(text):
        raise ValueError("not an RFC 3339 time with offset")
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as err:  # year 1 or 9999 and an offset
        raise ValueError("not a time that UTC can hold") from err


def format_instant(moment: datetime) -> str:
    """RFC 3339 in UTC, with microseconds where there are any."""
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


class HeaderReader:
    """The headers of one record by name; of repeated names the last counts, as Kafka's lastHeader does."""

    __slots__ = ("_raw",)

    def __init__(self, headers: Headers) -> None:
        self._raw = dict(headers)

    def __contains__(self, name: str) -> bool:
        return self._raw.get(name) is not None

    def text(self, name: str) -> str:
        raw = self._raw.get(name)
        if raw is None:
            raise Permanent("missing_header", f"the header {name} is absent")
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as err:
            raise Permanent("invalid_header", f"the header {name} is not UTF-8") from err

    def text_or_none(self, name: str) -> str | None:
        return self.text(name) if name in self else None

    def integer(self, name: str, low: int, high: int, *, reason: str = "out_of_range") -> int:
        """A whole number from `low` to `high`; outside, the record is refused with `reason`."""
        text = self.text(name)
        if not _INTEGER.fullmatch(text):
            raise Permanent("invalid_header", f"the header {name} is not a whole number of at most 19 digits")
        number = int(text)
        if not low <= number <= high:
            raise Permanent(reason, f"the header {name} is not within {low} and {high}")
        return number

    def instant(self, name: str) -> datetime:
        try:
            moment = instant(self.text(name))
        except ValueError as err:
            raise Permanent("invalid_header", f"the header {name} is not an RFC 3339 time with offset") from err
        if not MIN_YEAR <= moment.year <= MAX_YEAR:
            raise Permanent("out_of_range", f"the year of the header {name} is not within {MIN_YEAR} and {MAX_YEAR}")
        return moment

    def uuid(self, name: str) -> UUID:
        try:
            return UUID(self.text(name))
        except ValueError as err:
            raise Permanent("invalid_header", f"the header {name} is not a UUID") from err

    def traceparent(self) -> str | None:
        """The W3C traceparent, or None: a broken one is ignored, as the standard asks."""
        raw = self._raw.get("traceparent")
        text = raw.decode("ascii", "replace") if raw is not None else ""
        return text if is_traceparent(text) else None
