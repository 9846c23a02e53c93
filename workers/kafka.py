"""Kafka's clients, made from the settings: faust's broker settings, aiokafka's producer and consumers, kafka-python's admin."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import aiokafka.errors
import faust
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from kafka import KafkaAdminClient
from kafka.errors import KafkaError, NoError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError, for_code

from errors import AccessRefused, EarfulError, Transient, Undelivered
from settings import Settings
from stream.records import Message
from workers import lenient

__all__ = [
    "NoTopic",
    "ProducerBroken",
    "admin",
    "aio_options",
    "check_producer",
    "credentials",
    "first_offset_from",
    "only_markers",
    "produce",
    "producer",
    "security",
    "topic_ids",
]

lenient.install()

#: A healthy broker answers such a question within milliseconds.
ANSWER_SECONDS = 10.0


def ssl_context(settings: Settings) -> ssl.SSLContext | None:
    if not settings.kafka_security_protocol.endswith("SSL"):
        return None
    return ssl.create_default_context(cafile=settings.kafka_ssl_cafile)


def aio_options(settings: Settings) -> dict[str, Any]:
    """Connection options for aiokafka and kafka-python."""
    options: dict[str, Any] = {
        "bootstrap_servers": settings.kafka_bootstrap_servers,
        "security_protocol": settings.kafka_security_protocol,
        "ssl_context": ssl_context(settings),
    }
    if settings.kafka_security_protocol.startswith("SASL"):
        options |= {
            "sasl_mechanism": settings.kafka_sasl_mechanism,
            "sasl_plain_username": settings.kafka_sasl_username,
            "sasl_plain_password": settings.kafka_sasl_password.get_secret_value(),
        }
    return options


def security(settings: Settings) -> dict[str, Any]:
    """The same without the servers; kafka-python's names for them are the same."""
    options = aio_options(settings)
    del options["bootstrap_servers"]
    return options


def credentials(settings: Settings) -> Any:
    """faust's form of the same."""
    context = ssl_context(settings)
    if settings.kafka_security_protocol.startswith("SASL"):
        return faust.SASLCredentials(
            username=settings.kafka_sasl_username,
            password=settings.kafka_sasl_password.get_secret_value(),
            mechanism=settings.kafka_sasl_mechanism,
            ssl_context=context,
        )
    return faust.SSLCredentials(context=context) if context else None


class Trimmed(EarfulError):
    """Kafka removed records before they were read: leave; the next start notes which, and goes on behind them."""


class NoTopic(Transient):
    """Somebody has yet to make the topic."""


class ProducerBroken(EarfulError):
    """Whatever this producer sends is refused from now on: leave, the next start has another one."""


#: The client and the broker disagree for ever about what was sent. aiokafka gets there when a message that has its number
#: already is given up, because its partition has no leader for as long as a request may take: the numbers have a gap then.
_BROKEN = (
    aiokafka.errors.OutOfOrderSequenceNumber,
    aiokafka.errors.UnknownProducerId,
    aiokafka.errors.ProducerFenced,
)
#: A message that says too much: whoever made it is at fault, and no other producer will do.
_TOO_LARGE = (aiokafka.errors.MessageSizeTooLargeError, aiokafka.errors.RecordListTooLargeError)
#: A healthy broker takes the next message within milliseconds. An idempotent producer tries for ever, so somebody must stop
#: waiting, and well before a batch's deadline, which would speak against the records.
TAKEN_SECONDS = 8.0


def check_producer(err: aiokafka.errors.KafkaError) -> None:
    """Raises ProducerBroken if this is an error of the producer's own, and not of a message, a topic or the broker."""
    # The bare class is what everybody gets whose message was with a sender that died of an error in itself.
    if isinstance(err, _BROKEN) or type(err) is aiokafka.errors.KafkaError:
        raise ProducerBroken(f"Kafka takes nothing more of this producer ({type(err).__name__}: {err})") from err


def producer(settings: Settings) -> AIOKafkaProducer:
    """Idempotent; its default partitioner is murmur2, as Java's."""
    return AIOKafkaProducer(**aio_options(settings), enable_idempotence=True, acks="all", linger_ms=5)


