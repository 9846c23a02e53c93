"""The extractive summary: on the six sample calls, on calls its cues were not written for, and on anything."""

from __future__ import annotations

import json
import random
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store.fact_rows import TranscriptLine
from workers import cues
from workers.extractive import MAX_ACTIONS, MAX_QUOTE_CHARS, METHOD, Finding, summarize

CALLS = Path(__file__).parents[2] / "samples" / "calls"

# By call: the utterances (as numbered in its json, from 0) that state what its ground truth calls the
# issue and the outcome, any of them right; and those in which its actions are promised, each wanted.
SUPPORT: dict[str, tuple[set[int], set[int], set[int]]] = {
    "airline-bag": ({1}, {4}, {4}),
    "card-fee": ({1}, {6, 8}, {6}),
    "hotel-noise": ({3}, {6}, {6}),
    "internet-outage": ({1}, {8, 9}, {4, 6}),
    "laptop-battery": ({1}, {5, 9}, {5, 7}),
    "late-delivery": ({1}, {6, 8}, {6}),
}

PHARMACY = """
A: Good afternoon, Parkside Pharmacy, Helen speaking.
C: Hello. I ordered a refill for my mother last week and it still has not come in.
A: I'm sorry about that. What is the name on the prescription?
C: Rosa Delgado.
A: One second, please. I see, the doctor's office never approved it.
C: They told me they sent it on Monday.
A: I'll call the office right now and ask them again.
C: And what am I supposed to do until then? She has two tablets left.
A: We can give you five tablets today, and please bring the old box when you come.
C: Okay, that is fine.
A: The rest should be ready on Thursday afternoon.
C: Thank you, Helen."""
GYM = """
A: Iron Yard Fitness, how can I help?
C: Yeah, hi, I'd like to cancel my membership.
A: Sure. Can I ask why?
C: I'm moving to Portland in January.
A: I see. Unfortunately there's a thirty-day notice, so the last payment is in December.
C: That is fine, I expected that.
A: I've cancelled it as of December thirty-first. You'll get a confirmation by email.
C: Great, thanks. The trainers were wonderful, by the way.
A: I'll pass that on."""
DECLINED = """
A: First Valley Bank.
C: I tried to pay for gas this morning and my card got declined.
A: Let me take a look. Were you traveling?
C: I'm in Nevada, yes.
A: It was blocked because of an unusual location.
C: Can you unblock it? I'm standing at the pump.
A: I've unlocked it. Try again in a minute.
C: It works now. Thanks a lot.
A: You're welcome."""


def line(number: int, role: str, text: str) -> TranscriptLine:
    return TranscriptLine(utterance_id=UUID(int=number), role=role, start_ms=number * 1000, text=text)


def spoken(script: str) -> list[TranscriptLine]:
    roles = {"A": "agent", "C": "customer"}
    return [line(number, roles[one[0]], one[3:]) for number, one in enumerate(script.strip().splitlines())]


def sample(name: str, role: str | None = None) -> list[TranscriptLine]:
    said = json.loads((CALLS / f"{name}.json").read_text("utf-8"))["utterances"]
    return [line(number, role or one["speaker"], one["text"]) for number, one in enumerate(said)]


def numbers(finding: Finding | None) -> set[int]:
    return {one.int for one in finding.utterance_ids} if finding else set()


@pytest.mark.parametrize("role", [None, "unknown"], ids=["stereo", "mono"])
@pytest.mark.parametrize("name", sorted(SUPPORT))
def test_the_sample_calls_are_supported_where_their_truth_is_spoken(name: str, role: str | None) -> None:
    issue, outcome, actions = SUPPORT[name]
    found = summarize(sample(name, role))
    assert numbers(found.issue) & issue
    assert numbers(found.outcome) & outcome
    assert {number for action in found.actions for number in numbers(action)} >= actions


@pytest.mark.parametrize(
    ("script", "issue", "outcome", "actions"),
    [(PHARMACY, {1}, {8, 10}, {6, 8}), (GYM, {1}, {6}, {6, 8}), (DECLINED, {1}, {6, 7}, set())],
    ids=["pharmacy", "gym", "declined"],
)
def test_calls_of_other_trades(script: str, issue: set[int], outcome: set[int], actions: set[int]) -> None:
    found = summarize(spoken(script))
    assert numbers(found.issue) & issue
    assert numbers(found.outcome) & outcome
    assert {number for action in found.actions for number in numbers(action)} >= actions


