"""Each server answers what its users will ask of it, on loopback only."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import psutil
import psycopg
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient, NewTopic
from kafka.errors import KafkaError
from tritonclient.grpc import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from stack.kafka import Kafka, escaped
from stack.ports import Ports
from stack.postgres import Postgres, _let_others_through
from stack.process import StackError, marked
from stack.stack import Stack
from tests.homes import temporary_home


def test_every_server_is_healthy(stack: Stack) -> None:
    assert {server.name: server.healthy() for server in stack.servers} == {
        "kafka": True,
        "postgres": True,
        "triton": True,
    }


def test_endpoints_are_written_for_their_owner_only(stack: Stack) -> None:
    path = stack.home / "endpoints.json"
    assert json.loads(path.read_text()) == stack.endpoints
    assert path.stat().st_mode & 0o077 == 0


def test_everything_listens_on_loopback_only(stack: Stack) -> None:
    addresses = {
        connection.laddr.ip.removeprefix("::ffff:")
        for process in marked(stack.home)
        for connection in process.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN
    }
    assert addresses == {"127.0.0.1"}


def test_kafka_keeps_a_record(stack: Stack) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stack.endpoints["kafka"])
    admin.create_topics([NewTopic("stack.test.v1", 1, 1)])
    admin.close()
    producer = KafkaProducer(bootstrap_servers=stack.endpoints["kafka"])
    assert producer.send("stack.test.v1", b"hello", key=b"k").get(10).offset == 0
    producer.close()
    consumer = KafkaConsumer(bootstrap_servers=stack.endpoints["kafka"], auto_offset_reset="earliest")
    consumer.assign([TopicPartition("stack.test.v1", 0)])
    assert next(iter(consumer)).value == b"hello"
    consumer.close()


def test_kafka_makes_no_topic_by_itself(stack: Stack) -> None:
    admin = KafkaAdminClient(bootstrap_servers=stack.endpoints["kafka"])
    producer = KafkaProducer(bootstrap_servers=stack.endpoints["kafka"], max_block_ms=500)
    with pytest.raises(KafkaError):
        producer.send("nobody.made.this", b"x").get(1)
    producer.close()
    assert "nobody.made.this" not in admin.list_topics()
    admin.close()


def test_postgres_is_18_and_wants_its_password(stack: Stack) -> None:
    url = stack.endpoints["postgres_url"]
    with psycopg.connect(url) as connection:
        assert connection.info.server_version // 10000 == 18
        assert connection.info.dbname == "earful"
    secret = url.split("@")[0].rsplit(":", 1)[1]
    with pytest.raises(psycopg.OperationalError, match="password"):
        psycopg.connect(url.replace(secret, "wrong"))


@pytest.fixture(name="triton")
def _triton(stack: Stack) -> InferenceServerClient:
    return InferenceServerClient(stack.endpoints["triton"])


def _tensor(name: str, array: np.ndarray, datatype: str) -> InferInput:
    tensor = InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor


def _text(name: str, text: str) -> InferInput:
    return _tensor(name, np.array([text.encode()], np.object_), "BYTES")


def _speech(samples: np.ndarray, task: str = "transcribe") -> list[InferInput]:
    rate = _tensor("RATE", np.array([16000], np.int32), "INT32")
    return [_tensor("AUDIO", samples.astype(np.float32), "FP32"), rate, _text("TASK", task)]


def test_the_test_whisper_hears_the_same_words_in_the_same_audio(triton: InferenceServerClient) -> None:
    one = triton.infer("whisper", _speech(np.ones(800))).as_numpy("TEXT")[0]
    again = triton.infer("whisper", _speech(np.ones(800))).as_numpy("TEXT")[0]
    other = triton.infer("whisper", _speech(np.ones(801))).as_numpy("TEXT")[0]
    assert one == again != other


def test_errors_are_per_request(triton: InferenceServerClient) -> None:
    with pytest.raises(InferenceServerException, match="unimplemented: ") as unimplemented:
        triton.infer("whisper", _speech(np.ones(8), task="summarize"))
    assert "UNIMPLEMENTED" in str(unimplemented.value.status())
    with pytest.raises(InferenceServerException, match="invalid: ") as invalid:
        triton.infer("whisper", _speech(np.ones(16000 * 60)))
    assert "INVALID_ARGUMENT" in str(invalid.value.status())


def test_the_test_aspects_and_cvib_agree_on_spans(triton: InferenceServerClient) -> None:
    text = "The Battery is great, but delivery was late."
    found = triton.infer("aspects", [_text("TEXT", text)])
    start, end = found.as_numpy("START"), found.as_numpy("END")
    assert [text[a:b] for a, b in zip(start, end, strict=True)] == ["Battery", "delivery"]
    assert found.as_numpy("ASPECT_ID").tolist() == [b"battery", b"delivery"]
    spans = [_tensor("START", start, "INT32"), _tensor("END", end, "INT32")]
    rows = triton.infer("cvib", [_text("TEXT", "The price is fair"), *spans[:0], *_spans(4, 9)])
    assert rows.as_numpy("PROBABILITIES").argmax(1).tolist() == [2]
    assert triton.infer("cvib", [_text("TEXT", text), *spans]).as_numpy("PROBABILITIES").shape == (2, 3)


def _spans(start: int, end: int) -> list[InferInput]:
    return [
        _tensor("START", np.array([start], np.int32), "INT32"),
        _tensor("END", np.array([end], np.int32), "INT32"),
    ]


def test_no_aspects_is_an_answer(triton: InferenceServerClient) -> None:
    assert triton.infer("aspects", [_text("TEXT", "Hello.")]).as_numpy("START").tolist() == []


def test_kafka_and_postgres_keep_their_files_in_a_home_of_any_name() -> None:
    """Kafka took such a name for another one, and made that folder."""
    with temporary_home(" ü x\\y€") as home:
        ports = Ports(home)
        servers = Kafka(home, ports), Postgres(home, ports)
        try:
            for server in servers:
                server.start()
            assert [server.healthy() for server in servers] == [True, True]
            for file in ("kafka/data/meta.properties", "postgres/data/PG_VERSION"):
                assert (home / file).exists(), file
        finally:
            for server in servers:
                server.stop()


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("broker,controller", "broker,controller"),
        ("/home/ü x\\y/😀", r"/home/\u00fc x\\y/\ud83d\ude00"),
        (" first\n\t", r"\ first\n\t"),
    ],
)
def test_what_java_reads_as_a_property_is_what_was_meant(value: str, written: str) -> None:
    """Its documentation, java.util.Properties.load: Latin-1, UTF-16 as \\uxxxx, no space in front."""
    assert escaped(value) == written


def test_a_folder_that_is_opened_for_postgres_is_named_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "home" / "postgres"
    folder.mkdir(parents=True)
    for _ in range(2):  # pytest's own folders are opened by the first
        caplog.clear()
        folder.parent.chmod(0o700)
        _let_others_through(folder)
    [record] = caplog.records
    assert f"every user may pass through {folder.parent} now, as nobody must" in record.getMessage()
    assert folder.parent.stat().st_mode & 0o777 == 0o701
    _let_others_through(folder)
    assert len(caplog.records) == 1


def test_a_home_has_one_owner(stack: Stack) -> None:
    with pytest.raises(StackError, match="already running"):
        Stack(stack.home, model_repositories=[]).start()
    assert all(server.healthy() for server in stack.servers)
