"""Summaries of transcripts by a tiny model of random weights: nonsense in form, and every id is the transcript's."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

pytest.importorskip("torch")
pytest.importorskip("llguidance")

from hypothesis import given, settings
from hypothesis import strategies as st

from speech.contract import FinishReason, InvalidRequest, SpeechAnswer, SpeechRequest, Task
from speech.phi4.generation import Completion, Generation, Timings
from speech.phi4.grammar import Grammars
from speech.phi4.limits import Limits
from speech.phi4.model import Mode
from speech.phi4.prompts import Prompts
from speech.phi4.service import Speech
from speech.phi4.summary import GRAMMAR_METHOD, PLAIN_METHOD, Summarizer, schema
from speech.phi4.transcript import Utterance, dump_transcript, parse_transcript
from tests.speech.phi4 import rig

LIMITS = Limits(
    utterance_slots=2, utterance_slot_tokens=512, summary_slots=2, summary_slot_tokens=2_500, shared_slots=1,
    shared_slot_tokens=512, summary_tokens=60,
)  # fmt: skip
ROLES = ("customer", "agent", "unknown")


def transcript(count: int, words: int = 4) -> list[Utterance]:
    return [Utterance(id=f"id-{n}", role=ROLES[n % 3], text=f"utterance {n} " + "word " * words) for n in range(count)]


def summarize(utterances: Sequence[Utterance], tokens: int | None = None, *, late: bool = False) -> SpeechAnswer:
    speech = Speech(rig.model(), rig.tokenizer(), LIMITS, version="tiny", stop_ids=rig.stop_ids(), run=False, late=late)
    request = SpeechRequest(task=Task.SUMMARIZE, text=dump_transcript(utterances), max_tokens=tokens)
    handle = speech.submit(request)
    rig.run_all(speech.engine)
    return handle.result(0)


def check(answer: SpeechAnswer, utterances: Sequence[Utterance], method: str = GRAMMAR_METHOD) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(answer.text)
    assert list(found) == ["method", "issue", "outcome", "actions", "summary", "evidence"]
    assert found["method"] == method
    known = [one.id for one in utterances]
    fields = {"issue", "outcome", "summary", *(f"actions[{n}]" for n in range(len(found["actions"])))}
    for evidence in found["evidence"]:
        assert evidence["field"] in fields
        assert evidence["utterance_ids"] == sorted(set(evidence["utterance_ids"]), key=known.index)
    return found


@settings(max_examples=6, deadline=None)
@given(count=st.integers(1, 12), tokens=st.sampled_from((1, 7, 40, 90, 200)), words=st.integers(0, 8))
def test_every_limit_gives_a_summary_whose_ids_are_the_transcripts(count: int, tokens: int, words: int) -> None:
    utterances = transcript(count, words)
    answer = summarize(utterances, tokens)
    check(answer, utterances)
    assert answer.finish_reason in (FinishReason.LENGTH, FinishReason.STOP)
    assert answer.tokens_out <= tokens


def test_a_whole_answer_names_evidence_for_all_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """With shorter texts the tiny model reaches the end of the form."""
    import speech.phi4.summary as module

    monkeypatch.setattr(module, "_TEXT_CHARS", 12)
    monkeypatch.setattr(module, "_SUMMARY_CHARS", 20)
    utterances = transcript(6)
    answer = summarize(utterances, 400)
    assert answer.finish_reason is FinishReason.STOP
    assert summarize(utterances, 400, late=True).text == answer.text
    found = check(answer, utterances)
    told = [name for name in ("issue", "outcome", "summary") if found[name]]
    told += [f"actions[{n}]" for n in range(len(found["actions"]))]
    assert sorted(told) == sorted(evidence["field"] for evidence in found["evidence"])
    assert answer.details is not None
    assert (answer.details["method"], answer.details["parts"]) == (GRAMMAR_METHOD, 1)


def test_what_is_too_long_for_one_prompt_is_mapped_and_reduced() -> None:
    utterances = transcript(30, 30)
    answer = summarize(utterances, 100)
    check(answer, utterances)
    assert answer.details is not None
    assert answer.details["parts"] >= 3
    assert answer.tokens_out > 100  # all that was written for it
    with pytest.raises(InvalidRequest, match="at most 16 are merged"):
        summarize(transcript(300, 30), 100)
    with pytest.raises(InvalidRequest, match="leaves no room"):
        summarize(utterances, 2_000)


def test_without_the_library_the_method_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Grammars, "available", False)
    utterances = transcript(3)
    answer = summarize(utterances, 40)
    found = check(answer, utterances, PLAIN_METHOD)
    assert found["summary"]
    assert answer.details is not None
    assert answer.details["method"] == PLAIN_METHOD


# The steps between prompts, with answers a real model would give.


def completed(text: str, reason: FinishReason = FinishReason.STOP) -> Completion:
    times = Timings(queue_ms=0, encode_ms=0, prefill_ms=0, decode_ms=0, first_ms=0)
    return Completion(
        token_ids=(1,), text=text, finish_reason=reason, prompt_tokens=9, mean_logprob=-1.0, timings=times, long_rope=False,
        shared_tokens=0,
    )  # fmt: skip


def finding(text: str, *numbers: int) -> dict[str, Any]:
    return {"text": text, "utterances": list(numbers)}


def prompt_text(generation: Generation) -> str:
    return rig.vocabulary().text((*generation.prompt.before, *generation.prompt.after))


def summarizer(window: int = 2_500) -> Summarizer:
    grammars = Grammars(rig.tokenizer(), end=rig.ids("<|end|>")[0])
    return Summarizer(Prompts(rig.tokenizer()), grammars, window=window, most_parts=16)


def test_numbers_become_ids_and_inventions_are_dropped() -> None:
    work = summarizer().summarize(transcript(3), tokens=50)
    asked = next(work)
    (generation,) = asked.generations  # type: ignore[union-attr]
    assert generation.mode is Mode.LANGUAGE
    assert generation.constraint is not None
    text = prompt_text(generation)
    assert "\n[1] Customer: utterance 0" in text
    assert "\n[2] Agent: utterance 1" in text
    assert "\n[3] utterance 2" in text
    answer = {
        "issue": finding("broken", 3, 1, 3), "outcome": None, "actions": [finding("send one", 2), finding("lie", 9, True)],
        "summary": finding("all", 1, 2),
    }  # fmt: skip
    with pytest.raises(StopIteration) as end:
        work.send([completed(json.dumps(answer))])
    found = json.loads(end.value.value.summary.json())
    assert found["issue"] == "broken"
    assert found["outcome"] is None
    assert found["actions"] == ["send one", "lie"]
    assert found["evidence"] == [
        {"field": "issue", "utterance_ids": ["id-0", "id-2"]},
        {"field": "actions[0]", "utterance_ids": ["id-1"]},
        {"field": "summary", "utterance_ids": ["id-0", "id-1"]},
    ]


def test_notes_of_parts_are_merged_by_the_numbers_they_cite() -> None:
    utterances = transcript(30, 30)
    work = summarizer().summarize(utterances, tokens=100)
    asked = next(work)
    parts = list(asked.generations)  # type: ignore[union-attr]
    assert [f"part {n + 1} of {len(parts)}" in prompt_text(part) for n, part in enumerate(parts)] == [True] * len(parts)
    lines = [line for part in parts for line in prompt_text(part).splitlines() if line.startswith("[")]
    assert [f"utterance {n} " in line for n, line in enumerate(lines)] == [True] * 30
    notes = [
        {
            "issue": finding(f"problem {n}", 2 * n + 1),
            "outcome": None,
            "actions": [],
            "summary": finding(f"part {n}", 2 * n + 2),
        }
        for n in range(len(parts))
    ]
    # A part's own lines are the only ones its notes may name.
    first = notes[0] | {"issue": finding("invented", 30)}
    asked = work.send([completed(json.dumps(note)) for note in (first, *notes[1:])])
    merging = list(asked.generations)  # type: ignore[union-attr]
    text = prompt_text(merging[0])
    assert "Part 1, summary [2]: part 0" in text
    assert "Part 1, issue []: invented" in text
    while True:
        try:
            asked = work.send([completed(json.dumps({"summary": finding("everything", 2, 1)})) for _ in merging])
        except StopIteration as end:
            found = json.loads(end.value.summary.json())
            break
        merging = list(asked.generations)  # type: ignore[union-attr]
    assert found["evidence"] == [{"field": "summary", "utterance_ids": ["id-1"]}]


def test_a_line_longer_than_a_prompt_goes_on_in_the_next_part() -> None:
    talk = Utterance(id="long", role="agent", text=" ".join(f"w{n}" for n in range(1_500)))
    asked = next(summarizer().summarize([talk], tokens=50))
    texts = [prompt_text(part) for part in asked.generations]  # type: ignore[union-attr]
    assert len(texts) > 1
    words = [
        word for text in texts for word in text.split("<")[0].split() if word.startswith("w") and word[1:].isdigit()
    ]
    assert words == talk.text.split()
    assert all(len(part.prompt.before) + len(part.prompt.after) + 50 <= 2_500 for part in asked.generations)  # type: ignore[union-attr]


def test_the_schema_allows_the_given_numbers_only() -> None:
    assert schema({4, 5, 6})["properties"]["summary"]["properties"]["utterances"]["items"] == {
        "type": "integer", "minimum": 4, "maximum": 6,
    }  # fmt: skip
    assert schema({4, 9})["properties"]["summary"]["properties"]["utterances"]["items"] == {"enum": [4, 9]}
    assert schema(set())["properties"]["summary"]["properties"]["utterances"] == {"type": "array", "maxItems": 0}


def test_transcripts_are_json_or_plain_lines() -> None:
    utterances = transcript(3)
    assert parse_transcript(dump_transcript(utterances)) == utterances
    plain = parse_transcript("Agent: hello\n\nCustomer: hi\n")
    assert [(one.id, one.text) for one in plain] == [("1", "Agent: hello"), ("3", "Customer: hi")]
    for text in ("{", "{}", '{"utterances": [{"id": 1}]}', " \n ", '{"utterances": []}'):
        with pytest.raises(InvalidRequest):
            parse_transcript(text)
    # What JSON can write and no answer could carry.
    for half in ('{"id": "\\ud800", "text": "hello"}', '{"id": "1", "text": "hello \\udc00"}'):
        with pytest.raises(InvalidRequest, match="surrogate"):
            parse_transcript(f'{{"utterances": [{half}]}}')
    with pytest.raises(InvalidRequest, match="same id"):
        parse_transcript(dump_transcript([utterances[0], utterances[0]]))
