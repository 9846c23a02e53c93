"""The shipped weights, in this process: no torch."""

from __future__ import annotations

import itertools
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from sentiment import predict
from sentiment.corpora import OWN
from sentiment.data import normalise, read_own
from sentiment.evaluate import table
from sentiment.predict import MODEL_REPO, aspects, polarity
from sentiment.serve import MAX_CHARACTERS, AspectModel, InvalidInput, PolarityModel

CVIB, ASPECTS = MODEL_REPO / "cvib" / "1", MODEL_REPO / "aspects" / "1"


@pytest.fixture(scope="module")
def cvib() -> PolarityModel:
    return PolarityModel(CVIB)


@pytest.fixture(scope="module")
def extractor() -> AspectModel:
    return AspectModel(ASPECTS)


def test_the_two_nets_fit_into_46_megabytes() -> None:
    assert sum((folder / "model.onnx").stat().st_size for folder in (CVIB, ASPECTS)) <= 46_000_000


@pytest.mark.parametrize("folder", [CVIB, ASPECTS])
def test_the_configured_version_is_that_of_the_files(folder: Path) -> None:
    import hashlib

    digest = hashlib.sha256()
    for name in ("model.onnx", "tokenizer.json"):
        digest.update((folder / name).read_bytes())
    settings = json.loads((folder / "model.json").read_text())
    version = settings.pop("version")
    digest.update(json.dumps(settings, sort_keys=True).encode())
    assert version == digest.hexdigest()[:12]
    configured = re.search(
        r'key: "version" value \{ string_value: "([^"]*)"', (folder.parent / "config.pbtxt").read_text()
    )
    assert configured is not None
    assert configured[1] == version


class Refused(Exception):
    """Stands for the server's TritonModelException."""


