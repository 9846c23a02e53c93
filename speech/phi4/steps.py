"""What one step computes: encoder batches, prompts, one token for everybody. Values in, values out, no bookkeeping."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from speech.phi4.flight import Flight, Tokens
from speech.phi4.generation import Prompt
from speech.phi4.graphs import DecodeGraphs
from speech.phi4.model import Cache, Clip, Mode, Phi4Model, PrefillRow
from speech.phi4.sampling import greedy
from speech.phi4.sequence import Running

__all__ = ["Steps"]


class Steps:
    """One model over one cache; nothing here waits for the device but `encode`, which may."""

    def __init__(self, model: Phi4Model, cache: Cache, graphs: DecodeGraphs | None = None) -> None:
        self._model = model
        self._cache = cache
        self._graphs = graphs

    def encode(self, batch: Sequence[tuple[Running, int]]) -> list[Tensor]:
        """So many more blocks of each request's audio as embeddings [tokens, hidden]."""
        clips = [_clip(running.generation.prompt) for running, _ in batch]
        blocks = [range(running.heard, running.heard + count) for running, count in batch]
        return self._model.encode(clips, blocks=blocks)

    def embed(self, running: Running, audio: Sequence[Tensor]) -> Tensor:
        """The prompt behind its shared beginning: [tokens, hidden]; `audio` are its parts in order."""
        prompt = running.generation.prompt
        before = prompt.before[running.shared :]
        if not audio:
            return self._model.embed(before + prompt.after)
        return torch.cat([self._model.embed(before), *audio, self._model.embed(prompt.after)])

    def prefill(self, chunks: Sequence[tuple[Running, int]]) -> Tokens | None:
        """So many more tokens of each prompt; the first token of those answers whose prompt is complete."""
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
        if not ready:
            return None
        members = [chunks[n][0] for n in ready]
        ids, logprobs = greedy(
            logits if len(ready) == len(chunks) else logits[ready], [running.allowed() for running in members]
        )
        return Tokens(members=members, ids=ids, logprobs=logprobs)

    def decode(self, batch: Sequence[Running], before: Flight) -> list[Tokens]:
        """One more token of each answer; the last ones may still be in flight."""
        found = []
        for mode in (Mode.SPEECH, Mode.LANGUAGE):
            mine = [running for running in batch if running.generation.mode is mode]
            for held in (False, True):
                members = [running for running in mine if (running.constraint is not None) == held]
                if members:
                    found.append(self._decode(mode, members, before, held=held))
        return found

    def _decode(self, mode: Mode, members: Sequence[Running], before: Flight, *, held: bool) -> Tokens:
        rows = []
        for running in members:
            place = before.place(running)
            token = 0 if place >= 0 else running.token_ids[-1]
            length = running.prompt_tokens + len(running.token_ids) - (0 if place >= 0 else 1)
            rows.append((token, running.slot, length, running.long_rope, place))
        values = torch.tensor(rows).to(self._model.device, non_blocking=True)
        ids, slots, lengths, long, places = values.unbind(1)
        if any(row[4] >= 0 for row in rows):
            ids = torch.where(places >= 0, before.ids()[places.clamp(min=0)], ids)
        if self._graphs is not None and not held and self._graphs.fits(len(members)):
            chosen, logprobs = self._graphs(mode, ids, slots, lengths, long.bool())
        else:
            logits = self._model.decode(self._cache, mode, ids, slots, lengths, long.bool())
            chosen, logprobs = greedy(logits, [running.allowed() for running in members])
        return Tokens(members=members, ids=chosen, logprobs=logprobs)


def _clip(prompt: Prompt) -> Clip:
    assert prompt.audio is not None
    return Clip(samples=prompt.audio, rate=prompt.rate)
