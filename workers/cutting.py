"""From calls in order to utterances on their way: detector, cuts, twins of a fake stereo recording, FLAC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import numpy as np
import soxr

from speech.segment import ChannelCorrelation, ChannelInput, ChannelState, Cut, Segmenter
from stream.audio import encode_flac
from stream.events import CallClosed, Topics, Utterance, utterance_id
from stream.records import Message
from workers.assembly import Assembly, Stretch, merge

__all__ = ["Cutter", "Draft", "begin_channels"]

Pcm = np.ndarray[Any, np.dtype[np.int16]]

#: 30 s at 16 kHz always fit a Kafka record; recognition needs no more.
UTTERANCE_RATE = 16_000


@dataclass(slots=True, kw_only=True)
class Draft:
    """An open call while a batch is worked on; thrown away when the batch fails.

    `audio` holds per channel what may still be cut: the call's sample it starts at, and int16 [n].
    """

    call: Assembly
    audio: list[tuple[int, Pcm]]
    stretches: list[Stretch] = field(default_factory=list)
    appended: list[tuple[int, int, Pcm]] = field(default_factory=list)  # channel, start sample, pcm
    late_chunks: int = 0
    late_ms: int = 0
    metadata: Mapping[str, object] = field(default_factory=dict)


def begin_channels(draft: Draft, sample: int) -> None:
    """A fresh detector for each channel, at this sample of the call. Raises ValueError for an unknown rate."""
    call = draft.call
    call.channel_states = [ChannelState(rate=call.rate).to_bytes() for _ in range(call.channels)]
    call.origins = [sample] * call.channels
    draft.audio = [(sample, np.zeros(0, np.int16)) for _ in range(call.channels)]


class Cutter:
    """Pure but for the detector's arithmetic: the same calls give the same messages."""

    def __init__(self, segmenter: Segmenter, topics: Topics) -> None:
        self._segmenter = segmenter
        self._topics = topics
        self.cut_version = segmenter.cut_version

    def cut(self, drafts: Iterable[Draft]) -> tuple[list[Message], list[Message]]:
        """Work through all stretches, the channels of all calls side by side. Returns utterances, and call.closed of each."""
        utterances: list[Message] = []
        ends: list[Message] = []
        queues = [(draft, merge(draft.stretches)) for draft in drafts]
        while any(queue for _, queue in queues):
            turn = [(draft, queue.pop(0), queue) for draft, queue in queues if queue]
            utterances += self._advance(
                [(draft, now, after[0].start if after else draft.call.position) for draft, now, after in turn]
            )
            ends += [closed(draft.call, self._topics) for draft, stretch, _ in turn if stretch.breaks == "close"]
        return utterances, ends

    def _advance(self, turn: Sequence[tuple[Draft, Stretch, int]]) -> list[Message]:
        """One stretch a call; the number is the sample where the call goes on behind it."""
        out: list[Message] = []
        inputs = [
            [self._input(draft, stretch, n) for n in range(len(draft.call.channel_states))]
            for draft, stretch, _ in turn
        ]
        found = iter(self._segmenter.advance([one for mine in inputs for one in mine]))
        for (draft, stretch, resume), mine in zip(turn, inputs, strict=True):
            cuts: list[tuple[int, Cut]] = []
            for channel, one in enumerate(mine):
                ended = next(found)
                if stretch.breaks != "no":
                    ended = [*ended, *self._segmenter.flush(one.state)]
                cuts += [(channel, shifted(cut, draft.call.origins[channel])) for cut in ended]
            out += self._utterances(draft, stretch, cuts)
            if stretch.breaks == "no":
                forget(draft, [one.state for one in mine])
            else:
                begin_channels(draft, resume)
        return out

    def _input(self, draft: Draft, stretch: Stretch, channel: int) -> ChannelInput:
        samples = np.ascontiguousarray(stretch.pcm[:, channel])
        start, audio = draft.audio[channel]
        if len(samples):
            draft.audio[channel] = (start, np.concatenate([audio, samples]))
            draft.appended.append((channel, stretch.start, samples))
        return ChannelInput(state=ChannelState.from_bytes(draft.call.channel_states[channel]), samples=samples)

    def _utterances(self, draft: Draft, stretch: Stretch, cuts: Sequence[tuple[int, Cut]]) -> list[Message]:
        """The same sound on both channels is one speaker: kept once, its role unknown."""
        call = draft.call
        twins = self._compare(call, stretch)
        ordered = sorted(cuts, key=lambda pair: (pair[1].start_sample, pair[0]))
        out: list[Message] = []
        for channel, cut in ordered:
            same = twins is not None and is_twin(draft, twins, channel, cut, ordered)
            if same and channel == 1:
                continue
            pcm = audio_of(draft, channel, cut)
            rate = min(call.rate, UTTERANCE_RATE)
            if rate < call.rate:
                pcm = soxr.resample(pcm, call.rate, rate)
            identity = utterance_id(call.call_id, channel, cut.start_sample, self.cut_version)
            call.utterance_ids.append(str(identity))
            out.append(
                Utterance(
                    utterance_id=identity,
                    call_id=call.call_id,
                    call_started_at=call.call_started_at,
                    channel=channel,
                    role="unknown" if same else call.roles[channel],
                    start_ms=cut.start_sample * 1000 // call.rate,
                    end_ms=cut.end_sample * 1000 // call.rate,
                    rate=rate,
                    flac=encode_flac(pcm, rate),
                    cut_version=self.cut_version,
                    product=call.product,
                    traceparent=call.traceparent,
                ).to_message(self._topics)
            )
        return out

    def _compare(self, call: Assembly, stretch: Stretch) -> ChannelCorrelation | None:
        if call.channels != 2:
            return None
        twins = ChannelCorrelation.from_bytes(call.twins) if call.twins else ChannelCorrelation(rate=call.rate)
        if not twins.decided:
            before = twins.seen  # counts samples heard; a gap has none
            twins.update(np.ascontiguousarray(stretch.pcm[:, 0]), np.ascontiguousarray(stretch.pcm[:, 1]))
            call.twins, call.twins_at = twins.to_bytes(), stretch.start + twins.seen - before
        return twins


