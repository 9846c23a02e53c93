"""The summary of a call: the speech model's, where it writes one, else quotations (workers/extractive.py).

`method` tells readers which. What the model refuses, such as a call longer than it takes, is quoted too: no call is
buried for want of prose.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from errors import Permanent, Transient
from store.facts import Inference as Made
from store.facts import TranscriptLine
from workers.deadline import Deadline
from workers.extractive import METHOD, CallSummary, Finding, summarize
from workers.inference import Inference

__all__ = ["Summary", "read_summary", "summary_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """What a call's summary says, and what made it."""

    said: CallSummary
    made: Made


async def summary_of(lines: Sequence[TranscriptLine], inference: Inference, deadline: Deadline) -> Summary:
    """The summary of one call's utterances, in time order. Raises Transient where the model does not answer rightly."""
    spoken = [line for line in lines if line.text.strip()]
    if inference.summarizes and spoken:
        try:
            found = await inference.summarize(request_text(spoken), deadline)
        except Permanent:  # counted by the client; the next engine takes it
            pass
        else:
            said = read_summary(found.answer.text, {line.utterance_id for line in spoken})
            if said.summary:
                made = Made(
                    model=found.answer.model,
                    model_version=found.answer.version,
                    infer_ms=found.answer.infer_ms,
                    queue_ms=found.queue_ms,
                )
                return Summary(said=said, made=made)
    said = await asyncio.to_thread(summarize, lines)  # a long call takes a while
    return Summary(said=said, made=Made(model=METHOD, model_version=METHOD, infer_ms=0.0, queue_ms=0.0))


def request_text(lines: Sequence[TranscriptLine]) -> str:
    """The request's TEXT, as speech/phi4/transcript.py reads it."""
    told = [{"id": str(line.utterance_id), "role": line.role, "text": line.text} for line in lines]
    return json.dumps({"utterances": told}, ensure_ascii=False)


def read_summary(text: str, known: set[UUID]) -> CallSummary:
    """The summary in an answer's TEXT (speech/phi4/transcript.py). Raises Transient for another form, or for evidence
    that is none of the `known` utterances: an engine that answers so is ill."""
    try:
        found = json.loads(text)
        evidence = {one["field"]: tuple(UUID(said) for said in one["utterance_ids"]) for one in found["evidence"]}
        if not known.issuperset(said for ids in evidence.values() for said in ids):
            raise Transient("the summary's evidence names utterances that the call does not have")

        def finding(name: str, said: Any) -> Finding | None:
            return None if said is None else Finding(text=words(said), utterance_ids=evidence.get(name, ()))

        actions = (finding(f"actions[{number}]", said) for number, said in enumerate(found["actions"]))
        return CallSummary(
            method=words(found["method"]),
            issue=finding("issue", found["issue"]),
            outcome=finding("outcome", found["outcome"]),
            actions=tuple(action for action in actions if action is not None),
            summary=words(found["summary"]),
            summary_utterance_ids=evidence.get("summary", ()),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as err:
        raise Transient(f"the summary has not the form it should have ({type(err).__name__})") from err


def words(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value.replace("\0", " ")  # Postgres takes no NUL
