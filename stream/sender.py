"""Messages to Kafka: idempotent, acknowledged by all replicas, with bounded memory and errors that are not lost.

kafka-python's own buffer has no bound, so this one has: `send` waits, up to a deadline, until there is room.
"""

from __future__ import annotations

import errno
import logging
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from kafka import KafkaProducer
from kafka.errors import KafkaConfigurationError, KafkaError, KafkaTimeoutError

from errors import EarfulError
from stream.limits import MAX_VALUE_BYTES
from stream.records import Message

__all__ = ["DeliveryError", "MessageTooLarge", "Sender"]

# 16 of the largest records; or 150 live calls of two mu-law channels (150 x 16 kB/s = 2.4 MB/s) for 7 s, which rides
# out a leader election and is little enough for a telephony gateway.
MAX_IN_FLIGHT_BYTES = 16 * 2**20

# As long as Kafka's own default for delivery.timeout.ms.
DELIVERY_TIMEOUT_SECONDS = 120.0

# A record expires at the timeout exactly; telling the threads takes a moment more.
_GRACE_SECONDS = 5.0

# What an error of the caller's own waits for what was handed over before it: a broker that lives answers in less.
_LEAVING_SECONDS = 10.0

# Errors beyond this many are counted, not kept; each holds a few hundred bytes.
_KEPT_ERRORS = 20

# Ours alone: without them order, idempotence or the partition of a key would be lost.
_FIXED = frozenset({"acks", "enable_idempotence", "partitioner", "key_serializer", "value_serializer", "retries"})


class DeliveryError(EarfulError):
    """A record did not reach Kafka, or nobody knows whether; its topic and id are named, others in the notes.

    Check the broker and the topic. After a timeout make a new producer: kafka-python 3.0.12 may never send again
    to a partition of which a record expired.
    """

    def __init__(self, topic: str, record_id: str, cause: str) -> None:
        super().__init__(topic, record_id, cause)
        self.topic, self.record_id, self.cause = topic, record_id, cause

    def __str__(self) -> str:
        return f"record {self.record_id} did not reach {self.topic}: {self.cause}"


