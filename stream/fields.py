"""The types of events' fields, with their bounds; one definition for building, parsing and the JSON Schemas."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from errors import Permanent
from stream.headers import instant
from stream.ids import is_traceparent
from stream.limits import (
    MAX_CHANNELS,
    MAX_ID_BYTES,
    MAX_OFFSET_MS,
    MAX_SEQ,
    MAX_VALUE_BYTES,
    MAX_VERSION,
    MAX_YEAR,
    MIN_YEAR,
    RATES,
)
from stream.reasons import REASONS

__all__ = [
    "RATE_RULE",
    "CallId",
    "Channels",
    "Codec",
    "Event",
    "Instant",
    "LongText",
    "OffsetMs",
    "Payload",
    "Rate",
    "ReviewId",
    "Role",
    "Seq",
    "ShortText",
    "Traceparent",
    "Version",
    "build",
    "check_size",
    "parse_payload",
    "refusal",
    "storable",
]

Role = Literal["customer", "agent", "unknown"]
Codec = Literal["pcmu", "pcma", "l16", "wav", "flac"]


def _is_id(text: str) -> bool:
    return text.isprintable() and text == text.strip() and 1 <= len(text.encode("utf-8", "replace")) <= MAX_ID_BYTES


def _call_id(text: str) -> str:
    if not _is_id(text):
        raise PydanticCustomError("invalid_call_id", "a call_id is printable text of 1 to 200 bytes")
    return text


def _review_id(text: str) -> str:
    if not _is_id(text):
        raise PydanticCustomError("invalid_review_id", "a review_id is printable text of 1 to 200 bytes")
    return text


#: Also what a producer says before it sends anything.
RATE_RULE = f"the rate of a call is one of {', '.join(map(str, RATES))} Hz"


def _rate(rate: int) -> int:
    if rate not in RATES:
        raise PydanticCustomError("unsupported_rate", RATE_RULE)
    return rate


def storable(text: str) -> str:
    """Postgres text holds neither NUL nor surrogates."""
    if "\x00" in text or any("\ud800" <= c <= "\udfff" for c in text):
        raise PydanticCustomError("invalid_text", "the text holds NUL or half a surrogate pair")
    return text


def _from_text(value: object) -> object:
    """Only RFC 3339: pydantic alone would take a number of seconds too."""
    if isinstance(value, str):
        try:
            return instant(value)
        except ValueError as err:
            raise PydanticCustomError("invalid_field", "not an RFC 3339 time with offset") from err
    return value


def _in_years(moment: datetime) -> datetime:
    try:
        utc = moment.astimezone(UTC)
    except OverflowError as err:
        raise PydanticCustomError("out_of_range", "the year is outside 2000 to 2099") from err
    if not MIN_YEAR <= utc.year <= MAX_YEAR:
        raise PydanticCustomError("out_of_range", "the year is outside 2000 to 2099")
    return utc


def _traceparent(text: str) -> str:
    if not is_traceparent(text):
        raise ValueError("not a W3C traceparent")
    return text


CallId = Annotated[str, AfterValidator(_call_id)]
ReviewId = Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES), AfterValidator(_review_id)]
Instant = Annotated[AwareDatetime, BeforeValidator(_from_text), AfterValidator(_in_years)]
ShortText = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]
LongText = Annotated[str, Field(max_length=1_000), AfterValidator(storable)]
Rate = Annotated[int, AfterValidator(_rate)]
Channels = Annotated[int, Field(ge=1, le=MAX_CHANNELS)]
Seq = Annotated[int, Field(ge=0, le=MAX_SEQ)]
OffsetMs = Annotated[int, Field(ge=0, le=MAX_OFFSET_MS)]
Version = Annotated[int, Field(ge=0, le=MAX_VERSION)]
Traceparent = Annotated[str, AfterValidator(_traceparent)]


class Payload(BaseModel):
    """The JSON value of a message; unknown fields are ignored, so that producers may be newer than we are."""

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False)

    def to_json(self) -> bytes:
        """This payload alone, also where an event class has added what travels in headers."""
        fields = next(c for c in type(self).__mro__ if issubclass(c, Payload) and not issubclass(c, Event)).model_fields
        absent = {name for name in fields if getattr(self, name) is None}  # a None deeper down is the caller's
        return self.model_dump_json(include=set(fields) - absent).encode("utf-8")


class Event(BaseModel):
    """An event as the workers and producers see it. Immutable; the constructor checks every bound."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, allow_inf_nan=False)

    traceparent: Traceparent | None = None


PayloadT = TypeVar("PayloadT", bound=Payload)
EventT = TypeVar("EventT", bound=Event)

_SPECIAL = {
    ("text", "missing"): "no_text",
    ("text", "string_type"): "no_text",
    ("text", "string_too_short"): "no_text",
    ("review_id", "missing"): "missing_review_id",
    ("review_id", "string_type"): "missing_review_id",
    ("review_id", "string_too_short"): "invalid_review_id",
    ("review_id", "string_too_long"): "invalid_review_id",
}
_REASON_OF_KIND = {
    "json_invalid": "invalid_json",
    "model_type": "invalid_json",
    "missing": "missing_field",
    "string_too_long": "too_long",
    "too_long": "too_long",
    "greater_than": "out_of_range",
    "greater_than_equal": "out_of_range",
    "less_than": "out_of_range",
    "less_than_equal": "out_of_range",
    "finite_number": "out_of_range",
    "int_parsing_size": "out_of_range",
}


def refusal(error: ValidationError) -> Permanent:
    """The dead letter's reason for a failed validation: names the field, never its content."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    kind, place = first["type"], str(first["loc"][0]) if first["loc"] else "value"
    if (place, kind) in _SPECIAL:
        reason = _SPECIAL[place, kind]
    elif kind in REASONS:
        reason = kind
    else:
        reason = _REASON_OF_KIND.get(kind, "invalid_field")
    return Permanent(reason, f"the field {place}: {REASONS[reason]}")


def parse_payload(model: type[PayloadT], value: bytes | None) -> PayloadT:
    """The JSON `value` as `model`; no value counts as an empty object."""
    raw = value or b"{}"
    check_size(raw)
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError as err:
        raise Permanent("invalid_utf8", "the value is not UTF-8") from err
    try:
        return model.model_validate_json(raw, strict=True)
    except ValidationError as err:
        raise refusal(err) from None  # the original holds what the record said


def check_size(value: bytes) -> None:
    """Refuse a value that its dead letter or its replay could not carry."""
    if len(value) > MAX_VALUE_BYTES:
        raise Permanent("too_large", f"the value has {len(value)} bytes, more than {MAX_VALUE_BYTES}")


def build(event: type[EventT], **fields: object) -> EventT:
    """An event from a record's parts; what its bounds refuse becomes errors.Permanent."""
    try:
        return event.model_validate(fields)
    except ValidationError as err:
        raise refusal(err) from None
