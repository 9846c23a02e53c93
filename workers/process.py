"""One worker process: a stage, its faust app, and what runs beside it, from start to exit code."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any, NoReturn
from uuid import UUID

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import AccessRefused, EarfulError, Transient
from settings import Settings
from store import partitions, runs, schema
from store.engine import create
from stream.events import Topics
from workers import health, kafka
from workers.access import check_access
from workers.app import Left, ended, log_ends, make_app
from workers.consumer import AskLog, WatermarkApp
from workers.heap import settle_heap
from workers.inference import Inference, Turn
from workers.loop import Loop
from workers.ownership import Ownership
from workers.postgres import connected
from workers.reaper import Reaper
from workers.relay import Relay
from workers.run import check_served
from workers.segmenter import SegmenterStage
from workers.stage import Stage
from workers.stages import STAGES, fetch_wait_seconds, healthy, make_stage, most_records
from workers.watchdog import Watchdog

__all__ = ["TEMPFAIL", "run_worker"]

#: sysexits.h: EX_OK, EX_SOFTWARE (an error to look at), EX_TEMPFAIL (start me again), EX_NOPERM (a person has to mend it).
OK, SOFTWARE, TEMPFAIL, NOPERM = 0, 70, 75, 77
#: faust gives up a seek without a word after 90 s (its broker_request_timeout) and then never consumes: leave before.
SEEK_SECONDS = 60.0
#: A stop that takes longer is cut off: the ledger makes that harmless.
STOP_SECONDS = 10.0
#: Part of that, and of a rebalance.
RELEASE_SECONDS = 5.0
#: Postgres has some hundred connections for all workers: one that had many partitions for a while does not keep theirs.
KEPT_CONNECTIONS = 6

log = structlog.get_logger()


def run_worker(stage: str, settings: Settings, on_step: Callable[[str], None] = lambda step: None) -> int:
    """Run until SIGTERM. Returns the exit code."""
    settle_heap()
    return asyncio.run(Worker(stage, settings, on_step).run())


class Worker:
    """Owns every resource of the process and closes them in reverse order."""

    def __init__(self, stage: str, settings: Settings, on_step: Callable[[str], None]) -> None:
        if stage not in STAGES:
            raise ValueError(f"no stage {stage!r}: one of {', '.join(STAGES)}")
        self._name = stage
        self._settings = settings
        self._on_step = on_step
        self._topics = Topics(settings.topic_prefix)
        self._months: tuple[datetime, datetime]
        self._ended: asyncio.Future[int]
        self._watchdog: Watchdog | None = None  # until all that it waits for at the start is there
        self._ownership: Ownership | None = None

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        self._ended = loop.create_future()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._end, OK)
        async with AsyncExitStack() as resources:
            tasks: list[asyncio.Task[None]] = []
            try:
                start = asyncio.create_task(self._start(resources, tasks))
                start.add_done_callback(self._watch)
                return await self._ended
            finally:
                await self._stop([start, *tasks], resources)

    async def _stop(self, tasks: Sequence[asyncio.Task[None]], resources: AsyncExitStack) -> None:
        """Ends the process where something does not let go in time.

        Not by wait_for or SystemExit: the first, and asyncio.run after the second, would wait for what they cancel, and that
        may never notice (Python 3.11's wait_for loses a cancellation that comes together with an answer).
        """
        closing = asyncio.create_task(self._close(tasks, resources))
        await asyncio.wait([closing], timeout=STOP_SECONDS)
        if closing.done():
            return closing.result()
        log.warning("worker.stop_timeout", stage=self._name, seconds=STOP_SECONDS)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(TEMPFAIL)

    async def _close(self, tasks: Sequence[asyncio.Task[None]], resources: AsyncExitStack) -> None:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await resources.pop_all().aclose()

    def _end(self, code: int) -> None:
        if not self._ended.done():
            self._ended.set_result(code)

    def _watch(self, task: asyncio.Task[None]) -> None:
        """A background task that dies takes the process with it: the ledger makes leaving harmless."""
        if task.cancelled() or (error := task.exception()) is None:
            return
        code = code_of(error)
        why = f"{type(error).__name__}: {error}"
        log.error("worker.leaves", stage=self._name, why=why, exc_info=error if code == SOFTWARE else None)
        self._end(code)

    async def _start(self, resources: AsyncExitStack, tasks: list[asyncio.Task[None]]) -> None:
        await self._listen(resources)  # before anything is waited for: a worker that waits is well
        engine = self._engine(resources)
        inference = self._inference(resources)
        run_id = await self._patiently(lambda: self._prepare(engine, inference))
        producer = await self._producer(resources)
        stage = make_stage(
            self._name,
            self._settings,
            run_id=run_id,
            engine=engine,
            inference=inference,
            producer=producer,
            months=lambda: self._months,
            resources=resources,
        )

        async def well(turn: Turn) -> bool:
            return await healthy(self._name, self._settings, engine, inference, producer, turn)

        await self._patiently(lambda: self._topic_id(stage.topic))  # faust ignores a missing topic for minutes
        ownership = self._ownership = Ownership(engine, stage)
        relay = Relay(engine, producer, limit=self._settings.outbox_limit)
        # A model whose queue is long speaks against no record: the loop's question waits in it as records do.
        loop = self._loop(stage, engine, ownership, relay, lambda: well(Turn.BEFORE_OURS))
        app = self._app(stage, ownership, loop)
        watchdog = self._watchdog = self._watchdog_over(stage, ownership, loop, app, lambda: well(Turn.FIRST))
        background: list[Coroutine[Any, Any, None]] = [relay.run(), watchdog.run(), self._refresh(engine), ended(app)]
        if isinstance(stage, SegmenterStage):
            background.append(self._reaper(engine, ownership, watchdog, producer).run())
        for one in background:
            task = asyncio.create_task(one)
            task.add_done_callback(self._watch)
            tasks.append(task)
        resources.push_async_callback(self._release, ownership)
        resources.push_async_callback(app.stop)
        try:
            await app.start()
        except KafkaError as err:  # it was there a moment ago; faust starts only once in a process
            raise Left(f"Kafka went away while faust started ({type(err).__name__})") from err
        log.info("worker.started", stage=self._name, run_id=str(stage.run_id), topic=stage.topic)

    async def _listen(self, resources: AsyncExitStack) -> None:
        if self._settings.health_port is None:
            return
        runner = await health.serve(
            self._settings.health_host,
            self._settings.health_port,
            live=lambda: self._watchdog is None or self._watchdog.alive,
            ready=lambda: self._ownership is not None and self._ownership.ready,
        )
        resources.push_async_callback(runner.cleanup)

    def _engine(self, resources: AsyncExitStack) -> AsyncEngine:
        # A connection for a step of each partition, and four: the relay's two, the reaper, the watchdog.
        kept = min(self._settings.partitions, KEPT_CONNECTIONS)
        engine = create(
            self._settings.postgres_url.get_secret_value(),
            application_name=f"earful-{self._name}",
            pool_size=kept + 4,
            overflow=self._settings.partitions - kept,
            # A worker that is stopped inside step 5 holds its ledger row: whoever took over must not wait for long.
            idle_in_transaction_seconds=10.0,
        )
        resources.push_async_callback(engine.dispose)
        return engine

    def _inference(self, resources: AsyncExitStack) -> Inference:
        inference = Inference(
            self._settings.triton_url,
            ssl=self._settings.triton_ssl,
            inflight=self._settings.inflight_requests,
            speech_model=self._settings.speech_model,
            known_aspects=self._settings.known_aspects,
        )
        resources.push_async_callback(inference.close)
        return inference

    async def _producer(self, resources: AsyncExitStack) -> AIOKafkaProducer:
        await self._patiently(lambda: check_access(self._settings))  # the clients would only run into their time-outs
        producer = kafka.producer(self._settings)
        await self._patiently(producer.start)
        resources.push_async_callback(producer.stop)
        return producer

    def _watchdog_over(
        self,
        stage: Stage[Any],
        ownership: Ownership,
        loop: Loop[Any],
        app: WatermarkApp,
        healthy: Callable[[], Awaitable[bool]],
    ) -> Watchdog:
        return Watchdog(
            stage=self._name,
            ownership=ownership,
            log_ends=lambda: log_ends(app, stage.topic),
            topic_id=lambda: self._topic_id(stage.topic),
            healthy=healthy,
            tries=lambda: loop.tries,
            at_work=lambda: loop.at_work,
            only_markers=lambda partition, first, end: kafka.only_markers(
                self._settings, stage.topic, partition, first, end
            ),
            patience_seconds=self._settings.watchdog_seconds,
        )

    def _reaper(
        self, engine: AsyncEngine, ownership: Ownership, watchdog: Watchdog, producer: AIOKafkaProducer
    ) -> Reaper:
        return Reaper(
            topics=self._topics,
            engine=engine,
            ownership=ownership,
            watchdog=watchdog,
            produce=lambda messages, partition: kafka.produce(producer, messages, partition),
            silence_seconds=self._settings.call_silence_timeout_seconds,
            paused_seconds=self._settings.paused_call_timeout_seconds,
        )

    async def _patiently(self, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Wait for a dependency at start: a worker may be started before what it needs."""
        pause = 0.5
        while True:
            try:
                return await ask()
            except (Transient, KafkaError, OSError) as err:
                log.warning("worker.waits", stage=self._name, why=f"{type(err).__name__}: {err}")
                await asyncio.sleep(pause)
                pause = min(5.0, pause * 2)

    async def _prepare(self, engine: AsyncEngine, inference: Inference) -> UUID:
        """The schema fits, the months are known, and there is a run to write under, of the models that are served."""
        async with connected(engine) as connection:
            await schema.check(connection)
            self._months = await partitions.bounds(connection)
            run = await runs.find(connection, self._settings.run)
        if run is None:
            named = f"run {self._settings.run} is not" if self._settings.run else "no run is"
            raise Transient(f"{named} open; `earful runs open` makes one from the models that Triton serves")
        inference.versions = await check_served(inference, self._name, run)
        return run.run_id

    async def _refresh(self, engine: AsyncEngine) -> None:
        """Partitions that `earful migrate` adds are seen without a restart."""
        while True:
            await asyncio.sleep(60)
            try:
                async with connected(engine) as connection:
                    self._months = await partitions.bounds(connection)
            except Transient as err:
                log.warning("months.retry", why=str(err))

    def _loop(
        self,
        stage: Stage[Any],
        engine: AsyncEngine,
        ownership: Ownership,
        relay: Relay,
        healthy: Callable[[], Awaitable[bool]],
    ) -> Loop[Any]:
        settings = self._settings
        return Loop(
            stage=stage,
            engine=engine,
            ownership=ownership,
            topics=self._topics,
            first_offset_from=lambda partition, offset: kafka.first_offset_from(
                settings, stage.topic, partition, offset
            ),
            batch_deadline_seconds=settings.batch_deadline_seconds,
            may_write=relay.check_room,
            healthy=healthy,
            dead_letters_in_a_row=settings.dead_letters_in_a_row,
            on_step=self._on_step,
        )

    def _app(self, stage: Stage[Any], ownership: Ownership, loop: Loop[Any]) -> WatermarkApp:
        async def seek(log_starts: AskLog, log_ends: AskLog) -> Mapping[int, int]:
            async def take_over() -> dict[int, int]:
                return await ownership.take_over(await self._topic_id(stage.topic), await log_starts(), log_ends)

            try:
                async with asyncio.timeout(SEEK_SECONDS):
                    offsets: Mapping[int, int] = await self._patiently(take_over)
            except Exception as err:  # noqa: BLE001 - faust would go on without: leave instead, and wait at the next start
                await self._leave("seek.failed", err)
            log.info("partitions.assigned", stage=self._name, offsets=dict(offsets))
            return offsets

        async def take(events: Sequence[Any], generation: int) -> None:
            try:
                await loop.take(events, generation)
            except Exception as err:  # noqa: BLE001 - faust would acknowledge it and go on: leave instead
                await self._leave("batch.failed", err)

        async def unneeded() -> None:
            generation = ownership.generation
            try:
                await self._topic_id(stage.topic)  # faust assigns nothing of a topic that is gone, either
            except EarfulError as err:
                log.warning("worker.waits", stage=self._name, why=f"{type(err).__name__}: {err}")
                return
            if ownership.generation == generation:
                ownership.stand_by()

        return make_app(
            stage,
            self._settings,
            most_records=most_records(self._name, self._settings),
            fetch_wait_seconds=fetch_wait_seconds(self._name, self._settings),
            seek=seek,
            take=take,
            revoked=lambda: self._release(ownership),
            unneeded=unneeded,
        )

    async def _leave(self, event: str, error: Exception) -> NoReturn:
        """End the process, and keep the caller from going on meanwhile."""
        log.error(event, stage=self._name, why=f"{type(error).__name__}: {error}", exc_info=error)
        self._end(code_of(error))
        await asyncio.Future()
        raise AssertionError("nobody settles that future")

    async def _topic_id(self, topic: str) -> UUID:
        return (await kafka.topic_ids(self._settings, [topic]))[topic]

    async def _release(self, ownership: Ownership) -> None:
        """The records in hand are not suspect, unless it is they that end this process."""
        if self._ended.done() and self._ended.result() == SOFTWARE:
            return
        try:
            async with asyncio.timeout(RELEASE_SECONDS):
                await ownership.release()
        except (EarfulError, TimeoutError) as err:
            log.warning("worker.not_released", stage=self._name, why=f"{type(err).__name__}: {err}")


def code_of(error: BaseException) -> int:
    """The exit code of a worker that this error ends."""
    if isinstance(error, AccessRefused):
        return NOPERM
    return TEMPFAIL if isinstance(error, EarfulError | TimeoutError) else SOFTWARE
