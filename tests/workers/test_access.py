"""Kafka behind a network that cuts connections off, and a listener that never takes one."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from pydantic import SecretStr

from errors import AccessRefused
from settings import Settings
from stack.stack import Stack
from workers.access import TRIES, check_access

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


@asynccontextmanager
async def cutting(target: int, cuts: int) -> AsyncIterator[Settings]:
    """Settings of a worker whose way to Kafka resets the first `cuts` connections."""
    seen = 0
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        seen += 1
        if seen <= cuts:
            await reader.read(1)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            writer.close()
            return
        there, back = await asyncio.open_connection("127.0.0.1", target)
        tasks.extend(asyncio.create_task(passed(*way)) for way in ((reader, back), (there, writer)))

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        port = server.sockets[0].getsockname()[1]
        yield Settings(
            kafka_bootstrap_servers=f"127.0.0.1:{port}",
            postgres_url=SecretStr("postgresql://nobody@127.0.0.1/none"),
            triton_url="127.0.0.1:1",
        )
    finally:
        server.close()
        for task in tasks:
            task.cancel()


async def passed(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while some := await reader.read(4096):
        writer.write(some)
        await writer.drain()
    writer.close()


async def test_a_connection_that_is_cut_off_is_tried_again(stack: Stack) -> None:
    port = int(stack.endpoints["kafka"].rpartition(":")[2])
    async with cutting(port, cuts=TRIES - 1) as settings:
        await check_access(settings)


async def test_a_server_that_refuses_hides_no_other(stack: Stack) -> None:
    port = int(stack.endpoints["kafka"].rpartition(":")[2])
    async with cutting(port, cuts=TRIES) as settings:
        both = f"{settings.kafka_bootstrap_servers},127.0.0.1:{port}"
        await check_access(settings.model_copy(update={"kafka_bootstrap_servers": both}))


async def test_one_that_is_always_cut_off_is_no_listener_of_ours(stack: Stack) -> None:
    port = int(stack.endpoints["kafka"].rpartition(":")[2])
    async with cutting(port, cuts=100) as settings:
        with pytest.raises(AccessRefused, match="SECURITY_PROTOCOL must fit"):
            await check_access(settings)
