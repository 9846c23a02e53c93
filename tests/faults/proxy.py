"""A TCP proxy with a bad network in it: connections that are reset, bytes that come late, silence.

One thread with an event loop of its own; the test changes `weather` from outside.
"""

from __future__ import annotations

import asyncio
import random
import socket
import struct
import threading
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["FAIR", "Proxy", "Weather"]

CHUNK = 64 << 10
#: How often a connection's bytes are looked at for a reset.
RESET_EVERY_BYTES = 256 << 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """`resets`: the share of connections that are cut off after some bytes. `silence`: nothing passes, nothing breaks."""

    resets: float = 0.0
    latency_seconds: float = 0.0
    silence: bool = False


FAIR = Weather()


class Proxy:
    """Listens on 127.0.0.1:`port` and passes everything to 127.0.0.1:`target`. Use as a context manager."""

    def __init__(self, port: int, target: int, *, seed: int) -> None:
        self.weather = FAIR
        self.resets = 0
        self._port, self._target = port, target
        self._dice = random.Random(seed)
        self._cuts: list[asyncio.Event] = []  # one for each open connection
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{port}", daemon=True)
        self._server: asyncio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        self._thread.start()
        self._server = asyncio.run_coroutine_threadsafe(
            asyncio.start_server(self._serve, "127.0.0.1", self._port), self._loop
        ).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def cut(self, share: float) -> None:
        """Resets this share of the connections that are open now, at least one of them."""
        asyncio.run_coroutine_threadsafe(self._cut(share), self._loop).result(10)

    async def _cut(self, share: float) -> None:
        count = min(len(self._cuts), max(1, round(share * len(self._cuts))))
        for one in self._dice.sample(self._cuts, count):
            one.set()

    async def _stop(self) -> None:
        assert self._server is not None
        self._server.close()
        rest = [one for one in asyncio.all_tasks() if one is not asyncio.current_task()]
        for one in rest:
            one.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        # After how many bytes this connection breaks, if it does.
        left = [self._dice.randrange(RESET_EVERY_BYTES) if self._dice.random() < self.weather.resets else -1]
        cut = asyncio.Event()
        self._cuts.append(cut)
        ends = [
            asyncio.create_task(self._pass(reader, back, left)),
            asyncio.create_task(self._pass(there, writer, left)),
            asyncio.create_task(cut.wait()),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._cuts.remove(cut)
            for one in ends:
                one.cancel()
            broken = left[0] == 0 or cut.is_set()
            self.resets += broken
            for writing in (writer, back):
                if broken:
                    reset(writing)
                writing.close()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, left: list[int]) -> None:
        """Until either end closes or this connection's bytes are used up."""
        while data := await reader.read(CHUNK):
            while self.weather.silence:
                await asyncio.sleep(0.05)
            if self.weather.latency_seconds:
                await asyncio.sleep(self.weather.latency_seconds)
            if left[0] > 0:
                data = data[: left[0]]
                left[0] -= len(data)
            writer.write(data)
            await writer.drain()
            if left[0] == 0:
                return


def reset(writer: asyncio.StreamWriter) -> None:
    """RST instead of FIN when it is closed; what was not sent is lost."""
    with_linger = struct.pack("ii", 1, 0)
    made: socket.socket | None = writer.get_extra_info("socket")
    if made is not None:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, with_linger)
