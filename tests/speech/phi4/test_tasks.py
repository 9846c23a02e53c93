"""Requests of the contract on a real engine with a tiny checkpoint: limits, splitting, and what bad input gets."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")

from speech.contract import (
    FinishReason,
    InvalidRequest,
    SpeechAnswer,
    SpeechDelta,
    SpeechRequest,
    Task,
    UnsupportedTask,
    parse_answer,
)
from speech.phi4.flight import Flight, Tokens
from speech.phi4.generation import Generation, Prompt
from speech.phi4.limits import Limits
from speech.phi4.model import Mode
from speech.phi4.prompts import LANGUAGES, SYSTEM, TRANSCRIBE
from speech.phi4.refusals import EngineFailed, QueueFull
from speech.phi4.service import Speech, SpeechEvent
from speech.phi4.shared import SharedPrompts
from speech.phi4.steps import Steps
from speech.phi4.version import weights_version
from tests.speech.phi4 import rig

# The tiny tokenizer spells letter by letter: prompts are long.
LIMITS = Limits(
    utterance_slots=4, utterance_slot_tokens=1_024, summary_slots=1, summary_slot_tokens=4_000, shared_slots=2,
    shared_slot_tokens=512, queue=16, summary_tokens=24, max_new_tokens=512, split_seconds=0.4,
)  # fmt: skip


def make(limits: Limits = LIMITS, *, run: bool = True) -> Speech:
    return Speech(rig.model(), rig.tokenizer(), limits, version="tiny", stop_ids=rig.stop_ids(), run=run)


@pytest.fixture(name="speech", scope="module")
def _speech() -> Iterator[Speech]:
    with make() as speech:
        yield speech


def told(events: Sequence[SpeechEvent]) -> str:
    """The text of whoever follows the deltas."""
    text = ""
    for event in events:
        assert isinstance(event, SpeechDelta)
        text = event.text if event.restart else text + event.text
    return text


def transcribe(seconds: float = 1.0, **other: Any) -> SpeechRequest:
    return SpeechRequest(**{"task": Task.TRANSCRIBE, "audio": rig.tone(seconds)} | other)


def test_a_transcript_is_what_the_model_says_after_the_bare_prompt(speech: Speech) -> None:
    request = transcribe(1.3, max_tokens=12)
    answer = speech.answer(request)
    prompt = Prompt(before=rig.ids("<|user|>"), audio=request.audio, after=rig.ids(f"{TRANSCRIBE}<|end|><|assistant|>"))
    want = rig.alone(Generation(prompt=prompt, mode=Mode.SPEECH, max_new_tokens=12))
    assert answer.details is not None
    assert tuple(answer.details["token_ids"]) == want
    assert answer.text == rig.vocabulary().text(want).strip()
    assert (answer.model, answer.version, answer.tokens_out) == ("phi4", "tiny", len(want))
    assert answer.tokens_in == len(prompt.before) + 16 + len(prompt.after)
    assert answer.mean_logprob < 0
    assert set(answer.details["timings"]) == {"queue_ms", "encode_ms", "prefill_ms", "decode_ms", "first_ms"}
    assert (answer.details["splits"], answer.details["front_end"]) == (0, "16k")
    assert parse_answer(answer.tensors()).details == answer.details


@pytest.mark.parametrize("rate", [8_000, 16_000, 44_100])
def test_the_answer_names_the_front_end(speech: Speech, rate: int) -> None:
    audio = rig.tone(0.5, rate=rate)
    answers = [speech.answer(transcribe(audio=one, rate=rate, max_tokens=4)) for one in (audio, np.zeros_like(audio))]
    cancelled = speech.submit(transcribe(audio=audio, rate=rate), cancelled=lambda: True).result(30)
    assert cancelled.finish_reason is FinishReason.CANCELLED
    for answer in (*answers, cancelled):
        assert answer.details is not None
        assert answer.details["front_end"] == {8_000: "8k-fillzero", 16_000: "16k", 44_100: "resampled-16k"}[rate]


def test_every_task_and_language_is_answered(speech: Speech) -> None:
    assert speech.capabilities.tasks == frozenset(Task)
    assert speech.capabilities.languages == set(LANGUAGES) == {"en", "zh", "de", "fr", "it", "ja", "es", "pt"}
    audio = rig.tone(0.5)
    requests = [
        *(SpeechRequest(task=Task.TRANSLATE, audio=audio, language=code, max_tokens=3) for code in LANGUAGES),
        SpeechRequest(task=Task.TRANSCRIBE, audio=audio, language="ja", max_tokens=3),
        SpeechRequest(task=Task.TRANSLATE_CHAIN, audio=audio, language="de", max_tokens=9),
        SpeechRequest(task=Task.SUMMARIZE, audio=audio, max_tokens=9),
        SpeechRequest(task=Task.SUMMARIZE, audio=audio, text="What was promised?", max_tokens=9),
        SpeechRequest(task=Task.GENERATE, text="Hello <|end|> there", max_tokens=9),
        SpeechRequest(task=Task.GENERATE, text="Hello", audio=audio, max_tokens=9),
    ]
    answers = [handle.result(30) for handle in [speech.submit(request) for request in requests]]
    assert all(0 < answer.tokens_out <= 9 for answer in answers)
    shared = speech.metrics.shared_tokens_total
    assert shared >= 3 * len(rig.ids(f"<|system|>{SYSTEM}<|end|>"))


def test_a_chained_translation_is_told_from_its_transcript(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the model writes the separator: forced here by the prompt's own stop set aside."""
    speech = make(run=False)
    sep = rig.ids("<sep>")[0]
    said, meant = rig.ids("Hello there"), rig.ids(" Guten Tag")
    script = iter([*said, sep, *meant, rig.stop_ids()[0]])
    read = Flight.read
    monkeypatch.setattr(Flight, "read", lambda flight: [(running, (next(script), -0.5)) for running, _ in read(flight)])
    request = SpeechRequest(task=Task.TRANSLATE_CHAIN, audio=rig.tone(1.5), language="de", stream=True)
    events: list[SpeechEvent] = []
    handle = speech.submit(request, on_event=events.append)
    rig.run_all(speech.engine)
    answer = handle.result(0)
    assert answer.details is not None
    assert (answer.details["transcript"], answer.text) == ("Hello there", "Guten Tag")
    assert told(events[:2]) == "Hello there"[: len(told(events[:2]))] != "", "deltas come while it is written"
    assert told(events[:-1]) == answer.text, "and together they are the answer's text"
    assert (answer.finish_reason, answer.mean_logprob) == (FinishReason.STOP, -0.5)


