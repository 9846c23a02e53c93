"""A small HTTP endpoint: /live, /ready and Prometheus' /metrics."""

from __future__ import annotations

from collections.abc import Callable

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from workers.metrics import READY

__all__ = ["serve"]


async def serve(host: str, port: int, *, live: Callable[[], bool], ready: Callable[[], bool]) -> web.AppRunner:
    """Alive means progress, not that the process answers. The caller cleans up the runner."""

    async def answer_live(request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if live() else web.Response(status=503, text="no progress\n")

    async def answer_ready(request: web.Request) -> web.Response:
        return web.Response(text="ok\n") if ready() else web.Response(status=503, text="not ready\n")

    async def answer_metrics(request: web.Request) -> web.Response:
        return web.Response(body=generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})

    READY.set_function(lambda: float(ready()))
    app = web.Application()
    app.router.add_get("/live", answer_live)
    app.router.add_get("/ready", answer_ready)
    app.router.add_get("/metrics", answer_metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, host, port).start()
    return runner
