"""One typed Settings object, read once at start from the environment (`EARFUL_*`) or a `.env` file.

Units stand in the names. An unknown `EARFUL_*` variable is refused, so that a typing error never becomes a silent default.
"""

from __future__ import annotations

import os
from difflib import get_close_matches
from pathlib import Path
from typing import Literal
from uuid import UUID

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

__all__ = ["PROJECT", "Settings", "load"]

PROJECT = Path(__file__).resolve().parent
PREFIX = "EARFUL_"
#: stack.process marks the processes it starts with this variable; it sets nothing.
MARK = PREFIX + "STACK"


class Settings(BaseSettings):
    """Everything that a deployment may set. Times are seconds, sizes bytes or counts."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_file=".env", extra="ignore", frozen=True)

    home: Path = Field(Path(".earful"), description="Folder of the local stack: data, logs, endpoints.json")

    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str = ""
    kafka_sasl_password: SecretStr = SecretStr("")
    kafka_ssl_cafile: Path | None = None
    topic_prefix: str = ""
    partitions: int = Field(6, ge=1, description="Partitions of a topic that `earful topics create` makes")
    replication_factor: int = Field(1, ge=1)

    postgres_url: SecretStr = SecretStr("postgresql+psycopg://postgres@127.0.0.1:5432/earful")

    triton_url: str = Field("127.0.0.1:8001", description="gRPC address, host:port")
    triton_ssl: bool = False
    speech_model: Literal["whisper", "phi4"] = "whisper"

    run: UUID | None = Field(None, description="Results go under this run; the current one when not set")
    instance_id: str | None = Field(None, description="Kafka static membership: a stable id from the supervisor")
    session_timeout_seconds: int = Field(30, ge=6, description="Kafka declares a silent worker dead after this")

    # A third of the rebalance timeout (90 s): a revoke waits for the batch in hand.
    batch_deadline_seconds: float = Field(25.0, gt=0)
    batch_wait_seconds: float = Field(0.02, gt=0, description="How long a batch may wait to fill")
    # 2 Triton instances stay busy from 32 utterances; more only lengthens what a kill repeats.
    audio_batch: int = Field(256, ge=1)
    utterance_batch: int = Field(32, ge=1)
    review_batch: int = Field(128, ge=1)
    # Requests in flight to one model: enough for dynamic batches of 32 on two instances.
    inflight_requests: int = Field(64, ge=1)

    reorder_chunks: int = Field(20, ge=0, description="A missing seq is given up when so many later chunks came")
    call_silence_timeout_seconds: float = Field(120.0, gt=0, description="A silent call is closed after this")
    paused_call_timeout_seconds: float = Field(1800.0, gt=0)

    watchdog_seconds: float = Field(60.0, gt=0, description="Lag with a still ledger for so long: leave")
    # 20 000 rows of at most about 4 kB: 80 MB that a broker outage may pile up before workers pause.
    outbox_limit: int = Field(20_000, ge=1)
    decoder_memory_bytes: int = Field(512 * 1024 * 1024, ge=1)
    decoder_cpu_seconds: int = Field(2, ge=1)
    health_host: str = Field("127.0.0.1", description="Where /live, /ready and /metrics listen")
    health_port: int | None = Field(None, description="Their port; no endpoint when not set")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"


def load() -> Settings:
    """Read the environment once. Raises ValueError naming an unknown `EARFUL_*` variable."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {MARK}
    unknown = sorted(name for name in os.environ if name.startswith(PREFIX) and name not in known)
    if unknown:
        near = sorted({match for name in unknown for match in get_close_matches(name, known)})
        hint = f"; did you mean {' or '.join(near)}?" if near else "; settings.py lists them all"
        raise ValueError(f"unknown setting {', '.join(unknown)}{hint}")
    return Settings()
