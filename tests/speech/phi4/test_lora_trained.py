"""The proof that the LoRA path is the one that speaks: on a checkpoint that was trained to, minutes ago, on real speech.

Base frozen after a little text; then only speech LoRA and projector learnt six sentences and silence (`trained.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from tokenizers import Tokenizer  # noqa: E402

from speech.phi4.model import Clip, Mode, Phi4Model, PrefillRow  # noqa: E402
from tests.speech.phi4.reference import Request, answer  # noqa: E402
from tests.speech.phi4.trained import Spoken, instruction, spoken_sentences, train  # noqa: E402

SENTENCES, TEXTS = spoken_sentences(6)
TOKENS = 48


@pytest.fixture(name="trained", scope="module")
def _trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of the checkpoint before ("base") and after ("speech") learning to listen."""
    return dict(train(tmp_path_factory.mktemp("trained"), SENTENCES, TEXTS))


def transcribe(model: Phi4Model, folder: Path, spoken: Sequence[Spoken]) -> list[str]:
    """The texts of clips as one batch, without the special tokens."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    before, after = instruction(tokenizer)
    requests = [
        Request(before=tuple(before), after=tuple(after), samples=s.clip.samples, rate=s.clip.rate) for s in spoken
    ]
    return [tokenizer.decode(a.tokens) for a in answer(model, requests, TOKENS)]


def silence(seconds: float) -> Spoken:
    """A telephone line on which nobody speaks."""
    return Spoken(clip=Clip(samples=np.zeros(round(seconds * 8000), np.float32), rate=8000), text="")


@pytest.mark.parametrize("lora", ["merged", "unmerged"])
def test_with_the_adapter_the_sentences_are_heard(trained: dict[str, Path], lora: Any) -> None:
    model = Phi4Model.load(trained["speech"], lora=lora)
    wanted = [s.text for s in SENTENCES]
    assert len(set(wanted)) == 6
    assert transcribe(model, trained["speech"], SENTENCES) == wanted
    assert [transcribe(model, trained["speech"], [s])[0] for s in SENTENCES[:2]] == wanted[:2]


def test_swapped_clips_give_swapped_sentences(trained: dict[str, Path]) -> None:
    model = Phi4Model.load(trained["speech"])
    order = [4, 2, 5, 0, 1, 3]
    assert transcribe(model, trained["speech"], [SENTENCES[i] for i in order]) == [SENTENCES[i].text for i in order]


def test_silence_gives_no_sentence(trained: dict[str, Path]) -> None:
    model = Phi4Model.load(trained["speech"])
    for heard in transcribe(model, trained["speech"], [silence(1.5), SENTENCES[0], silence(2.5), silence(1.0)])[::2]:
        assert heard == ""


def test_the_projector_alone_hears_nothing(trained: dict[str, Path]) -> None:
    """The trained projector in front of the base without its adapter."""
    model = Phi4Model.load(trained["speech"], lora="off")
    _nothing_heard(transcribe(model, trained["speech"], SENTENCES))


def test_language_mode_knows_its_texts_bit_for_bit_as_without_the_adapter(trained: dict[str, Path]) -> None:
    """Learning to listen changed nothing of what is written: same logits, same text, whatever is loaded beside."""
    tokenizer = Tokenizer.from_file(str(trained["base"] / "tokenizer.json"))
    before, after = instruction(tokenizer)
    prompts = [[*before, *after, *tokenizer.encode(text[:10]).ids] for text in TEXTS[:4]]
    models = [
        Phi4Model.load(trained["base"], lora="off"),
        *(Phi4Model.load(trained["speech"], lora=lora) for lora in ("off", "merged", "unmerged")),
    ]
    logits, texts = [], []
    for model in models:
        cache = model.new_cache(slots=4, slot_tokens=64)
        rows = [
            PrefillRow(slot=i, start=0, embeds=model.embed(p), mode=Mode.LANGUAGE, long_rope=False)
            for i, p in enumerate(prompts)
        ]
        logits.append(model.prefill(cache, rows))
        requests = [Request(before=tuple(p), after=()) for p in prompts]
        texts.append([tokenizer.decode(a.tokens) for a in answer(model, requests, TOKENS)])
    for other in logits[1:]:
        assert torch.equal(other, logits[0])
    assert texts[1] == texts[2] == texts[3] == texts[0]
    known = [text[:10] + rest in TEXTS for text, rest in zip(TEXTS[:4], texts[0], strict=True)]
    assert sum(known) >= 2  # it did learn to write: the start of a sentence brings its end


def _nothing_heard(texts: Sequence[str]) -> None:
    for text in texts:
        for spoken in SENTENCES:
            assert text != spoken.text
            assert spoken.text[:8] not in text