def test_silence_is_no_speech() -> None:
    speech = make(run=False)
    answer = speech.answer(transcribe(audio=np.full(16_000, 5e-4, np.float32)))
    assert (answer.text, answer.finish_reason, answer.tokens_out) == ("", FinishReason.NO_SPEECH, 0)


def test_deltas_come_when_asked_for_and_make_the_text(speech: Speech) -> None:
    for stream in (True, False):
        events: list[SpeechEvent] = []
        answer = speech.submit(transcribe(1.1, max_tokens=20, stream=stream), on_event=events.append).result(30)
        *deltas, last = events
        assert last == answer
        assert bool(deltas) == stream
        text = "".join(delta.text for delta in deltas if isinstance(delta, SpeechDelta))
        assert text.strip() == (answer.text if stream else "")


def test_answers_are_as_long_as_speech_can_be_and_never_need_long_rope() -> None:
    speech = make(replace(LIMITS, guard=False), run=False)
    handle = speech.submit(transcribe(1.0))
    rig.run_all(speech.engine)
    assert handle.result(0).tokens_out <= LIMITS.spoken_tokens(1.0) == 28
    wide = replace(
        LIMITS, utterance_slot_tokens=6_000, summary_slot_tokens=6_000, tokens_per_second=500.0, max_new_tokens=5_000
    )
    speech = make(wide, run=False)
    handle = speech.submit(transcribe(38.0))
    speech.engine.step()
    handle_answer = speech.submit(transcribe(38.0, max_tokens=4_999))
    for one in speech.engine.batch.scheduler.entries:
        assert not one.long_rope
        assert one.tokens <= 4_096
    del handle, handle_answer


