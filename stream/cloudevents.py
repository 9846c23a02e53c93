"""CloudEvents 1.0 in Kafka's binary mode: the `ce_` headers of every message, and which event a record is."""

from __future__ import annotations

import re
from datetime import datetime

from errors import Permanent
from stream.headers import HeaderReader, format_instant
from stream.records import Headers

__all__ = ["JSON", "OCTETS", "SOURCE", "check_specversion", "event_name", "event_type", "write"]

JSON = "application/json"
OCTETS = "application/octet-stream"
SOURCE = "/earful"
MAJOR = 1  # of every event in this package

_TYPE = re.compile(r"([a-z][a-z_.]{0,80})\.v([0-9]{1,6})")


def event_type(name: str) -> str:
    """`calls.call.ended` -> `calls.call.ended.v1`."""
    return f"{name}.v{MAJOR}"


def check_specversion(headers: HeaderReader) -> None:
    """Refuse a CloudEvents version other than 1.x; a record without ce_specversion is fine."""
    version = headers.text_or_none("ce_specversion")
    if version is not None and not version.startswith("1."):
        raise Permanent("unsupported_version", "ce_specversion is not 1.x")


def event_name(headers: HeaderReader, *, known: frozenset[str], default: str | None = None) -> str:
    """The event's name without its version.

    `known` are the names of this topic; `default` is taken where ce_type is absent.
    """
    check_specversion(headers)
    if default is not None and "ce_type" not in headers:
        return default
    match = _TYPE.fullmatch(headers.text("ce_type"))
    if match is None or match.group(1) not in known:
        raise Permanent("unknown_event", "ce_type names no event of this topic")
    if int(match.group(2)) != MAJOR:
        raise Permanent("unsupported_version", f"ce_type is of another major version than {MAJOR}")
    return match.group(1)


def write(
    name: str,
    *,
    id: str,
    subject: str,
    content_type: str,
    time: datetime | None,
    traceparent: str | None,
    fields: dict[str, str] | None = None,
    source: str = SOURCE,
) -> Headers:
    """The headers of one message: CloudEvents first, then `fields`."""
    pairs = {
        "ce_specversion": "1.0",
        "ce_id": id,
        "ce_source": source,
        "ce_type": event_type(name),
        "ce_subject": subject,
        "content-type": content_type,
    }
    if time is not None:
        pairs["ce_time"] = format_instant(time)
    if traceparent is not None:
        pairs["traceparent"] = traceparent
    pairs.update(fields or {})
    return tuple((key, value.encode("utf-8")) for key, value in pairs.items())
