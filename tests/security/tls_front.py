"""TLS before a PostgreSQL that has none: the embedded server is built without it, a client cannot tell.

Speaks PostgreSQL's own negotiation (SSLRequest, answered with one letter) and refuses who does not ask for TLS.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from types import TracebackType
from typing import Self

__all__ = ["TlsFront"]

# PostgreSQL's documentation, "Message Formats": length 8 and the request's code.
_SSL_REQUEST, _GSS_REQUEST = b"\0\0\0\x08\x04\xd2\x16\x2f", b"\0\0\0\x08\x04\xd2\x16\x30"


class TlsFront:
    """Listens on a loopback port; a thread of its own carries the bytes."""

    def __init__(self, port: int, behind: int, context: ssl.SSLContext) -> None:
        self._port, self._behind, self._context = port, behind, context
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), daemon=True)
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._over: asyncio.Event

    def __enter__(self) -> Self:
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError(f"nothing listens on port {self._port}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    async def _run(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._ready.set()
        await self._over.wait()
        server.close()  # asyncio.run cancels what is still being carried

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            try:
                first = await reader.readexactly(8)
                if first == _GSS_REQUEST:
                    writer.write(b"N")
                    first = await reader.readexactly(8)
                if first != _SSL_REQUEST:
                    return
                writer.write(b"S")
                await writer.drain()
                await writer.start_tls(self._context)
                back_reader, back_writer = await asyncio.open_connection("127.0.0.1", self._behind)
                await asyncio.gather(_carry(reader, back_writer), _carry(back_reader, writer))
            finally:
                writer.close()


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        try:
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        finally:
            writer.close()
