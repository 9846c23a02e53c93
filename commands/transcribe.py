"""`earful transcribe`: recognition in this process, without servers."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from commands.context import WRONG, AsJson, console, errors, fail, print_json
from commands.engines import WHOLE, Lora, Options, Weights, check_engine, open_engine
from commands.recognition import Said, lines_of
from commands.speakers import Roles, read_roles
from commands.subtitles import srt, vtt
from errors import EarfulError
from report.render import clean
from speech.segment import Segmenter
from stream.files import UnreadableAudio, read_file

__all__ = ["transcribe"]


def transcribe(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False)],
    engine: Annotated[str, typer.Option(help="whisper or phi4")] = "whisper",
    roles: Roles = None,
    weights: Weights = None,
    lora: Lora = "auto",
    task: Annotated[
        str, typer.Option(help="transcribe; phi4 also: translate, translate_chain, summarize, generate")
    ] = "transcribe",
    language: Annotated[str | None, typer.Option(help="ISO 639-1: of the speech, or of a translation's result")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Of each answer")] = None,
    prompt: Annotated[str | None, typer.Option(help="generate: what is asked about each recording")] = None,
    as_json: AsJson = False,
    as_srt: Annotated[bool, typer.Option("--srt", help="Subtitles; of several files, beside each")] = False,
    as_vtt: Annotated[bool, typer.Option("--vtt", help="WebVTT, likewise")] = False,
) -> None:
    """The pipeline's decoding, cutting and recognition in one process, without servers; all files at once.

    Example: earful transcribe call.mp3 --roles customer,agent --json
    """
    if as_json + as_srt + as_vtt > 1:
        fail("one of --json, --srt and --vtt", WRONG)
    check_engine(engine)
    ending = ".srt" if as_srt else ".vtt" if as_vtt else ""
    if ending:
        check_subtitles(files, task, ending)
    options = Options(weights=weights, lora=lora, task=task, language=language, max_tokens=max_tokens, prompt=prompt)
    named = read_roles(roles)
    recordings = []
    for file in files:
        try:
            recordings.append(read_file(file))
        except UnreadableAudio as err:
            fail(str(err))
    if named and all(pcm.shape[1] != len(named) for pcm, _ in recordings):
        fail(f"--roles must name one speaker for each channel, and no recording has {len(named)} channels", WRONG)
    with open_engine(engine, options) as opened:
        try:
            if task in WHOLE:
                told = opened.wholes(recordings, named)
                show_wholes([{"file": str(file), **said(one)} for file, one in zip(files, told, strict=True)], as_json)
                return
            found, _ = lines_of(recordings, opened, Segmenter(), named)
        except (ValueError, EarfulError) as err:
            fail(str(err))
    results: list[dict[str, Any]] = [
        {"file": str(file), "lines": lines} for file, lines in zip(files, found, strict=True)
    ]
    if as_json:
        print_json(results)
    elif ending:
        write_subtitles(files, results, ending)
    else:
        for result in results:
            if len(results) > 1 and result["lines"]:
                typer.echo(f"{result['file']}:")
            for line in result["lines"]:
                typer.echo(f"{line['start_ms'] / 1000:8.2f}  {line['role']:<9} {shown(line['text']) or '[cut off]'}")
            if not result["lines"]:
                errors.print(f"{result['file']}: no words were recognised", markup=False, highlight=False)


def shown(text: str) -> str:
    """As it is into a pipe or a file."""
    return clean(text, keep="\n") if console.is_terminal else text


def said(one: Said) -> dict[str, Any]:
    return {name: value for name, value in asdict(one).items() if name != "more"} | one.more


def show_wholes(results: list[dict[str, Any]], as_json: bool) -> None:
    if as_json:
        print_json(results)
        return
    for result in results:
        typer.echo(f"{result['file']}\n" + shown(result["text"]) + "\n")


def check_subtitles(files: list[Path], task: str, ending: str) -> None:
    """Ends the command before an hour of recognition whose result could not be written."""
    if task in WHOLE:
        fail("an answer about a whole recording has no subtitles", WRONG)
    targets = [file.with_suffix(ending) for file in files] if len(files) > 1 else []
    for number, target in enumerate(targets):
        if target.exists() or target in targets[:number]:
            fail(f"{target} would be overwritten", WRONG)


def write_subtitles(files: list[Path], results: list[dict[str, Any]], ending: str) -> None:
    """One file's go to standard output; those of several beside each, where none is yet."""
    texts = [(srt if ending == ".srt" else vtt)(result["lines"]) for result in results]
    if len(files) == 1:
        typer.echo(texts[0], nl=False)
        return
    for file, text in zip(files, texts, strict=True):
        target = file.with_suffix(ending)
        try:
            with target.open("x", encoding="utf-8") as new:
                new.write(text)
        except OSError as err:
            fail(f"{target}: {err.strerror}")
        typer.echo(str(target))