def forget(draft: Draft, states: Sequence[ChannelState]) -> None:
    """Audio that can never be cut goes."""
    for channel, state in enumerate(states):
        start, audio = draft.audio[channel]
        keep = max(start, draft.call.origins[channel] + state.keep_from)
        draft.audio[channel] = (keep, audio[keep - start :])
        draft.call.channel_states[channel] = state.to_bytes()


def is_twin(draft: Draft, twins: ChannelCorrelation, channel: int, cut: Cut, cuts: Sequence[tuple[int, Cut]]) -> bool:
    """Decided by audio up to the cut alone, so that it does not depend on how the audio was batched."""
    if twins.identical is not None and draft.call.twins_at <= cut.end_sample:
        return twins.identical
    other = 1 - channel
    return (other, cut) in cuts and np.array_equal(audio_of(draft, 0, cut), audio_of(draft, 1, cut))


def audio_of(draft: Draft, channel: int, cut: Cut) -> Pcm:
    start, audio = draft.audio[channel]
    return audio[cut.start_sample - start : cut.end_sample - start]


def shifted(cut: Cut, origin: int) -> Cut:
    return Cut(start_sample=cut.start_sample + origin, end_sample=cut.end_sample + origin)


def closed(call: Assembly, topics: Topics) -> Message:
    assert call.closed is not None
    return CallClosed(
        call_id=call.call_id,
        call_started_at=call.call_started_at,
        utterance_ids=tuple(UUID(one) for one in call.utterance_ids),
        gap_ms=call.gap_ms,
        duration_ms=call.duration_ms,
        reason=call.closed,
        product=call.product,
        traceparent=call.traceparent,
    ).to_message(topics)
