"""One typed Settings object, read once at start from the environment (`EARFUL_*`) or a `.env` file.

Units stand in the names. An unknown `EARFUL_*` variable is refused, so that a typing error never becomes a silent default.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Literal
from uuid import UUID

import psycopg
from dotenv import dotenv_values
from psycopg.conninfo import conninfo_to_dict
from pydantic import Field, FilePath, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

__all__ = ["PROJECT", "Settings", "load"]

PROJECT = Path(__file__).resolve().parent
PREFIX = "EARFUL_"
#: compose.yaml's name for the tag of its images, often in the same .env; it sets nothing here.
OTHERS = {PREFIX + "VERSION"}
ENV_FILE = ".env"
_HOST = r"(?:\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._-]+)"
_PLACE = re.compile(rf"{_HOST}(?::(\d{{1,5}}))?")
_POSTGRES = re.compile(r"[a-z+]+://([^@/\s]*@)?(\[[0-9a-fA-F:.]+\]|[^:@/?\s]*)(?::(\d{1,5}))?(/[^@?\s]*)?(\?\S*)?")
#: What the model `aspects` takes with a request (sentiment/triton.py; a test holds them together).
MOST_KNOWN, MOST_KNOWN_CHARACTERS = 1_000, 20_000
_NOT_ENCODED = re.compile(r"%(?![0-9a-fA-F]{2})|%00")


def place(given: str, problem: str) -> str:
    """host:port, or a host, without space around it. Raises ValueError(problem) where it is neither."""
    found = _PLACE.fullmatch(given.strip())
    if found is None or not is_port(found[1]):
        raise ValueError(problem)
    return found[0]


def is_port(given: str | None) -> bool:
    return given is None or (given.isdecimal() and int(given) in range(1, 65_536))


def check_postgres_servers(url: str) -> None:
    """Where libpq would go: what the query says counts, and what stands before it does not. Raises ValueError."""
    try:
        told = conninfo_to_dict("postgresql://" + url.partition("://")[2])
    except psycopg.ProgrammingError:
        raise ValueError("its query has what libpq knows no parameter for; it is ?NAME=VALUE&NAME=VALUE") from None
    hosts, ports = (str(told[name]).split(",") if name in told else [] for name in ("host", "port"))
    # The driver of the workers and that of the commands understand other numbers of ports differently.
    if not all(map(is_host, hosts)) or not all(map(is_port, ports)) or len(ports) not in (0, len(hosts) or 1):
        raise ValueError(
            "its hosts are names, addresses or folders of a socket, its ports numbers up to 65535, as many as hosts or none:"
            " ?host=a,b&port=5432,5432; the query's count, not those before it"
        )


def is_host(given: str) -> bool:
    """A name, an address, or a socket's folder or abstract name."""
    if given.startswith(("/", "@")) or re.fullmatch(r"[A-Za-z0-9._-]+", given):
        return True
    try:
        return bool(ipaddress.ip_address(given))
    except ValueError:
        return False


def read_known_aspects(file: Path) -> dict[str, tuple[str, ...]]:
    """A product's name -> its aspects. Raises ValueError naming the file, and the product whose list is wrong."""
    try:
        held = json.loads(file.read_text("utf-8"))
        json.dumps(held, ensure_ascii=False).encode()  # half a surrogate pair, escaped, is JSON but no text
    except OSError as err:
        raise ValueError(f"{file} cannot be read ({err.strerror})") from None
    except ValueError as err:
        raise ValueError(f"{file} is no JSON in UTF-8 ({err})") from None
    if not isinstance(held, dict):
        raise ValueError(f'{file} is no object of lists: {{"PRODUCT": ["ASPECT", ...]}}')
    for product, aspects in held.items():
        if not isinstance(aspects, list) or not all(isinstance(one, str) and one.strip() for one in aspects):
            raise ValueError(f"{file}: of {product!r} it has no list of words")
        if len(aspects) > MOST_KNOWN or sum(map(len, aspects)) > MOST_KNOWN_CHARACTERS:
            most = f"{MOST_KNOWN:,} aspects of {MOST_KNOWN_CHARACTERS:,} characters together"
            raise ValueError(f"{file}: {product!r} has too long a list, {most} are the most")
    return {product: tuple(aspects) for product, aspects in held.items()}


