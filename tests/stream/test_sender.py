"""The sender's account of what is in flight, against real brokers that refuse, hang and come back."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from stack.kafka import Kafka
from stack.ports import Ports
from stream.events import Message
from stream.producers import DeliveryError
from stream.sender import MAX_IN_FLIGHT_BYTES, Sender, _Ticket
from tests.stream.broker import Broker, create, records


def test_a_refused_record_is_named(broker: Broker) -> None:
    """The broker takes only tiny batches here, so that the refusal comes after `send` has returned."""
    topic = f"{broker.prefix}tiny"
    create(broker.bootstrap, {topic: {"max.message.bytes": "500"}})
    sender = Sender(broker.bootstrap, timeout_seconds=20)
    sender.send(Message(topic=topic, key=b"call-9", value=b"v" * 1_000, headers=(("ce_id", b"call-9/4"),)))
    with pytest.raises(DeliveryError, match="call-9/4") as failed:
        sender.close()
    assert failed.value.topic == topic


def _leave(broker: Broker, given: list[Message]) -> LookupError:
    """Hand these over and leave the block by an error at once."""

    def work() -> None:
        with Sender(broker.bootstrap, timeout_seconds=20) as sender:
            for message in given:
                sender.send(message)
            raise LookupError("no such file")

    with pytest.raises(LookupError) as own:
        work()
    return own.value


def test_an_error_of_the_callers_own_loses_nothing_that_was_handed_over(broker: Broker) -> None:
    topic = f"{broker.prefix}left"
    create(broker.bootstrap, {topic: {}})
    own = _leave(broker, [Message(topic=topic, key=b"k", value=b"%d" % number * 900_000) for number in range(10)])
    assert not hasattr(own, "__notes__")
    assert [(record.value or b"")[:1] for record in records(broker.bootstrap, topic)] == [b"%d" % n for n in range(10)]


def test_an_error_of_the_callers_own_says_what_failed_besides(broker: Broker) -> None:
    topic = f"{broker.prefix}tiny-too"
    create(broker.bootstrap, {topic: {"max.message.bytes": "500"}})
    own = _leave(broker, [Message(topic=topic, key=b"call-9", value=b"v" * 1_000)])
    assert "record call-9 did not reach" in str(own.__notes__)


def test_closing_waits_for_all_and_tells_of_all(broker: Broker) -> None:
    """One record is refused while another is still on its way: it too gets its time, and its end is told."""
    topic = f"{broker.prefix}tiny-three"
    create(broker.bootstrap, {topic: {"max.message.bytes": "500"}})
    sender = Sender(broker.bootstrap, timeout_seconds=20)
    slow = _Ticket(topic=topic, record_id="slow", size=1)
    sender._waiting[id(slow)], sender._used = slow, slow.size
    with ThreadPoolExecutor(1) as pool:
        sender.send(Message(topic=topic, key=b"refused", value=b"v" * 1_000))
        closing = pool.submit(sender.close)
        deadline = time.monotonic() + 20
        while not (sender._failed or closing.done()):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        sender._done(slow, "expired")
        with pytest.raises(DeliveryError) as failed:
            closing.result(20)
    assert (failed.value.record_id, failed.value.__notes__) == ("refused", ["1 more records: slow"])


def test_a_failure_that_two_threads_wake_to_lets_neither_send_uncounted(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait for room when a delivery fails. One raises it; the other's message must still be counted until it is there."""
    topic = broker.topics.reviews_submitted
    both = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool, Sender(broker.bootstrap, timeout_seconds=20) as sender:
        stuck = _Ticket(topic=topic, record_id="stuck", size=MAX_IN_FLIGHT_BYTES)
        sender._waiting[id(stuck)], sender._used = stuck, stuck.size
        raise_errors = sender.raise_errors

        def together() -> None:
            with suppress(threading.BrokenBarrierError):
                both.wait(1)
            raise_errors()

        def send(name: str) -> str:
            try:
                sender.send(Message(topic=topic, key=name.encode(), value=b"v" * 1_000))
            except DeliveryError as err:
                return err.record_id
            return "sent"

        waiting = [pool.submit(send, name) for name in ("a", "b")]
        deadline = time.monotonic() + 10
        while len(sender._room._waiters) < 2:  # type: ignore[attr-defined]
            assert time.monotonic() < deadline
            time.sleep(0.01)
        monkeypatch.setattr(sender, "raise_errors", together)
        sender._done(stuck, "expired")
        assert sorted(one.result(20) for one in waiting) == ["sent", "stuck"]
        monkeypatch.undo()
    assert (sender._used, sender._waiting) == (0, {})


def _all_told(errors: list[DeliveryError]) -> str:
    return " ".join(f"{error} {getattr(error, '__notes__', '')}" for error in errors)


@pytest.fixture
def own_kafka(tmp_path: Path) -> Iterator[Kafka]:
    """A broker that this test may hurt."""
    kafka = Kafka(tmp_path, Ports(tmp_path))
    kafka.start()
    yield kafka
    kafka.stop()


def test_a_broker_that_hangs_fills_the_bound_and_then_every_record_is_accounted_for(own_kafka: Kafka) -> None:
    create(own_kafka.bootstrap, {"t": {}})
    size, bound = 900_000, 4_000_000
    sender = Sender(own_kafka.bootstrap, timeout_seconds=3, max_in_flight_bytes=bound)

    def send(name: str) -> None:
        headers = (("ce_id", name.encode()),)
        sender.send(Message(topic="t", key=b"k", value=b"v" * size, headers=headers))

    send("before")
    sender.flush()
    assert own_kafka.pid is not None
    os.kill(own_kafka.pid, signal.SIGSTOP)
    try:
        taken = [f"r-{number}" for number in range(bound // size)]
        for name in taken:
            send(name)
        with pytest.raises(DeliveryError) as blocked:  # for want of room, or because the first has expired
            send("one too many")
        told = [blocked.value]
        while not all(name in _all_told(told) for name in taken):
            with pytest.raises(DeliveryError) as failed:
                sender.flush()
            told.append(failed.value)
        with suppress(DeliveryError):  # tells again of what was only late so far
            sender.close()
    finally:
        os.kill(own_kafka.pid, signal.SIGCONT)


def test_a_broker_that_comes_back_in_time_gets_every_record_once(own_kafka: Kafka) -> None:
    create(own_kafka.bootstrap, {"t": {}})
    assert own_kafka.pid is not None
    with Sender(own_kafka.bootstrap, timeout_seconds=60) as sender:
        sender.send(Message(topic="t", key=b"k", value=b"0"))
        sender.flush()
        os.kill(own_kafka.pid, signal.SIGSTOP)
        try:
            for number in range(1, 10):
                sender.send(Message(topic="t", key=b"k", value=str(number).encode()))
        finally:
            os.kill(own_kafka.pid, signal.SIGCONT)
    assert [record.value for record in records(own_kafka.bootstrap, "t")] == [b"%d" % n for n in range(10)]
