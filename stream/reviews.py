"""The events of reviews.submitted.v1: a review, its later versions, and its deletion by a null value."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, ClassVar

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from errors import Permanent
from stream import cloudevents
from stream.fields import Event, Instant, Payload, ReviewId, ShortText, Version, build, parse_payload, storable
from stream.headers import HeaderReader
from stream.limits import MAX_REVIEW_CHARS, MAX_VERSION
from stream.records import Message, Record
from stream.topics import Topics

__all__ = ["Review", "ReviewData", "ReviewDeleted", "parse_review", "review_from"]


def _has_text(text: str) -> str:
    if not text.strip():
        raise PydanticCustomError("no_text", "the review has no text")
    return text


class ReviewData(Payload):
    """JSON of reviews.review.submitted.v1. `created_at` is RFC 3339 with offset; `rating` as its source gives it.

    `version` rises with every edit; without it, the later record of a review_id counts.
    """

    review_id: ReviewId
    product: ShortText
    text: Annotated[
        str,
        Field(min_length=1, max_length=MAX_REVIEW_CHARS, repr=False),
        AfterValidator(storable),
        AfterValidator(_has_text),
    ]
    created_at: Instant
    rating: Annotated[float, Field(ge=0, le=100)] | None = None
    author: Annotated[ShortText | None, Field(repr=False)] = None
    language: Annotated[str, Field(pattern=r"^[A-Za-z]{2,3}(-[A-Za-z0-9]{1,8}){0,4}$")] | None = None
    version: Version | None = None


class Review(ReviewData, Event):
    """A customer's review of a product, new or edited."""

    name: ClassVar[str] = "reviews.review.submitted"

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        headers = cloudevents.write(
            self.name,
            id=f"{self.review_id}/{self.version if self.version is not None else '-'}",
            subject=self.review_id,
            content_type=cloudevents.JSON,
            time=at or self.created_at,
            traceparent=self.traceparent,
            source=source,
            fields=_version(self.version),
        )
        return Message(
            topic=topics.reviews_submitted, key=self.review_id.encode(), value=self.to_json(), headers=headers
        )


def review_from(fields: Mapping[str, object]) -> Review:
    """A review from a mapping with ReviewData's fields; others are ignored. Raises pydantic's ValidationError."""
    return Review(**dict(ReviewData.model_validate(dict(fields))))


class ReviewDeleted(Event):
    """The review is gone: its text and every result of it are deleted."""

    name: ClassVar[str] = "reviews.review.deleted"

    review_id: ReviewId
    version: Version | None = None

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        headers = cloudevents.write(
            self.name,
            id=f"{self.review_id}/{self.version if self.version is not None else '-'}/deleted",
            subject=self.review_id,
            content_type=cloudevents.JSON,
            time=at,
            traceparent=self.traceparent,
            source=source,
            fields=_version(self.version),
        )
        return Message(topic=topics.reviews_submitted, key=self.review_id.encode(), value=None, headers=headers)


def parse_review(record: Record) -> Review | ReviewDeleted:
    """The event that a record of reviews.submitted.v1 is; CloudEvents headers are optional here.

    Raises errors.Permanent. A null value deletes, whatever ce_type says.
    """
    headers = HeaderReader(record.headers)
    cloudevents.event_name(headers, known=frozenset({Review.name, ReviewDeleted.name}), default=Review.name)
    if record.key is None:
        raise Permanent("missing_review_id", "the record has no key")
    try:
        key = record.key.decode("utf-8")
    except UnicodeDecodeError as err:
        raise Permanent("invalid_review_id", "the key is not UTF-8") from err
    trace = headers.traceparent()
    version = headers.integer("version", 0, MAX_VERSION) if "version" in headers else None
    if record.value is None:
        return build(ReviewDeleted, review_id=key, version=version, traceparent=trace)
    data = parse_payload(ReviewData, record.value)
    if data.review_id != key:
        raise Permanent("key_mismatch", "the record's key is not the review_id of its JSON")
    if version is not None and data.version is not None and version != data.version:
        raise Permanent("version_mismatch", "the version header is not the version of the JSON")
    fields = dict(data)
    fields["version"] = data.version if version is None else version
    return build(Review, traceparent=trace, **fields)


def _version(version: int | None) -> dict[str, str]:
    return {} if version is None else {"version": str(version)}
