"""Phi-4 behind the contract of every speech engine: a request in, deltas and an answer out. What Triton and the CLI use.

with Speech.load(folder, device="cuda", dtype=torch.bfloat16) as speech:
    answer = speech.answer(SpeechRequest(task=Task.TRANSCRIBE, audio=samples))
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer

from speech.contract import Capabilities, FinishReason, SpeechAnswer, SpeechDelta, SpeechRequest, Task
from speech.phi4.checks import check_request
from speech.phi4.config import CheckpointError
from speech.phi4.engine import Engine
from speech.phi4.generation import Completion
from speech.phi4.grammar import Grammars
from speech.phi4.handle import Handle
from speech.phi4.job import Job
from speech.phi4.limits import Limits
from speech.phi4.lora import LoraMode
from speech.phi4.metrics import Snapshot
from speech.phi4.model import Clip, Narrowband, Phi4Model
from speech.phi4.prompts import CHAIN_SEPARATOR, LANGUAGES, Prompts
from speech.phi4.stream import Vocabulary
from speech.phi4.summary import Summarizer
from speech.phi4.tasks import Result, Tasks
from speech.phi4.version import weights_version
from speech.phi4.work import Say

__all__ = ["Speech", "SpeechEvent"]

SpeechEvent = SpeechDelta | SpeechAnswer | Exception


class Speech:
    """One engine with its tasks; safe from any thread."""

    def __init__(
        self,
        model: Phi4Model,
        tokenizer: Any,
        limits: Limits,
        *,
        version: str,
        stop_ids: Sequence[int],
        late: bool | None = None,
        run: bool = True,
    ) -> None:
        self.limits = limits
        self.version = version
        prompts = Prompts(tokenizer)
        grammars = Grammars(tokenizer, end=tokenizer.token_to_id("<|end|>"))
        window = max((tokens for count, tokens in limits.pools if count), default=0)
        summarizer = Summarizer(prompts, grammars, window=window, most_parts=limits.summary_parts)
        self._tasks = Tasks(model, prompts, summarizer, limits, tokenizer.token_to_id(CHAIN_SEPARATOR))
        self.engine = Engine(model, limits, vocabulary=Vocabulary(tokenizer), stop_ids=stop_ids, late=late, run=run)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        limits: Limits | None = None,
        device: str = "cpu",
        dtype: torch.dtype = torch.float32,
        lora: LoraMode = "merged",
        narrowband: Narrowband = Narrowband.FILLZERO,
    ) -> Speech:
        """From a checkpoint folder; raises CheckpointError with what to do."""
        folder = Path(folder)
        tokenizer = _tokenizer(folder / "tokenizer.json")
        Prompts(tokenizer)  # what it lacks is told before gigabytes are read
        model = Phi4Model.load(folder, device=device, dtype=dtype, lora=lora, narrowband=narrowband)
        return cls(
            model,
            tokenizer,
            limits or Limits(),
            version=weights_version(folder, dtype=str(dtype).removeprefix("torch."), lora=lora),
            stop_ids=model.config.eos_ids,
        )

    @property
    def capabilities(self) -> Capabilities:
        """What this engine can do; audio of summaries may be longer, see `limits`."""
        return Capabilities(
            engine="phi4",
            tasks=frozenset(Task),
            languages=frozenset(LANGUAGES),
            max_audio_seconds=self.limits.max_utterance_seconds,
        )

    @property
    def metrics(self) -> Snapshot:
        """The engine's counters."""
        return self.engine.metrics

    def submit(
        self,
        request: SpeechRequest,
        *,
        on_event: Callable[[SpeechEvent], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
    ) -> Handle[SpeechAnswer]:
        """Queue a request and return at once.

        `on_event` gets deltas (if the request streams), then the answer or the error; it runs on the engine's thread and
        must not block. `cancelled` is asked once a step. Raises InvalidRequest, UnsupportedTask, QueueFull, Closing.
        """
        started = time.perf_counter()
        check_request(request, self.limits)

        def told(say: Say) -> None:
            if on_event is not None and request.stream:
                on_event(SpeechDelta(text=say.text, restart=say.restart))

        def done(outcome: SpeechAnswer | Exception) -> None:
            if on_event is not None:
                on_event(outcome)

        def work() -> Any:
            result = yield from self._tasks.work(request)
            return self._answer(request, result, started)

        def stopped(found: Sequence[Completion]) -> SpeechAnswer:
            text = " ".join(one.text.strip() for one in found).strip()
            reason = FinishReason.CANCELLED
            return self._answer(
                request, Result(text=text, finish_reason=reason, completions=found, kept=found), started
            )

        job: Job[SpeechAnswer] = Job(
            self.engine, work(), cancelled_answer=stopped, tell=told, done=done, cancelled=cancelled
        )
        return job.start()

    def answer(self, request: SpeechRequest, cancelled: Callable[[], bool] = lambda: False) -> SpeechAnswer:
        """Answer one request and wait for it; raises what `submit` raises, and EngineFailed."""
        return self.submit(request, cancelled=cancelled).result()

    def warm_up(self) -> None:
        """Run every path once, so that the first request is as fast as the next; raises what goes wrong."""
        noise = np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32)
        requests = [
            SpeechRequest(task=Task.TRANSCRIBE, audio=noise, max_tokens=4),
            SpeechRequest(task=Task.SUMMARIZE, audio=noise, max_tokens=4),
            SpeechRequest(task=Task.SUMMARIZE, text="Hello.", max_tokens=4),
        ]
        for handle in [self.submit(request) for request in requests]:
            handle.result()

    def close(self, timeout: float | None = None) -> bool:
        """End what is here and take nothing new; after `timeout` seconds the rest is cancelled."""
        return self.engine.close(timeout)

    def __enter__(self) -> Speech:
        return self

    def __exit__(self, *error: object) -> None:
        self.close(timeout=0 if error[0] is not None else None)

    def _answer(self, request: SpeechRequest, result: Result, started: float) -> SpeechAnswer:
        every, kept = result.completions, result.kept
        queue_ms = every[0].timings.queue_ms if every else 0.0
        tokens = sum(len(one.token_ids) for one in kept)
        weighed = sum(one.mean_logprob * len(one.token_ids) for one in kept)
        details = {
            "task": str(request.task),
            "timings": {
                "queue_ms": round(queue_ms, 3),
                "encode_ms": round(sum(one.timings.encode_ms for one in every), 3),
                "prefill_ms": round(sum(one.timings.prefill_ms for one in every), 3),
                "decode_ms": round(sum(one.timings.decode_ms for one in every), 3),
                "first_ms": round(every[0].timings.first_ms, 3) if every else 0.0,
            },
            "token_ids": [token for one in kept for token in one.token_ids],
            "long_rope": any(one.long_rope for one in every),
        }
        if request.audio is not None:
            clip = Clip(samples=request.audio, rate=request.rate)
            details["front_end"] = str(self.engine.model.front_end(clip))
        return SpeechAnswer(
            text=result.text,
            finish_reason=result.finish_reason,
            tokens_in=sum(one.prompt_tokens for one in every),
            tokens_out=sum(len(one.token_ids) for one in every),
            mean_logprob=weighed / tokens if tokens else 0.0,
            infer_ms=max(0.0, 1e3 * (time.perf_counter() - started) - queue_ms),
            model="phi4",
            version=self.version,
            details=details | result.details,
        )


def _tokenizer(path: Path) -> Any:
    try:
        return Tokenizer.from_file(str(path))
    except Exception as err:  # the library raises nothing narrower
        raise CheckpointError(f"{path} is no tokenizer: {err}") from err
