"""Test 7: a bad network between the workers and Kafka, Postgres and Triton. Kafka's advertised address is the proxy's."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest

from stack.kafka import Kafka
from stack.ports import Ports
from stack.stack import Stack
from tests.conftest import make_stack
from tests.faults.chaos import Chaos
from tests.faults.load import Load
from tests.faults.proxy import FAIR, Proxy, Weather
from tests.faults.results import Figures
from tests.homes import temporary_home
from tests.workers.pipeline import STAGES

SEED = 7
SLICES = 8
VERDICTS = "SELECT count(*) FROM ingest.verdicts"
NAMES = ("kafka", "postgres", "triton")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wires:
    """Servers, and a proxy before each."""

    stack: Stack
    proxies: dict[str, Proxy]

    def settings(self, p: Chaos) -> dict[str, object]:
        url = urlsplit(p.url)
        login = url.netloc.rpartition("@")[0]
        through = url._replace(netloc=f"{login}@{self.proxies['postgres'].address}").geturl()
        return {
            "kafka_bootstrap_servers": self.proxies["kafka"].address,
            "postgres_url": through,
            "triton_url": self.proxies["triton"].address,
        }

    def weather(self, weather: Weather, *names: str) -> None:
        for name in names or NAMES:
            self.proxies[name].weather = weather

    def cut(self, share: float) -> None:
        """Resets this share of the open connections to each server, at least one."""
        for one in self.proxies.values():
            one.cut(share)

    def resets(self) -> int:
        """Of connections, since the test began."""
        return sum(one.resets for one in self.proxies.values())


@pytest.fixture
def wires(servers: Wires) -> Wires:
    """In fair weather, with nothing reset yet."""
    servers.weather(FAIR)
    for one in servers.proxies.values():
        one.resets = 0
    return servers


@pytest.fixture(scope="module")
def servers() -> Iterator[Wires]:
    """The broker has a second listener, whose advertised address is the proxy's: workers know no other."""
    with temporary_home() as home:
        ports = Ports(home)
        ports.choose("kafka", "kafka_controller", "kafka_behind", "kafka_proxy", "postgres_proxy", "triton_proxy")
        plain, behind = f"PLAINTEXT://127.0.0.1:{ports['kafka']}", f"BEHIND://127.0.0.1:{ports['kafka_behind']}"
        controller = f"CONTROLLER://127.0.0.1:{ports['kafka_controller']}"
        properties = {
            "listeners": f"{plain},{behind},{controller}",
            "advertised.listeners": f"{plain},BEHIND://127.0.0.1:{ports['kafka_proxy']},{controller}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,BEHIND:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }
        stack = make_stack(home)
        stack.kafka = Kafka(stack.home, ports, properties=properties)
        with stack:
            targets = {
                "kafka": ports["kafka_behind"],
                "postgres": urlsplit(stack.endpoints["postgres_url"]).port or 0,
                "triton": int(stack.endpoints["triton"].rpartition(":")[2]),
            }
            proxies = {
                name: Proxy(ports[f"{name}_proxy"], target, seed=SEED + number)
                for number, (name, target) in enumerate(targets.items())
            }
            with proxies["kafka"], proxies["postgres"], proxies["triton"]:
                yield Wires(stack=stack, proxies=proxies)


def through(p: Chaos, wires: Wires) -> None:
    for stage in STAGES:
        p.worker(stage, **wires.settings(p))


def finish(
    p: Chaos, wires: Wires, figures: Figures, load: Load, expected: list[str], faults: str, seconds: float
) -> None:
    p.disturbed()
    p.wait(p.settled, "everything is done", seconds)
    p.verify(figures, load, faults, expected, resets=wires.resets(), restarts=len(p.exits))
    assert wires.resets() > 0, "no connection was reset"


@pytest.mark.chaos
@pytest.mark.proof(7)
@pytest.mark.timeout(400)
def test_resets(wires: Wires, small: Load, small_content: list[str], figures: Figures) -> None:
    """One in ten connections to each server breaks after some bytes; eight times one in ten of those that are open."""
    wires.weather(Weather(resets=0.1))
    with Chaos(wires.stack, audio_batch=16, review_batch=16) as p:
        through(p, wires)
        for items in small.slices(p.topics, SLICES):
            done = p.one(VERDICTS)
            p.send(items)
            p.wait(lambda done=done: p.tend() or p.one(VERDICTS) > done, "work goes on")  # type: ignore[misc]
            wires.cut(0.1)
        finish(p, wires, figures, small, small_content, "10 % of connections reset; 8 times 10 % of the open ones", 200)
        assert wires.resets() >= SLICES * len(NAMES)


@pytest.mark.slow
@pytest.mark.proof(7)
@pytest.mark.timeout(1_200)
@pytest.mark.parametrize("name", NAMES)
def test_latency_resets_and_silence(
    wires: Wires, small: Load, small_content: list[str], figures: Figures, name: str
) -> None:
    """2 s each way; every other connection reset; a minute in which nothing passes."""
    with Chaos(wires.stack) as p:
        through(p, wires)
        slices = small.slices(p.topics, 4)
        for weather, seconds in ((FAIR, 0), (Weather(latency_seconds=2), 30), (Weather(resets=0.5), 20)):
            wires.weather(weather, name)
            if weather.resets:  # else who has a connection keeps it, and none that begins is there to be reset
                wires.proxies[name].cut(1)
            p.send(next(slices))
            until = time.monotonic() + seconds
            p.wait(lambda until=until: p.tend() or time.monotonic() > until, "the weather", seconds + 5)  # type: ignore[misc]
        wires.weather(Weather(silence=True), name)
        p.send(next(slices))
        until = time.monotonic() + 60
        p.wait(lambda: p.tend() or time.monotonic() > until, "a minute of silence", 65)
        wires.weather(FAIR)
        finish(p, wires, figures, small, small_content, f"{name}: 2 s latency, 50 % resets, 60 s of silence", 300)
