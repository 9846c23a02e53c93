"""Who writes a call's summary: the speech model, and quotations where it does not."""

from __future__ import annotations

import json
from uuid import UUID, uuid4

import pytest

from errors import Transient
from stack.stack import Stack
from store.fact_rows import TranscriptLine
from workers import inference as client
from workers.deadline import Deadline
from workers.extractive import METHOD
from workers.inference import Inference
from workers.summaries import read_summary, request_text, summary_of

ONE, TWO = uuid4(), uuid4()
LINES = [
    TranscriptLine(utterance_id=ONE, role="customer", start_ms=0, text="The battery died after two days."),
    TranscriptLine(utterance_id=TWO, role="agent", start_ms=4_000, text="We will send you a new one tomorrow."),
]
GOOD = {
    "method": "phi4-json-v1", "issue": "The battery died.", "outcome": None, "actions": ["Send a new one."],
    "summary": "A battery is replaced.",
    "evidence": [{"field": "issue", "utterance_ids": [str(ONE)]}, {"field": "actions[0]", "utterance_ids": [str(TWO)]}],
}  # fmt: skip


def read(**changes: object) -> object:
    return read_summary(json.dumps(GOOD | changes), {ONE, TWO})


def test_an_answer_is_read() -> None:
    found = read_summary(json.dumps(GOOD), {ONE, TWO})
    assert (found.method, found.outcome, found.summary) == ("phi4-json-v1", None, "A battery is replaced.")
    assert found.evidence() == GOOD["evidence"]


@pytest.mark.parametrize(
    "changes",
    [
        {"actions": None},
        {"summary": 3},
        {"evidence": [{"field": "issue", "utterance_ids": ["1"]}]},
        {"evidence": [{"field": "issue", "utterance_ids": [str(UUID(int=7))]}]},
        {"issue": ["a"]},
    ],
)
def test_an_answer_of_another_form_or_with_strange_evidence_is_no_answer(changes: dict[str, object]) -> None:
    with pytest.raises(Transient, match="summary"):
        read(**changes)


def test_what_is_no_json_is_no_answer() -> None:
    with pytest.raises(Transient, match="form"):
        read_summary("The battery died.", {ONE, TWO})


def test_the_request_names_each_utterance() -> None:
    told = json.loads(request_text(LINES))["utterances"]
    assert [(one["id"], one["role"]) for one in told] == [(str(ONE), "customer"), (str(TWO), "agent")]


async def test_what_the_model_refuses_is_quoted(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    inference = Inference(stack.endpoints["triton"])
    try:
        assert not inference.summarizes
        quoted = await summary_of(LINES, inference, Deadline.after(30))
        monkeypatch.setattr(client, "SUMMARIZING", {"whisper"})  # which answers that it has no such task
        assert inference.summarizes
        refused = await summary_of(LINES, inference, Deadline.after(30))
    finally:
        await inference.close()
    assert (quoted.said.method, quoted.made.model) == (METHOD, METHOD)
    assert refused == quoted