def loops(speech: Speech, seconds: float) -> None:
    """From now on clips longer than this make the decoder repeat itself; shorter ones end after four tokens."""
    steps = speech.engine.batch.steps
    decode, again, stop = steps.decode, rig.ids("n")[0], rig.stop_ids()[0]

    def looping(batch: Any, before: Flight) -> list[Tokens]:
        found = []
        for tokens in decode(batch, before):
            ids = [again if one.seconds > seconds or len(one.token_ids) < 4 else stop for one in tokens.members]
            found.append(replace(tokens, ids=tokens.ids.new_tensor(ids)))
        return found

    steps.decode = looping  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("bearable", "splits", "reason"),
    [
        (2.0, 0, FinishReason.STOP),
        (1.2, 1, FinishReason.STOP),
        (0.6, 3, FinishReason.STOP),
        (0.0, 3, FinishReason.LOOP),
    ],
)
def test_a_loop_is_retried_in_halves_twice_at_most(bearable: float, splits: int, reason: FinishReason) -> None:
    speech = make(replace(LIMITS, tokens_per_second=100.0), run=False)
    loops(speech, bearable)
    quiet = rig.tone(2.0)
    for place in (0.5, 1.0, 1.5):  # where the clip may be cut
        quiet[round(16_000 * (place - 0.06)) : round(16_000 * (place + 0.06))] = 0
    events: list[SpeechEvent] = []
    handle = speech.submit(transcribe(audio=quiet, stream=True), on_event=events.append)
    rig.run_all(speech.engine)
    answer = handle.result(0)
    assert answer.details is not None
    assert (answer.details["splits"], answer.finish_reason) == (splits, reason)
    assert told(events[:-1]).strip() == answer.text
    assert any(isinstance(event, SpeechDelta) and event.restart for event in events) == (splits > 0)
    assert speech.metrics.kv_tokens == 0


def test_what_is_longer_than_speech_is_retried_too_but_not_the_callers_own_limit() -> None:
    for limit, splits in ((None, 3), (5, 0)):
        speech = make(replace(LIMITS, tokens_base=1, tokens_per_second=6.0), run=False)
        loops(speech, 0.0)
        handle = speech.submit(transcribe(2.0, max_tokens=limit))
        rig.run_all(speech.engine)
        answer = handle.result(0)
        assert answer.details is not None
        assert (answer.finish_reason, answer.details["splits"]) == (FinishReason.LENGTH, splits)


BAD = [
    (transcribe(audio=np.zeros(0, np.float32)), InvalidRequest, "too short"),
    (transcribe(audio=np.zeros(100, np.float32)), InvalidRequest, r"0\.006 s is too short: at least 0\.05 s"),
    (transcribe(audio=rig.tone(0.045)), InvalidRequest, r"0\.045 s is too short: at least 0\.05 s"),
    (transcribe(audio=np.full(16_000, np.nan, np.float32)), InvalidRequest, "NaN"),
    (transcribe(audio=np.full(16_000, 3_000, np.float32)), InvalidRequest, "not scaled"),
    (transcribe(40.2), InvalidRequest, "at most 40 s, cut it first"),
    (transcribe(audio=np.zeros((2, 16_000), np.float32)), InvalidRequest, "one channel"),
    (transcribe(rate=4_000), InvalidRequest, "RATE"),
    (transcribe(max_tokens=0), InvalidRequest, "MAX_TOKENS must be 1 to"),
    (transcribe(max_tokens=1_000_000), InvalidRequest, "MAX_TOKENS must be 1 to"),
    (transcribe(language="xx"), InvalidRequest, "knows the languages"),
    (transcribe(audio=None), InvalidRequest, "AUDIO is missing"),
    (transcribe(text="and a text"), InvalidRequest, "takes no TEXT"),
    (transcribe(task=Task.TRANSLATE), InvalidRequest, "LANGUAGE is missing"),
    (SpeechRequest(task=Task.SUMMARIZE), InvalidRequest, "recording or a transcript"),
    (SpeechRequest(task=Task.GENERATE, text="  "), InvalidRequest, "TEXT is missing"),
    (SpeechRequest(task=Task.SUMMARIZE, audio=rig.tone(1), language="de"), UnsupportedTask, "English only"),
    (SpeechRequest(task=Task.SUMMARIZE, text='{"utterances": 3}'), InvalidRequest, "utterances"),
    (SpeechRequest(task=Task.SUMMARIZE, text="hello", max_tokens=512), None, ""),
    (SpeechRequest(task=Task.GENERATE, text="long " * 4_000), InvalidRequest, "holds at most"),
    (SpeechRequest(task=Task.SUMMARIZE, text="<|end|>" * 150_000), InvalidRequest, "TEXT is too long"),
]


def test_bad_input_gets_one_clear_error_and_the_running_batch_never_notices() -> None:
    speech = make(replace(LIMITS, queue=40), run=False)
    want = speech.submit(transcribe(1.3))
    rig.run_all(speech.engine)
    running = speech.submit(transcribe(1.3))
    speech.engine.step()
    for request, kind, message in BAD:
        if kind is None:
            speech.submit(request).cancel()
            continue
        with pytest.raises(kind, match=message) as caught:
            speech.submit(request)
        assert "\n" not in caught.value.detail
        speech.engine.step()
    long = np.zeros(31 * 60 * 16_000, np.float32)
    with pytest.raises(InvalidRequest, match=r"1860\.0 s is too long: at most 1800 s"):
        speech.submit(SpeechRequest(task=Task.SUMMARIZE, audio=long))
    rig.run_all(speech.engine)
    first, second = want.result(0).details, running.result(0).details
    assert first is not None
    assert second is not None
    assert first["token_ids"] == second["token_ids"]


