"""What one step computes: encoder batches, prompts, one token for everybody. Values in, values out, no bookkeeping.

On a GPU this is where a decode step becomes a CUDA graph per batch size: `Phi4Model.decode` takes device tensors and
waits for nothing. That was not run yet, so every step is eager.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from speech.phi4.generation import Prompt
from speech.phi4.model import Cache, Clip, Mode, Phi4Model, PrefillRow
from speech.phi4.sampling import greedy
from speech.phi4.sequence import Running

__all__ = ["Choice", "Steps"]

Choice = tuple[int, float]  # a token and its log-probability


class Steps:
    """One model over one cache."""

    def __init__(self, model: Phi4Model, cache: Cache) -> None:
        self._model = model
        self._cache = cache

    def encode(self, batch: Sequence[Running]) -> list[Tensor]:
        """The audio of each request as embeddings [tokens, hidden]."""
        return self._model.encode([clip_of(running.generation.prompt) for running in batch])

    def embed(self, running: Running, audio: Tensor | None) -> Tensor:
        """The prompt behind its shared beginning: [tokens, hidden]."""
        prompt = running.generation.prompt
        before, after = self._model.embed(prompt.before[running.shared :]), self._model.embed(prompt.after)
        return torch.cat([before, after] if audio is None else [before, audio, after])

    def prefill(self, chunks: Sequence[tuple[Running, int]]) -> list[Choice | None]:
        """So many more tokens of each prompt; the first token of the answer where the prompt is complete."""
        rows = []
        for running, count in chunks:
            assert running.embeds is not None
            done = running.cached - running.shared
            rows.append(
                PrefillRow(
                    slot=running.slot,
                    start=running.cached,
                    embeds=running.embeds[done : done + count],
                    mode=running.generation.mode,
                    long_rope=running.long_rope,
                )
            )
        logits = self._model.prefill(self._cache, rows)
        ready = [n for n, (running, count) in enumerate(chunks) if running.missing == count]
        choices: list[Choice | None] = [None] * len(chunks)
        if ready:
            chosen = logits if len(ready) == len(chunks) else logits[ready]
            found = _read(*greedy(chosen, [chunks[n][0].allowed() for n in ready]))
            for n, choice in zip(ready, found, strict=True):
                choices[n] = choice
        return choices

    def decode(self, batch: Sequence[Running]) -> list[Choice]:
        """One more token of each answer."""
        pending = []
        for mode in (Mode.SPEECH, Mode.LANGUAGE):
            chosen = [n for n, running in enumerate(batch) if running.generation.mode is mode]
            if not chosen:
                continue
            values = torch.tensor(
                [
                    (
                        running.token_ids[-1],
                        running.slot,
                        running.prompt_tokens + len(running.token_ids) - 1,
                        running.long_rope,
                    )
                    for running in (batch[n] for n in chosen)
                ]
            ).to(self._model.device, non_blocking=True)
            ids, slots, lengths, long = values.unbind(1)
            logits = self._model.decode(self._cache, mode, ids, slots, lengths, long.bool())
            pending.append((chosen, greedy(logits, [batch[n].allowed() for n in chosen])))
        choices: list[Choice] = [(0, 0.0)] * len(batch)
        for chosen, (ids, logprobs) in pending:
            for n, choice in zip(chosen, _read(ids, logprobs), strict=True):
                choices[n] = choice
        return choices


def clip_of(prompt: Prompt) -> Clip:
    """The prompt's audio as the model takes it."""
    assert prompt.audio is not None
    return Clip(samples=prompt.audio, rate=prompt.rate)


def _read(ids: Tensor, logprobs: Tensor) -> list[Choice]:
    # float64 holds every id exactly, so both come back in one transfer.
    both = torch.stack([ids.double(), logprobs.double()]).tolist()
    return [(int(token_id), logprob) for token_id, logprob in zip(*both, strict=True)]
