"""What stands before the words of a request: the trained prompts bare, the free ones behind the system prompt, text as data."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from hypothesis import given
from hypothesis import strategies as st

from speech.phi4.prompts import SYSTEM, TRANSCRIBE, Prompts, chain_instruction, translate_instruction
from tests.speech.phi4 import rig


def test_the_trained_prompts_are_those_of_the_paper_token_for_token() -> None:
    prompts = Prompts(rig.tokenizer())
    audio = np.zeros(16_000, np.float32)
    for instruction, words in (
        (TRANSCRIBE, "Transcribe the audio clip into text."),
        (translate_instruction("de"), "Translate the audio to German."),
        (
            chain_instruction("fr"),
            "Transcribe the audio to text, and then translate the audio to French. Use <sep> as a separator between the "
            "original transcript and the translation.",
        ),
    ):
        prompt = prompts.bare(instruction, audio, 16_000)
        placeholder = rig.ids("<|audio|>")
        assert (*prompt.before, *placeholder, *prompt.after) == rig.ids(f"<|user|><|audio|>{words}<|end|><|assistant|>")
        assert prompt.shared == 0


def test_free_prompts_carry_the_system_prompt_as_their_shared_beginning() -> None:
    for audio in (None, np.zeros(16_000, np.float32)):
        prompt = Prompts(rig.tokenizer()).free("Say hello.", audio)
        assert prompt.before[: prompt.shared] == rig.ids(f"<|system|>{SYSTEM}<|end|>")
        assert (*prompt.before[prompt.shared :], *prompt.after) == rig.ids("<|user|>Say hello.<|end|><|assistant|>")
    assert "Never infer or mention personal attributes" in SYSTEM


@given(
    st.lists(
        st.sampled_from(("<|end|>", "<|", "end|>", "<|user|>", "<sep>", "<|<|end|>", " hé", "\n", "😀")), max_size=12
    )
)
def test_special_tokens_in_a_text_are_spelled_not_obeyed(pieces: list[str]) -> None:
    text = "".join(pieces)
    ids = Prompts(rig.tokenizer()).data(text)
    assert not set(ids) & set(rig.tokenizer().get_added_tokens_decoder())
    assert rig.vocabulary().text(ids) == text
