"""The four stages by name: what each is made of, and what it needs to be well."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from typing import Any
from uuid import UUID

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from errors import Transient
from settings import Settings
from speech.segment import Segmenter
from stream.events import Topics
from workers import kafka
from workers.cutting import Cutter
from workers.decoder import Decoder
from workers.inference import Inference, Turn
from workers.postgres import connected
from workers.reviewer import ReviewerStage
from workers.run import PARTS_OF
from workers.segmenter import SegmenterStage
from workers.stage import Stage
from workers.summarizer import SummarizerStage
from workers.transcriber import TranscriberStage

__all__ = ["STAGES", "fetch_wait_seconds", "healthy", "make_stage", "most_records", "topic_of"]

#: In the order of the data's way.
STAGES = tuple(PARTS_OF)


def topic_of(stage: str, topics: Topics) -> str:
    """What the stage reads."""
    return dict(zip(STAGES, topics.consumed, strict=True))[stage]


def most_records(stage: str, settings: Settings) -> int:
    """Of a batch."""
    batches = (settings.audio_batch, settings.utterance_batch, settings.call_batch, settings.review_batch)
    return dict(zip(STAGES, batches, strict=True))[stage]


def fetch_wait_seconds(stage: str, settings: Settings) -> float:
    """How long Kafka may hold an answer back."""
    return settings.audio_wait_seconds if stage == "segmenter" else 0.0


def make_stage(
    name: str,
    settings: Settings,
    *,
    run_id: UUID,
    engine: AsyncEngine,
    inference: Inference,
    producer: AIOKafkaProducer,
    months: Callable[[], tuple[datetime, datetime]],
    resources: AsyncExitStack,
) -> Stage[Any]:
    """The stage, ready to work; what it holds is closed with `resources`."""
    topics = Topics(settings.topic_prefix)
    if name == "transcriber":
        return TranscriberStage(topics=topics, run_id=run_id, inference=inference, engine=engine)
    if name == "summarizer":
        return SummarizerStage(topics=topics, run_id=run_id, inference=inference, engine=engine)
    if name == "reviewer":
        return ReviewerStage(topics=topics, run_id=run_id, inference=inference, engine=engine, month_bounds=months)
    decoder = Decoder(memory_bytes=settings.decoder_memory_bytes, cpu_seconds=settings.decoder_cpu_seconds)
    resources.callback(decoder.close)
    return SegmenterStage(
        topics=topics,
        cutter=Cutter(Segmenter(), topics),
        engine=engine,
        produce=lambda messages: kafka.produce(producer, messages),
        decode=decoder.decode,
        reorder_chunks=settings.reorder_chunks,
        month_bounds=months,
        batch_bytes=settings.batch_bytes,
        open_calls_bytes=settings.open_calls_bytes,
    )


async def healthy(
    name: str, settings: Settings, engine: AsyncEngine, inference: Inference, producer: AIOKafkaProducer, turn: Turn
) -> bool:
    """Whether Postgres, Kafka and each model that this stage asks answer a real, small request, which goes in this turn."""
    roles = {"speech": settings.speech_model, "summary": settings.speech_model if inference.summarizes else ""}
    models = [roles.get(one, one) for one in PARTS_OF[name]]
    try:
        async with connected(engine) as connection:
            await connection.execute(text("SELECT 1"))
        await producer.client.fetch_all_metadata()
    except (Transient, KafkaError):
        return False
    return await inference.canary(models, turn=turn)