async def produce(producer: AIOKafkaProducer, messages: Sequence[Message], partition: int | None = None) -> None:
    """Produce in order, to their keys' partitions or to this one, and wait for the broker.

    Raises Undelivered without its consent, Transient for messages that are too large, ProducerBroken where no other will do.
    """
    pending: list[asyncio.Future[object]] = []
    try:
        for one in messages:
            async with asyncio.timeout(TAKEN_SECONDS):  # there is room for it once some before it were taken
                taken = await producer.send(
                    one.topic, key=one.key, value=one.value, headers=list(one.headers), partition=partition
                )
            pending.append(taken)
        for taken in pending:
            async with asyncio.timeout(TAKEN_SECONDS):
                await taken
    except TimeoutError as err:
        raise Undelivered(f"Kafka did not take it within {TAKEN_SECONDS:g} s") from err
    except _TOO_LARGE as err:
        raise Transient("Kafka did not take it: it is too large for its topic") from err
    except aiokafka.errors.KafkaError as err:
        check_producer(err)
        raise Undelivered(f"Kafka did not take it ({type(err).__name__})") from err
    finally:
        asyncio.gather(*pending, return_exceptions=True)  # marks every error as seen, also after the first


def admin(settings: Settings) -> KafkaAdminClient:
    return KafkaAdminClient(**aio_options(settings), client_id="earful-admin", bootstrap_timeout_ms=10_000)


async def topic_ids(settings: Settings, topics: list[str]) -> dict[str, UUID]:
    """Kafka's own id of each topic: a topic that was deleted and made again has another one."""

    def ask() -> dict[str, UUID]:
        try:
            client = admin(settings)
            try:
                found = client.describe_topics(topics)
            finally:
                client.close()
        except KafkaError as err:
            raise Transient(f"Kafka does not tell its topics ({type(err).__name__})") from err
        errors = {entry["name"]: for_code(entry.get("error_code") or 0) for entry in found}
        for name, error in errors.items():
            if error is TopicAuthorizationFailedError:
                raise AccessRefused(
                    f"Kafka does not let this user describe topic {name}; docs/own-servers.md has the least rights"
                )
        absent = sorted(
            set(topics) - {name for name, error in errors.items() if error is not UnknownTopicOrPartitionError}
        )
        if absent:
            raise NoTopic(f"topic {', '.join(absent)} does not exist; `earful topics create` makes it")
        for name, error in errors.items():
            if error is not NoError:
                raise Transient(f"Kafka does not tell of topic {name} yet ({error.__name__})")
        return {entry["name"]: UUID(str(entry["topic_id"])) for entry in found}

    return await asyncio.to_thread(ask)


async def first_offset_from(settings: Settings, topic: str, partition: int, offset: int) -> int:
    """Offset of the first record at or after `offset`: tells a gap in the log itself from one in the delivery.

    Raises what `_reading` raises.
    """
    place = TopicPartition(topic, partition)
    async with _reading(settings, place, offset) as consumer:
        return int((await consumer.getone(place)).offset)


async def only_markers(settings: Settings, topic: str, partition: int, first: int, end: int) -> bool:
    """Whether the offsets first..end-1 hold no record, only what ends a producer's transaction. Raises what `_reading` raises."""
    place = TopicPartition(topic, partition)
    async with _reading(settings, place, first) as consumer:
        while await consumer.position(place) < end:
            if await consumer.getmany(place, timeout_ms=200, max_records=1):
                return False
    return True


@asynccontextmanager
async def _reading(settings: Settings, place: TopicPartition, offset: int) -> AsyncIterator[AIOKafkaConsumer]:
    """A consumer at this offset. Raises Trimmed where the log begins after it, Transient after ANSWER_SECONDS."""
    consumer = AIOKafkaConsumer(**aio_options(settings), enable_auto_commit=False, auto_offset_reset="none")
    where = f"{place.topic}/{place.partition}"
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            await consumer.start()
            consumer.assign([place])
            consumer.seek(place, offset)
            yield consumer
    except aiokafka.errors.OffsetOutOfRangeError as err:
        raise Trimmed(f"{where} begins after offset {offset}, which was not read yet") from err
    except (TimeoutError, aiokafka.errors.KafkaError) as err:
        raise Transient(f"{where} could not be read at offset {offset}") from err
    finally:
        await consumer.stop()
