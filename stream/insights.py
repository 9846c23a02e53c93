"""The event of insights.v1: what Postgres got, for consumers downstream."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, ClassVar, Literal
from uuid import UUID

from pydantic import Field

from errors import Permanent
from stream import cloudevents
from stream.fields import Event, Payload, ShortText, build, parse_payload
from stream.headers import HeaderReader
from stream.records import Message, Record
from stream.topics import Topics

__all__ = ["Insight", "InsightData", "parse_insight"]


class InsightData(Payload):
    """JSON of insights.insight.v1. `body` depends on `kind`; consumers ignore fields they do not know.

    Delivered at least once; the header outbox_id rises per subject, so a consumer drops what is not higher.
    """

    subject_id: ShortText
    kind: Literal["call", "review"]
    run_id: UUID
    body: Annotated[dict[str, Any], Field(repr=False)]


class Insight(InsightData, Event):
    """The results for one call or review in one run."""

    name: ClassVar[str] = "insights.insight"

    def to_message(self, topics: Topics, *, at: datetime | None = None, source: str = cloudevents.SOURCE) -> Message:
        headers = cloudevents.write(
            self.name,
            id=f"{self.kind}/{self.subject_id}/{self.run_id}",
            subject=self.subject_id,
            content_type=cloudevents.JSON,
            time=at,
            traceparent=self.traceparent,
            source=source,
        )
        return Message(topic=topics.insights, key=self.subject_id.encode(), value=self.to_json(), headers=headers)


def parse_insight(record: Record) -> Insight:
    """The event that a record of insights.v1 is, for consumers in Python. Raises errors.Permanent."""
    headers = HeaderReader(record.headers)
    cloudevents.event_name(headers, known=frozenset({Insight.name}))
    data = parse_payload(InsightData, record.value)
    if record.key is None or record.key != data.subject_id.encode():
        raise Permanent("key_mismatch", "the record's key is not the subject_id of its JSON")
    return build(Insight, traceparent=headers.traceparent(), **dict(data))