class MessageTooLarge(EarfulError):
    """The value is above 1,000,000 bytes; send shorter pieces. Broker limits are never raised for Earful."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Ticket:
    """A message in flight."""

    topic: str
    record_id: str
    size: int


class Sender:
    """One connection to Kafka; may be shared between threads, each key's messages then keep their sender's order.

    `kafka_options` go to kafka-python as they are (security_protocol, sasl_*, ssl_*, client_id, linger_ms, ...).
    """

    def __init__(
        self,
        bootstrap_servers: str | Sequence[str],
        *,
        timeout_seconds: float = DELIVERY_TIMEOUT_SECONDS,
        max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES,
        **kafka_options: object,
    ) -> None:
        fixed = _FIXED & kafka_options.keys()
        if fixed:
            raise ValueError(f"{', '.join(sorted(fixed))} cannot be set: delivery depends on it")
        if max_in_flight_bytes < 2 * MAX_VALUE_BYTES:
            raise ValueError(f"max_in_flight_bytes is at least {2 * MAX_VALUE_BYTES}, two of the largest records")
        if timeout_seconds < 1:
            raise ValueError("timeout_seconds is at least 1: one request and its answer")
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            path = kafka_options.get(name)
            if isinstance(path, str) and not Path(path).is_file():  # kafka-python would only time out
                raise FileNotFoundError(errno.ENOENT, f"{name} names no file", path)
        self._timeout = timeout_seconds
        self._capacity = max_in_flight_bytes
        self._used = 0
        self._waiting: dict[int, _Ticket] = {}  # in the order of sending
        self._room = threading.Condition()
        self._errors: deque[DeliveryError] = deque(maxlen=_KEPT_ERRORS)
        self._failed = 0
        # At DEBUG it would write every value to the log.
        logging.getLogger("kafka.producer.kafka").setLevel(logging.INFO)
        timeout_ms = int(timeout_seconds * 1000)
        options: dict[str, object] = {
            "linger_ms": 50,  # live calls that share a producer then share requests: half the CPU, here and in Kafka
            "delivery_timeout_ms": timeout_ms,
            "request_timeout_ms": min(30_000, timeout_ms // 2),  # so that a lost answer leaves time to ask again
            "max_block_ms": timeout_ms,
            "bootstrap_timeout_ms": min(30_000, timeout_ms),
            "allow_auto_create_topics": False,  # a mistyped prefix must not make a topic
            "metrics_enabled": False,
            **kafka_options,
        }
        try:
            self._kafka = KafkaProducer(
                bootstrap_servers=bootstrap_servers, acks="all", enable_idempotence=True, **options
            )
        except KafkaConfigurationError as err:
            raise ValueError(str(err)) from err
        except KafkaError as err:
            cause = f"no Kafka answers at {bootstrap_servers} (address, TLS or SASL settings?): {err}"
            raise DeliveryError("any topic", "-", cause) from err

    def send(self, message: Message) -> None:
        """Hand over one message; returns before it is acknowledged.

        Waits while too much is in flight. Raises DeliveryError for this or an earlier message, MessageTooLarge.
        """
        self.raise_errors()
        size = len(message.value or b"")
        if size > MAX_VALUE_BYTES:
            raise MessageTooLarge(f"{_id(message)} has {size} bytes, more than {MAX_VALUE_BYTES}")
        size += len(message.key) + sum(len(name) + len(value) for name, value in message.headers)
        ticket = _Ticket(topic=message.topic, record_id=_id(message), size=size)
        with self._room:
            self._room.wait_for(lambda: self._failed or self._fits(size), timeout=self._timeout)
            self.raise_errors()  # with the lock held: whoever else waits must not take this message for sent
            if not self._fits(size):
                cause = f"{self._used} bytes wait for acknowledgement; Kafka is slow or away"
                raise DeliveryError(message.topic, ticket.record_id, cause)
            self._used += size
            self._waiting[id(ticket)] = ticket
        try:
            future = self._kafka.send(
                message.topic, value=message.value, key=message.key, headers=list(message.headers)
            )
        except BaseException as err:
            self._done(ticket, None)
            if isinstance(err, KafkaTimeoutError):
                cause = "the topic does not exist (create it with `earful topics create`), or Kafka is away"
                raise DeliveryError(message.topic, ticket.record_id, cause) from err
            if isinstance(err, KafkaError):
                raise DeliveryError(message.topic, ticket.record_id, str(err)) from err
            raise
        future.add_callback(lambda _: self._done(ticket, None))
        future.add_errback(lambda error: self._done(ticket, repr(error)))

    def flush(self) -> None:
        """Wait until every message is acknowledged. Raises DeliveryError if one was not, or not in time.

        Counts for itself: kafka-python's flush waits its timeout once for every batch.
        """
        with self._room:
            self._room.wait_for(lambda: self._failed or not self._waiting, timeout=self._timeout + _GRACE_SECONDS)
            late = list(self._waiting.values())
        self.raise_errors()
        cause = f"not acknowledged within {self._timeout} s; it may or may not arrive"
        if error := _as_one([DeliveryError(one.topic, one.record_id, cause) for one in late], len(late)):
            raise error

    def raise_errors(self) -> None:
        """Raise the first failed delivery since the last call, with the number of the others in its notes."""
        with self._room:
            told, count = list(self._errors), self._failed
            self._errors.clear()
            self._failed = 0
        if error := _as_one(told, count):
            raise error

    def close(self) -> None:
        """Send what is left and close. Raises one DeliveryError after that: the first, with all others in its notes."""
        if error := self._finish(self._timeout + _GRACE_SECONDS):
            raise error

    def _finish(self, seconds: float) -> DeliveryError | None:
        """Wait for every message, also after one has failed, and close. Returns what `close` raises."""
        try:
            with self._room:
                self._room.wait_for(lambda: not self._waiting, timeout=seconds)
                late = list(self._waiting.values())
                cause = f"not acknowledged within {seconds:g} s; it may or may not arrive"
                told = [*self._errors, *(DeliveryError(one.topic, one.record_id, cause) for one in late)]
                count = self._failed + len(late)
                self._errors.clear()
                self._failed = 0
            return _as_one(told, count)
        finally:
            self._stop(1.0)

    def _stop(self, timeout_seconds: float) -> None:
        try:
            self._kafka.close(timeout=timeout_seconds)
        except KafkaTimeoutError:
            # kafka-python 3.0.12 gives up before it has stopped its thread, which would then live for ever.
            self._kafka._sender.force_close()

    def _fits(self, size: int) -> bool:
        return self._used + size <= self._capacity

    def __enter__(self) -> Sender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif failed := self._finish(min(self._timeout, _LEAVING_SECONDS)):
            for line in (str(failed), *getattr(failed, "__notes__", ())):
                error.add_note(line)

    def _done(self, ticket: _Ticket, cause: str | None) -> None:
        with self._room:
            self._used -= ticket.size
            del self._waiting[id(ticket)]
            if cause is not None:
                self._failed += 1
                if len(self._errors) < _KEPT_ERRORS:
                    self._errors.append(DeliveryError(ticket.topic, ticket.record_id, cause))
            self._room.notify_all()


def _as_one(told: list[DeliveryError], count: int) -> DeliveryError | None:
    """The first of the errors, with the ids of the others in its notes, and how many of `count` there are in all."""
    if not told:
        return None
    first, ids = told[0], [error.record_id for error in told[1:_KEPT_ERRORS]]
    if count > 1:
        first.add_note(f"{count - 1} more records: {', '.join(ids)}{', ...' if len(ids) < count - 1 else ''}")
    return first


def _id(message: Message) -> str:
    for name, value in message.headers:
        if name == "ce_id":
            return value.decode("utf-8", "replace")
    return message.key.decode("utf-8", "replace")