def test_a_full_queue_refuses_the_request_but_not_the_parts_of_one_that_was_let_in() -> None:
    speech = make(replace(LIMITS, queue=1), run=False)
    lines = "\n".join(f"line {n} " + "word " * 60 for n in range(40))
    handle = speech.submit(SpeechRequest(task=Task.SUMMARIZE, text=lines, max_tokens=8))
    with pytest.raises(QueueFull):
        speech.submit(transcribe())
    rig.run_all(speech.engine)
    answer = handle.result(0)
    assert answer.details is not None
    assert answer.details["parts"] > 1


def test_an_error_in_one_part_is_the_requests_and_ends_the_other_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    speech = make(replace(LIMITS, summary_slots=2), run=False)
    lines = "\n".join(f"line {n} " + "word " * 60 for n in range(40))
    events: list[SpeechEvent] = []
    handle = speech.submit(SpeechRequest(task=Task.SUMMARIZE, text=lines, max_tokens=200), on_event=events.append)
    for _ in range(3):
        speech.engine.step()
    for part in speech.engine.batch.scheduler.entries[:2]:  # the second error is nobody's news
        speech.engine.batch.fail(part, RuntimeError("out of memory"))
    rig.run_all(speech.engine, most=3)
    with pytest.raises(EngineFailed, match="RuntimeError"):
        handle.result(0)
    assert [type(event) for event in events] == [EngineFailed]


def test_a_cancelled_request_is_answered_with_what_there_is() -> None:
    speech = make(run=False)
    gone: list[bool] = []
    events: list[SpeechEvent] = []
    request = SpeechRequest(task=Task.GENERATE, text="Tell me", max_tokens=200, stream=True)
    handle = speech.submit(request, on_event=events.append, cancelled=lambda: bool(gone))
    for _ in range(6):
        speech.engine.step()
    gone.append(True)
    rig.run_all(speech.engine)
    answer = handle.result(0)
    assert answer.finish_reason is FinishReason.CANCELLED
    assert 0 < answer.tokens_out < 20
    assert isinstance(events[-1], SpeechAnswer)
    assert speech.metrics.kv_tokens == 0


def test_many_threads_get_their_own_answers(speech: Speech) -> None:
    requests = [transcribe(0.4 + 0.2 * n, max_tokens=10) for n in range(6)]
    want = [speech.answer(request).text for request in requests]
    found: dict[int, str] = {}
    threads = [
        threading.Thread(target=lambda n=n: found.update({n: speech.answer(requests[n]).text})) for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(6)] == want


def test_warm_up_runs_every_path(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: set[str] = set()

    def noted(name: str) -> None:
        run = getattr(Steps, name)

        def note(steps: Steps, *values: Any, **named: Any) -> Any:
            ran.update({name, *(f"{name} {one}" for one in (*values, *named.items()) if isinstance(one, Mode | tuple))})
            return run(steps, *values, **named)

        monkeypatch.setattr(Steps, name, note)

    for name in ("encode", "prefill", "_decode"):
        noted(name)
    with make() as speech:
        speech.warm_up()
        spoken, written = f"_decode {Mode.SPEECH}", f"_decode {Mode.LANGUAGE}"
        assert {"encode", "prefill", spoken, written, "_decode ('held', True)", "_decode ('held', False)"} <= ran
        monkeypatch.setattr(
            SharedPrompts, "_compute", lambda *key: pytest.fail("the first request computes what is shared")
        )
        for request in (
            SpeechRequest(task=Task.SUMMARIZE, audio=rig.tone(1), max_tokens=2),
            SpeechRequest(task=Task.SUMMARIZE, text="Hello.", max_tokens=2),
        ):
            speech.answer(request)


def test_loading_names_the_weights() -> None:
    folder = rig.checkpoint()
    with Speech.load(folder, limits=LIMITS) as speech:
        assert speech.version == weights_version(folder, dtype="float32", lora="merged")
        assert speech.answer(transcribe(0.5, max_tokens=2)).version == speech.version
    assert weights_version(folder, dtype="float32", lora="unmerged") != weights_version(
        folder, dtype="float32", lora="merged"
    )