class Settings(BaseSettings):
    """Everything that a deployment may set. Times are seconds, sizes bytes or counts."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_ignore_empty=True,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    home: Path = Field(Path(".earful"), description="Folder of the local stack: data, logs, endpoints.json")

    kafka_bootstrap_servers: str = Field("127.0.0.1:9092", description="host:port, several with commas")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="As the listener speaks"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="Used with a SASL protocol only"
    )
    kafka_sasl_username: str = Field("", description="Kafka's user")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="Its password")
    kafka_ssl_cafile: FilePath | None = Field(None, description="PEM file of Kafka's authority; else the system's")
    # As many as stream.topics leaves room for; a test holds them together.
    topic_prefix: str = Field(
        "", pattern=r"^[A-Za-z0-9._-]{0,225}$", description="Prefix of every topic and group, such as `acme.`"
    )
    partitions: int = Field(6, ge=1, description="Partitions of a topic that `earful topics create` makes")
    replication_factor: int = Field(1, ge=1, description="Copies of a topic that `earful topics create` makes")

    postgres_url: SecretStr = Field(
        SecretStr("postgresql+psycopg://postgres@127.0.0.1:5432/earful"),
        description="libpq's parameters may follow: `?sslmode=verify-full&sslrootcert=/etc/ca.pem`",
    )

    triton_url: str = Field("127.0.0.1:8001", description="gRPC address, host:port")
    triton_ssl: bool = Field(
        False, description="TLS to Triton; GRPC_DEFAULT_SSL_ROOTS_FILE_PATH names an own authority"
    )
    speech_model: Literal["whisper", "phi4"] = Field("whisper", description="Triton's model for calls")

    known_aspects: Annotated[Mapping[str, tuple[str, ...]], NoDecode] = Field(
        {},
        description='JSON file `{"PRODUCT": ["ASPECT", ...]}`: words that are aspects wherever a text on it has them',
    )
    run: UUID | None = Field(None, description="Results go under this run; the current one when not set")
    instance_id: str | None = Field(
        None, description="Kafka static membership: a stable id of each worker from its supervisor"
    )
    session_timeout_seconds: int = Field(30, ge=6, description="Kafka declares a silent worker dead after this")

    # A third of the rebalance timeout (90 s): a revoke waits for the batch in hand.
    batch_deadline_seconds: float = Field(25.0, gt=0, description="A batch is given up and tried again after this")
    batch_wait_seconds: float = Field(0.05, gt=0, description="How long a batch may wait to fill")
    # Live calls send a chunk each 200 ms. Taken as they come, one or two made a transaction, which cost more than recognition.
    audio_wait_seconds: float = Field(
        0.3,
        ge=0,
        description="How long Kafka may hold live audio back until more is there; adds up to that to a row's delay",
    )
    # Only a backlog fills a batch. 1024 chunks: a transaction and the saved states of its calls cost a quarter of what they
    # cost with 256. 64 utterances keep two cores busy for some 6 s; more only lengthens what a kill repeats.
    audio_batch: int = Field(
        1024, ge=1, description="Chunks of audio worked on at once, in the batches of all partitions"
    )
    utterance_batch: int = Field(64, ge=1, description="Utterances worked on at once, in the batches of all partitions")
    # A call has some 50 utterances of the customer: 8 calls are 400 requests, well inside the deadline.
    call_batch: int = Field(
        8, ge=1, description="Calls to summarize worked on at once, in the batches of all partitions"
    )
    review_batch: int = Field(256, ge=1, description="Reviews worked on at once, in the batches of all partitions")
    # As many as utterances are worked on.
    inflight_requests: int = Field(64, ge=1, description="Requests of one worker in flight to Triton")

    # Decoded audio and open calls are copied some four times on their way: 64 MB make a peak of 250.
    batch_bytes: int = Field(64 * 1024 * 1024, ge=1, description="Records of a batch, and audio worked on at once")
    open_calls_bytes: int = Field(
        256 * 1024 * 1024, ge=0, description="Of open calls in the segmenter's memory; the others wait in Postgres"
    )

    reorder_chunks: int = Field(20, ge=0, description="A missing chunk is given up when more later ones than this came")
    call_silence_timeout_seconds: float = Field(120.0, gt=0, description="A silent call is closed after this")
    paused_call_timeout_seconds: float = Field(1800.0, gt=0, description="A paused call is closed after this")

    watchdog_seconds: float = Field(60.0, gt=0, description="Lag with a still ledger for so long: the worker leaves")
    # 20 000 rows of at most about 4 kB: 80 MB that a broker outage may pile up before workers pause.
    outbox_limit: int = Field(20_000, ge=1, description="Workers pause while more messages wait for Kafka")
    dead_letters_in_a_row: int = Field(
        10_000, ge=1, description="A worker stops when more records of a partition in a row can never succeed"
    )
    decoder_memory_bytes: int = Field(512 * 1024 * 1024, ge=1, description="Of the process that decodes audio")
    decoder_cpu_seconds: int = Field(2, ge=1, description="CPU that decoding one chunk of audio may take")
    health_host: str = Field("127.0.0.1", description="Where /live, /ready and /metrics listen")
    health_port: int | None = Field(
        None,
        ge=1,
        le=65_532,
        description="Their port, no endpoint when not set; `worker all` and `earful up` take this and the next three",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field("INFO", description="Of a worker's own log lines")

    @field_validator("kafka_bootstrap_servers")
    @classmethod
    def _are_hosts(cls, servers: str) -> str:
        problem = "it is host:port, several with commas, without a protocol before it"
        return ",".join(place(one, problem) for one in servers.split(","))

    @field_validator("triton_url")
    @classmethod
    def _is_grpc(cls, url: str) -> str:
        return place(url, "it is host:port of Triton's gRPC, without a protocol before it")

    @field_validator("known_aspects", mode="before")
    @classmethod
    def _is_in_a_file(cls, given: object) -> object:
        return read_known_aspects(Path(given)) if isinstance(given, str | Path) else given

    # Here, because libpq names in its errors what it takes for the host: a part of the password.
    @field_validator("postgres_url")
    @classmethod
    def _is_postgres(cls, url: SecretStr) -> SecretStr:
        given = url.get_secret_value()
        if not given.startswith(("postgresql://", "postgresql+psycopg://", "postgres://")):
            raise ValueError("it begins with postgresql://")
        found = _POSTGRES.fullmatch(given)
        if found is None or not is_port(found[3]) or _NOT_ENCODED.search(given):
            raise ValueError(
                "it is postgresql://USER:PASSWORD@HOST:PORT/DATABASE; percent-encode the password's characters:"
                " @ is %40, / is %2F, % is %25; of several hosts the query has the list: ?host=a,b&port=5432,5432"
            )
        check_postgres_servers(given)
        return url


def load() -> Settings:
    """Read the environment once. Raises ValueError naming an unknown or wrong `EARFUL_*` variable, never its value."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | OTHERS
    given = {name.upper() for name in (*os.environ, *dotenv_values(ENV_FILE))}  # their case counts for neither
    unknown = sorted(name for name in given if name.startswith(PREFIX) and name not in known)
    if unknown:
        near = sorted({match for name in unknown for match in get_close_matches(name, known)})
        hint = f"; did you mean {' or '.join(near)}?" if near else "; settings.py lists them all"
        raise ValueError(f"unknown setting {', '.join(unknown)}{hint}")
    try:
        return Settings()
    except ValidationError as err:
        wrong = [f"{PREFIX}{one['loc'][0]}".upper() + f": {one['msg']}" for one in err.errors(include_input=False)]
        raise ValueError("; ".join(wrong)) from None  # the cause would show the value