@pytest.mark.parametrize(("folder", "parameter"), [(CVIB, "version"), (ASPECTS, "version"), (ASPECTS, "taxonomy")])
def test_a_model_does_not_start_under_another_version(
    folder: Path, parameter: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARFUL_HOME", str(MODEL_REPO.parent))
    monkeypatch.setattr(sys, "path", [*sys.path])
    server = SimpleNamespace(TritonModelException=Refused)
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", server)  # type: ignore[arg-type]
    model = runpy.run_path(str(folder / "model.py"))["TritonPythonModel"]()
    said = dict(
        re.findall(r'key: "(\w+)" value \{ string_value: "([^"]*)"', (folder.parent / "config.pbtxt").read_text())
    )

    def start(parameters: dict[str, str]) -> None:
        config = {"parameters": {key: {"string_value": value} for key, value in parameters.items()}}
        model.initialize({"model_config": json.dumps(config)})

    start(said)
    with pytest.raises(Refused, match=f"config.pbtxt says {parameter} another, but {said[parameter]} is here"):
        start(said | {parameter: "another"})


@pytest.mark.parametrize("folder", [CVIB, ASPECTS])
def test_the_card_states_data_licence_command_and_limits(folder: Path) -> None:
    card = (folder.parent / "CARD.md").read_text()
    for heading in ("## Data", "## Licence", "## Command", "## Scores", "## Limits"):
        assert heading in card


def test_opposite_feelings_in_one_sentence(cvib: PolarityModel) -> None:
    text = "The screen is gorgeous but the battery is terrible."
    rows = cvib.probabilities(text, [(4, 10), (31, 38)])
    assert rows.argmax(axis=1).tolist() == [2, 0]
    assert rows.sum(axis=1) == pytest.approx([1, 1], abs=1e-5)
    assert rows.dtype == np.float32


def test_an_answer_does_not_depend_on_its_company(cvib: PolarityModel) -> None:
    text = "The food was wonderful. The waiter, though, ignored us for an hour and the table was sticky."
    spans = [(4, 8), (28, 34), (77, 82)]
    together = cvib.probabilities(text, spans)
    alone = np.concatenate([cvib.probabilities(text, [s]) for s in spans])
    assert np.array_equal(together, alone)


@pytest.mark.parametrize("folder", [CVIB, ASPECTS])
def test_the_scales_are_fixed_so_that_texts_share_batches(folder: Path) -> None:
    assert json.loads((folder / "model.json").read_text())["fixed_scales"] is True


def test_an_answer_is_the_same_bits_in_any_batch(cvib: PolarityModel, extractor: AspectModel) -> None:
    texts = [s.text for s in read_own(OWN)[::9]][:60]
    alone = [extractor.find(text) for text in texts]
    assert extractor.find_all(texts) == alone
    assert extractor.find_all(texts[::-1]) == alone[::-1]
    pairs = [
        pair
        for text, found in zip(texts, alone, strict=True)
        for pair in cvib.pairs(text, [(a.start, a.end) for a in found])
    ]
    assert len(pairs) > 20
    assert len({len(pair.ids) // 8 for pair in pairs}) < len(pairs) // 4  # so batches are shared
    together = cvib.judge(pairs)
    assert np.array_equal(together, np.concatenate([cvib.judge([pair]) for pair in pairs]))
    assert np.array_equal(together[::-1], cvib.judge(pairs[::-1]))


def test_two_mentions_of_one_word_are_told_apart_by_their_place(cvib: PolarityModel, extractor: AspectModel) -> None:
    text = "In May the staff were wonderful. In June the staff were rude and unhelpful."
    found = extractor.find(text)
    assert [(a.start, text[a.start : a.end]) for a in found] == [(11, "staff"), (45, "staff")]
    assert cvib.probabilities(text, [(a.start, a.end) for a in found]).argmax(axis=1).tolist() == [2, 0]


def test_aspects_carry_offsets_of_the_original(extractor: AspectModel) -> None:
    text = "  Voilà — déjà vu: the staff were lovely! 🎉\n\nBut the battery life is awful."
    found = extractor.find(text)
    assert [text[a.start : a.end] for a in found] == ["staff", "battery life"]
    assert [a.aspect_id for a in found] == ["service.staff", "product.battery"]
    assert all(0 <= a.confidence <= 1 for a in found)


@pytest.mark.parametrize(
    "text", ["", "   \n ", "...", "Yes, it is six six one.", "Thank you so much, bye.", "Five stars."]
)
def test_a_text_without_aspect_stays_empty(extractor: AspectModel, text: str) -> None:
    assert extractor.find(text) == []


#: With each of these said of it in a plain short sentence; none of the sentences is in our corpus.
PLAIN = re.findall(
    r"\w+", "food service location battery screen price staff room delivery coffee sound camera seat app driver menu"
)
SAID = ["great", "terrible", "good", "bad", "okay"]


def test_plain_short_sentences_name_their_aspect(extractor: AspectModel) -> None:
    """Of the 80 the weights before found 52; never `food` or `location`. These still miss `service`, in this form alone."""
    texts = {f"The {noun} was {how}.": noun for noun in PLAIN for how in SAID}
    assert {normalise(text) for text in texts}.isdisjoint({normalise(s.text) for s in read_own(OWN)})
    found = {text: [text[a.start : a.end] for a in extractor.find(text)] for text in texts}
    right = [text for text, noun in texts.items() if found[text] == [noun]]
    assert len(right) >= 72, sorted(set(texts) - set(right))
    assert {"food", "location"} <= {texts[text] for text in right}
    for text in ("The service was slow.", "Great service.", "Service was slow."):
        assert [text[a.start : a.end].casefold() for a in extractor.find(text)] == ["service"]


@pytest.mark.parametrize("text", ["It was great.", "The restaurant was okay.", "Never again with them.", "Loved it."])
def test_a_plain_verdict_names_none(extractor: AspectModel, text: str) -> None:
    assert extractor.find(text) == []


def test_a_long_text_without_punctuation(extractor: AspectModel) -> None:
    filler = "so anyway i was telling my cousin about it when we went over there last week " * 12
    text = f"{filler}the battery is terrible {filler}"
    at = text.index("battery")
    assert (at, at + len("battery")) in [(a.start, a.end) for a in extractor.find(text)]


def test_aspects_do_not_overlap(extractor: AspectModel) -> None:
    text = "the screen is great but the keyboard is bad and the price is high and the fan is loud " * 30
    found = extractor.find(text, threshold=0.0)
    assert len(found) > 20
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


def test_a_least_confidence_leaves_out(extractor: AspectModel) -> None:
    text = "The battery is terrible."
    assert extractor.find(text, threshold=0.0) != []
    assert extractor.find(text, threshold=1.01) == []


@pytest.mark.parametrize("spans", [[(0, 99)], [(-1, 2)], [(4, 4)], [(3, 4)]])
def test_bad_spans_are_refused(cvib: PolarityModel, spans: list[tuple[int, int]]) -> None:
    with pytest.raises(InvalidInput):
        cvib.probabilities("The battery is great.", spans)


def test_too_long_a_text_is_refused_without_repeating_it(cvib: PolarityModel, extractor: AspectModel) -> None:
    text = "secret " * MAX_CHARACTERS
    with pytest.raises(InvalidInput, match="characters") as err:
        extractor.find(text)
    assert "secret" not in str(err.value)
    with pytest.raises(InvalidInput):
        cvib.probabilities(text, [(0, 6)])


def test_half_a_surrogate_is_refused(cvib: PolarityModel, extractor: AspectModel) -> None:
    text = "The battery \ud83d"
    with pytest.raises(InvalidInput, match="character 12 of the text is half a surrogate"):
        extractor.find(text)
    with pytest.raises(InvalidInput, match="surrogate"):
        cvib.probabilities(text, [(4, 11)])


def test_no_span_no_rows(cvib: PolarityModel) -> None:
    assert cvib.probabilities("The battery is great.", []).shape == (0, 3)


def test_two_python_calls() -> None:
    text = "The battery is great."
    found = aspects(text)
    assert [text[a.start : a.end] for a in found] == ["battery"]
    assert polarity(text, [(a.start, a.end) for a in found])[0].label == "positive"


def test_many_calls_load_the_models_once(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "The battery is great."
    first, feeling = aspects(text), polarity(text, [(4, 11)])
    monkeypatch.setattr(predict, "AspectModel", None)  # another load would call it
    monkeypatch.setattr(predict, "PolarityModel", None)
    assert (aspects(text), polarity(text, [(4, 11)])) == (first, feeling)


def test_serving_imports_no_torch() -> None:
    code = "import sys, sentiment.predict, sentiment.triton; assert not {'torch', 'transformers'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60, cwd=MODEL_REPO.parent)


def test_a_folder_of_the_other_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="kind"):
        PolarityModel(ASPECTS)


def test_table_leaves_empty_cells_empty(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"sets": {"MAMS": {"accuracy": 0.8, "macro_f1": 0.75}}}))
    (tmp_path / "b.json").write_text(json.dumps({"sets": {"LAP14": {"f1": 0.5, "false_span_rate": 0.1}}}))
    lines = table([tmp_path / "a.json", tmp_path / "b.json"]).splitlines()
    assert lines[2:] == ["| a | 80.0 / 75.0 |  |", "| b |  | 50.0 / 10 % |"]