def test_the_summary_quotes_issue_and_outcome_and_names_their_utterances() -> None:
    found = summarize(sample("card-fee"))
    assert found.method == METHOD == "extractive-v1"
    assert found.issue
    assert found.outcome
    assert found.summary == f"Issue: “{found.issue.text}” Outcome: “{found.outcome.text}”"
    assert set(found.summary_utterance_ids) == {*found.issue.utterance_ids, *found.outcome.utterance_ids}
    fields = [one["field"] for one in found.evidence()]
    assert fields == ["issue", "outcome", *(f"actions[{n}]" for n in range(len(found.actions))), "summary"]
    assert json.loads(json.dumps(found.evidence())) == found.evidence()


def test_an_empty_call_has_an_empty_summary() -> None:
    for lines in ([], [line(0, "customer", " "), line(1, "agent", "...")]):
        found = summarize(lines)
        assert (found.issue, found.outcome, found.actions, found.summary) == (None, None, (), "")
        assert found.evidence() == []


def test_a_call_without_trouble_or_promise_is_not_given_any() -> None:
    found = summarize(spoken("A: Hello, this is Ann.\nC: Hi Ann.\nA: Goodbye then."))
    assert (found.issue, found.outcome, found.actions) == (None, None, ())
    assert found.summary == "Said: “Hello, this is Ann.”"


def test_questions_and_hopes_promise_nothing() -> None:
    found = summarize(spoken("C: The heating is broken.\nA: Will I send you a form?\nA: I hope we will refund it."))
    assert found.outcome is None


def test_a_promise_before_a_question_is_a_promise() -> None:
    found = summarize(spoken("C: It came late.\nA: I will refund the fee, which card did you pay with?"))
    assert [action.text for action in found.actions] == ["I will refund the fee"]


def test_what_the_customer_plans_is_no_action() -> None:
    found = summarize(spoken("C: The heating is broken.\nC: I will send you a letter.\nA: I will send a plumber."))
    assert [action.text for action in found.actions] == ["I will send a plumber."]


def test_an_accepted_offer_counts_more_than_an_equal_one() -> None:
    talk = "C: Well.\n" * 8
    offer = talk + "A: We will refund it.\nC: {}\nA: We will replace it.\nC: I see."
    assert numbers(summarize(spoken(offer.format("That is great."))).outcome) == {8, 9}
    assert numbers(summarize(spoken(offer.format("I see."))).outcome) == {10}


def test_an_issue_cut_in_the_middle_goes_on_with_the_next_utterance() -> None:
    found = summarize(spoken("C: I'm calling because two weeks ago\nA: Yes.\nC: the light came on.\nC: Hm."))
    assert found.issue
    assert found.issue.text == "I'm calling because two weeks ago the light came on."
    assert numbers(found.issue) == {0, 2}


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("I can't, it's broken!", "i can not it is broken"),
        ("We won’t; they've  said", "we will not they have said"),
        ("I'd say I'm done, you'll see.", "i would say i am done you will see"),
    ],
)
def test_plain_undoes_contractions(text: str, plain: str) -> None:
    assert cues.plain(text) == plain


words = st.sampled_from(
    ["i", "will", "send", "you", "a", "refund", "the", "bag", "is", "lost", "please", "call", "done."]
)
marks = st.sampled_from(["Thanks!", "why?", "Dr.", "Lee", "it's", "ok", "tomorrow", "morning"])
texts = st.one_of(st.lists(words | marks, max_size=30).map(" ".join), st.text(max_size=40))
calls = st.lists(st.tuples(st.sampled_from(["customer", "agent", "unknown"]), texts), max_size=12).map(
    lambda said: [line(number, role, text) for number, (role, text) in enumerate(said)]
)


@given(calls, st.randoms(use_true_random=False))
def test_every_finding_is_a_quotation_and_order_does_not_matter(
    lines: list[TranscriptLine], rng: random.Random
) -> None:
    found = summarize(lines)
    mixed = list(lines)
    rng.shuffle(mixed)
    assert summarize(mixed) == found
    text_of = {one.utterance_id: " ".join(one.text.split()) for one in lines}
    assert len(found.actions) <= MAX_ACTIONS
    for finding in (found.issue, found.outcome, *found.actions):
        if finding is None:
            continue
        assert finding.utterance_ids
        assert 0 < len(finding.text) <= MAX_QUOTE_CHARS
        quoted = " ".join(text_of[one] for one in finding.utterance_ids)
        wanted = iter(quoted.split())
        assert all(word in wanted for word in finding.text.rstrip("…").split())
    assert bool(found.summary) == any(any(c.isalnum() or c == "_" for c in one.text) for one in lines)


def test_a_call_of_hours_is_quick() -> None:
    said = [
        line(n, ("customer", "agent")[n % 2], "I will send it, but it is late. Thanks, that works.")
        for n in range(3000)
    ]
    assert len(summarize(said).actions) == 1
