"""Every metric that a worker exposes, each with its meaning and unit."""

from __future__ import annotations

from prometheus_client import Counter, Gauge, Histogram

__all__ = [
    "BATCH_RETRIES",
    "BATCH_SECONDS",
    "INFERENCES",
    "INFERENCE_SECONDS",
    "LAG",
    "LOST_OFFSETS",
    "OPEN_CALLS",
    "OPEN_CALLS_BYTES",
    "OUTBOX_DEPTH",
    "RECORDS",
    "RELAY_FAILURES",
    "TRUNCATED_OFFSETS",
]

RECORDS = Counter("earful_records", "Records that got a verdict", ["stage", "verdict"])
BATCH_RETRIES = Counter("earful_batch_retries", "Batches tried again because a dependency did not answer", ["stage"])
BATCH_SECONDS = Histogram("earful_batch_seconds", "Seconds from taking a batch to its acknowledgement", ["stage"])
INFERENCES = Counter("earful_inferences", "Requests answered by Triton", ["model", "outcome"])
INFERENCE_SECONDS = Histogram("earful_inference_seconds", "Seconds a request to Triton took", ["model"])
LAG = Gauge("earful_lag_records", "Records between the ledger's watermark and the end of the log", ["stage"])
READY = Gauge(
    "earful_ready",
    "1 once Kafka has said which partitions are the worker's, be it none; 0 while it waits for something at its start",
)
OPEN_CALLS = Gauge("earful_open_calls", "Calls that are open in the partitions of this segmenter")
OPEN_CALLS_BYTES = Gauge("earful_open_calls_bytes", "What of them is in memory, bytes")
OUTBOX_DEPTH = Gauge("earful_outbox_rows", "Outbox rows that wait for the broker")
RELAY_FAILURES = Counter(
    "earful_relay_failures", "Messages that Kafka did not take; each stays in the outbox", ["topic"]
)
LOST_OFFSETS = Counter("earful_lost_offsets", "Offsets that Kafka dropped before they were read", ["stage"])
TRUNCATED_OFFSETS = Gauge(
    "earful_truncated_offsets",
    "Offsets that are done and that Kafka has no more at its log's end",
    ["stage", "partition"],
)
