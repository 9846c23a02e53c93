"""A message on its way to Kafka by the outbox, inside the transaction."""

from __future__ import annotations

from store.outbox import OutboxMessage
from stream.records import Message

__all__ = ["outgoing"]


def outgoing(message: Message) -> OutboxMessage:
    return OutboxMessage(topic=message.topic, key=message.key, headers=list(message.headers), value=message.value)
