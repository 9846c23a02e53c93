"""The tasks: which prompts they make, what they do after a loop, and what they make of the model's text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from speech.contract import FinishReason, SpeechRequest, Task
from speech.phi4.audio import Clip
from speech.phi4.checks import SPOKEN, is_silent, needed_audio
from speech.phi4.generation import Completion, Generation
from speech.phi4.limits import Limits
from speech.phi4.model import Phi4Model
from speech.phi4.modes import Mode
from speech.phi4.prompts import CHAIN_SEPARATOR, TRANSCRIBE, Prompts, chain_instruction, translate_instruction
from speech.phi4.splitting import join_texts, quietest
from speech.phi4.summary import Summarizer
from speech.phi4.transcript import parse_transcript
from speech.phi4.work import Ask, Say, Work, worst

__all__ = ["Result", "Tasks"]

SUMMARIZE_AUDIO = (
    "Summarize this recording: why the people talk, what they settle, and what somebody promises to do. Use a few short "
    "sentences and only what is said."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """An answer before it is one of the contract. `completions`: all that was computed, retries too; `kept`: what the text
    is made of."""

    text: str
    finish_reason: FinishReason
    completions: Sequence[Completion] = ()
    kept: Sequence[Completion] = ()
    details: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class _Piece:
    audio: NDArray[np.float32]
    level: int
    completion: Completion
    capped: bool  # its limit was the most that can be spoken

    @property
    def looped(self) -> bool:
        """Whether it repeats itself, or is longer than speech can be, which is as good a sign."""
        reason = self.completion.finish_reason
        return reason is FinishReason.LOOP or (reason is FinishReason.LENGTH and self.capped)


class Tasks:
    """Turns checked requests into work for one model."""

    def __init__(
        self, model: Phi4Model, prompts: Prompts, summarizer: Summarizer, limits: Limits, separator: int | None
    ) -> None:
        self._model = model
        self._prompts = prompts
        self._summarizer = summarizer
        self._limits = limits
        self._separator = separator

    def work(self, request: SpeechRequest) -> Work[Result]:
        """The request's work; `checks.check_request` was passed."""
        if request.task in SPOKEN:
            return self._spoken(request)
        if request.task is Task.SUMMARIZE and request.audio is None:
            return self._transcript(request)
        return self._free(request)

    def _free(self, request: SpeechRequest) -> Work[Result]:
        text = (request.text or "").strip() or SUMMARIZE_AUDIO
        mode = Mode.LANGUAGE if request.audio is None else Mode.SPEECH
        generation = Generation(
            prompt=self._prompts.free(text, request.audio, request.rate),
            mode=mode,
            max_new_tokens=request.max_tokens or self._limits.summary_tokens,
            guard=self._limits.guard,
        )
        found = yield Ask(generations=[generation], stream=True)
        details: dict[str, Any] = {"method": "phi4-audio-v1"} if request.task is Task.SUMMARIZE else {}
        return Result(
            text=found[0].text.strip(),
            finish_reason=found[0].finish_reason,
            completions=found,
            kept=found,
            details=details,
        )

    def _transcript(self, request: SpeechRequest) -> Work[Result]:
        utterances = parse_transcript(request.text or "")
        tokens = request.max_tokens or self._limits.summary_tokens
        done = yield from self._summarizer.summarize(utterances, tokens=tokens, language=request.language)
        return Result(
            text=done.summary.json(),
            finish_reason=done.finish_reason,
            completions=done.completions,
            kept=done.completions[-1:],
            details={"method": done.summary.method, "parts": done.parts},
        )

    def _spoken(self, request: SpeechRequest) -> Work[Result]:
        audio = needed_audio(request)
        if is_silent(audio):
            return Result(text="", finish_reason=FinishReason.NO_SPEECH, details={"silence": True, "splits": 0})
        first, capped = self._spoken_generation(request, audio)
        found = yield Ask(generations=[first], stream=True)
        everything = list(found)
        pieces = [_Piece(audio, 0, found[0], capped)]
        while torn := [piece for piece in pieces if self._worth_splitting(piece, request.rate)]:
            if len(everything) == 1:
                yield Say(text="", restart=True)
            halves = [half for piece in torn for half in self._halves(piece, request.rate)]
            asked = [self._spoken_generation(request, half) for half in halves]
            found = yield Ask(generations=[generation for generation, _ in asked])
            everything += found
            made = iter(zip(halves, found, asked, strict=True))
            after: list[_Piece] = []
            for piece in pieces:
                if piece not in torn:
                    after.append(piece)
                    continue
                for _ in range(2):
                    half, completion, (_, is_capped) = next(made)
                    after.append(_Piece(half, piece.level + 1, completion, is_capped))
            pieces = after
        result = self._told(request, pieces, everything)
        # A chain's transcript was told before its translation, which alone is the text.
        if len(everything) > 1 or request.task is Task.TRANSLATE_CHAIN:
            yield Say(text=result.text, restart=len(everything) == 1)
        return result

    def _told(self, request: SpeechRequest, pieces: Sequence[_Piece], everything: Sequence[Completion]) -> Result:
        kept = [piece.completion for piece in pieces]
        details: dict[str, Any] = {"splits": len(pieces) - 1}
        texts = [one.text for one in kept]
        if request.task is Task.TRANSLATE_CHAIN:
            said, texts = zip(*map(self._parted, kept), strict=True)  # type: ignore[assignment]
            details["transcript"] = join_texts(list(said))
        text = join_texts(list(texts))
        reason = worst([one.finish_reason for one in kept])
        if not text and reason is FinishReason.STOP:
            reason = FinishReason.NO_SPEECH
        return Result(text=text, finish_reason=reason, completions=everything, kept=kept, details=details)

    def _parted(self, completion: Completion) -> tuple[str, str]:
        """Transcript and translation; without a separator the answer ended before the translation."""
        if self._separator is not None and self._separator in completion.token_ids:
            place = completion.token_ids.index(self._separator)
            said, translated = completion.token_ids[:place], completion.token_ids[place + 1 :]
            return self._prompts.text(said), self._prompts.text(translated)
        said_text, _, translated_text = completion.text.partition(CHAIN_SEPARATOR)
        return said_text, translated_text

    def _spoken_generation(self, request: SpeechRequest, audio: NDArray[np.float32]) -> tuple[Generation, bool]:
        if request.task is Task.TRANSCRIBE:
            instruction = TRANSCRIBE
        else:
            chain = request.task is Task.TRANSLATE_CHAIN
            instruction = (chain_instruction if chain else translate_instruction)(request.language or "")
        prompt = self._prompts.bare(instruction, audio, request.rate)
        tokens = (
            len(prompt.before) + self._model.audio_tokens(Clip(samples=audio, rate=request.rate)) + len(prompt.after)
        )
        times = 2 if request.task is Task.TRANSLATE_CHAIN else 1
        # Within an utterance's slot and within the positions of the short RoPE factors, so that both are always given.
        room = min(self._limits.utterance_slot_tokens, self._model.config.rope.original_positions) - tokens
        most = min(times * self._limits.spoken_tokens(prompt.seconds), max(1, room), self._limits.max_new_tokens)
        asked = request.max_tokens or most
        generation = Generation(
            prompt=prompt, mode=Mode.SPEECH, max_new_tokens=min(asked, most), guard=self._limits.guard
        )
        return generation, asked >= most

    def _worth_splitting(self, piece: _Piece, rate: int) -> bool:
        return (
            self._limits.guard
            and piece.looped
            and piece.level < self._limits.split_levels
            and len(piece.audio) >= self._limits.split_seconds * rate
        )

    def _halves(self, piece: _Piece, rate: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        cut = quietest(piece.audio, rate)
        return piece.audio[:cut], piece.audio[cut:]
