"""Phi-4 in this process: all pieces in one running batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from commands.context import errors, fail, watched
from commands.engines import Options
from commands.recognition import Line, Pcm, Recording, Said, lines_of
from speech.contract import SpeechAnswer, SpeechRequest, Task
from speech.phi4.config import CheckpointError
from speech.phi4.handle import Handle
from speech.phi4.limits import Limits
from speech.phi4.memory import TooSmall
from speech.phi4.service import Speech
from speech.phi4.start import StartOptions, start
from speech.phi4.transcript import Utterance, dump_transcript
from speech.pieces import Piece
from speech.segment import Segmenter

__all__ = ["Phi4", "opened"]

#: Longer than any list of pieces: what one command asks for is never too much for its own queue.
_QUEUE = 1 << 20


class Phi4:
    """See Engine in commands/recognition.py."""

    def __init__(self, speech: Speech, options: Options) -> None:
        self._speech = speech
        self._options = options

    def answers(self, pieces: Sequence[Piece]) -> list[Said | None]:
        """See Engine; token ids and the rest of the engine's details beside the text."""
        handles: list[Handle[SpeechAnswer] | None] = []
        for piece in pieces:
            if len(piece.audio) < self._speech.limits.min_audio_seconds * piece.rate:
                handles.append(None)
                continue
            request = SpeechRequest(
                task=Task(self._options.task),
                audio=piece.audio,
                rate=piece.rate,
                language=self._options.language,
                max_tokens=self._options.max_tokens,
            )
            handles.append(self._speech.submit(request))
        return [None if one is None else self._said(one.result()) for one in watched(handles, "recognizing")]

    def wholes(self, recordings: Sequence[Recording], roles: Sequence[str]) -> list[Said]:
        """One channel is asked about as it sounds. Two are transcribed first, so that it stays known who said what; so is what
        the model does not take as sound: over half an hour, or a summary in another language than English."""
        spoken = Phi4(
            self._speech, replace(self._options, task="transcribe", language=None, max_tokens=None, prompt=None)
        )
        written = [number for number, recording in enumerate(recordings) if self._by_text(*recording)]
        heard, _ = lines_of([recordings[number] for number in written], spoken, Segmenter(), roles)
        lines = dict(zip(written, heard, strict=True))
        handles = []
        for number, (pcm, rate) in enumerate(recordings):
            if number in lines:
                request = self._about_lines(lines[number])
            else:
                request = self._about_sound(pcm[:, 0].astype(np.float32) / np.float32(32768), rate)
            handles.append(self._speech.submit(request))
        return [self._said(handle.result()) for handle in handles]

    def _by_text(self, pcm: Pcm, rate: int) -> bool:
        foreign = Task(self._options.task) is Task.SUMMARIZE and self._options.language not in (None, "en")
        return pcm.shape[1] > 1 or foreign or len(pcm) > self._speech.limits.max_summary_seconds * rate

    def _about_sound(self, audio: NDArray[np.float32], rate: int) -> SpeechRequest:
        task, prompt, most = Task(self._options.task), self._options.prompt, self._options.max_tokens
        return SpeechRequest(task=task, audio=audio, rate=rate, text=prompt, max_tokens=most)

    def _about_lines(self, lines: Sequence[Line]) -> SpeechRequest:
        task, prompt, most = Task(self._options.task), self._options.prompt, self._options.max_tokens
        said = [(line["role"], line["text"]) for line in lines]
        if task is Task.GENERATE:
            text = "\n".join([prompt or "", "", *(f"{role.capitalize()}: {text}" for role, text in said)])
            return SpeechRequest(task=task, text=text, max_tokens=most)
        utterances = [Utterance(id=str(n), role=role, text=text) for n, (role, text) in enumerate(said, start=1)]
        text, language = dump_transcript(utterances), self._options.language
        return SpeechRequest(task=task, text=text, language=language, max_tokens=most)

    def _said(self, answer: SpeechAnswer) -> Said:
        return Said(
            text=answer.text,
            finish_reason=answer.finish_reason,
            tokens=answer.tokens_out,
            mean_logprob=answer.mean_logprob,
            more={
                **(answer.details or {}),
                "tokens_in": answer.tokens_in,
                "model": answer.model,
                "version": answer.version,
            },
        )


@contextmanager
def opened(weights: Path, options: Options) -> Iterator[Phi4]:
    """The engine on the GPU where there is one; ends the command with one sentence where it cannot be loaded."""
    limits = replace(Limits(), queue=_QUEUE)
    try:
        with errors.status(f"loading {weights}"):
            speech = start(weights, StartOptions(lora=options.lora, limits=limits))
            speech.warm_up()
    except (CheckpointError, TooSmall) as err:
        fail(str(err))
    with speech:
        yield Phi4(speech, options)
