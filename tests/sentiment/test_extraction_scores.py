"""What sentiment.evaluate says of an extractor: the shipped one on texts and calls, its calibration, and the document's figures."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sentiment.data import parse_marked
from sentiment.evaluate import call_scores, extraction_scores, partial_scores, table
from sentiment.metrics import binned_gap
from sentiment.samples import call_labels, sample_calls
from sentiment.serve import AspectModel

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "cvib.md").read_text(encoding="utf-8")
IN_DOMAIN = ROOT / "docs" / "results" / "aspects"
RESULT = ROOT / "docs" / "results" / "aspects-minilm.json"
SENTENCES = [
    parse_marked("The [screen|+] is gorgeous but the battery is terrible.", "x", "1"),
    parse_marked("The [battery|-] died within a week.", "x", "2"),
    parse_marked("Thanks, bye.", "x", "3"),
]


@pytest.fixture(name="model", scope="module")
def _model() -> AspectModel:
    return AspectModel(ROOT / "model_repo" / "aspects" / "1")


def test_the_gap_of_two_bins_by_hand() -> None:
    confidence = np.array([0.92, 0.98, 0.55, 0.05])
    right = np.array([True, False, True, False])
    # |0.95 - 0.5| for two of four, |0.55 - 1| and |0.05 - 0| for one each
    assert binned_gap(confidence, right, 10) == pytest.approx((2 * 0.45 + 0.45 + 0.05) / 4)
    assert binned_gap(np.array([1.0]), np.array([True]), 10) == 0.0


def test_a_span_beside_the_labels_counts_against_precision_and_calibration(model: AspectModel) -> None:
    got = extraction_scores(model, SENTENCES)
    assert (got["found"], got["recall"], got["precision"]) == (3.0, 1.0, pytest.approx(2 / 3))
    sure = [a.confidence for s in SENTENCES for a in model.find(s.text)]
    assert min(sure) >= 0.9, "all three in one bin, or the figure below is another"
    assert got["mean_confidence"] == pytest.approx(np.mean(sure))
    assert got["ece"] == pytest.approx(np.mean(sure) - 2 / 3)
    part = partial_scores(model, SENTENCES)
    assert (part["recall"], part["precision_at_least"]) == (1.0, got["precision"])
    assert not {"f1", "precision", "ece", "false_span_rate"} & part.keys(), "labels with gaps say nothing of these"


def test_nothing_found_has_no_calibration(model: AspectModel) -> None:
    got = extraction_scores(model, SENTENCES[2:])
    assert (got["found"], got["f1"], "ece" in got) == (0.0, 0.0, False)


def test_a_calls_aspect_is_found_wherever_it_is_said(model: AspectModel) -> None:
    calls = [
        (["Hello.", "My battery is dead.", "The Battery died, the screen is beautiful."], {"battery", "fan"}),
        (["The battery is terrible."], {"screen"}),  # another call's is not this one's
    ]
    got = call_scores(model, calls)
    assert (got["texts"], got["spans"], got["found"]) == (4.0, 3.0, 3.0)
    assert (got["recall"], got["precision_at_least"]) == (pytest.approx(1 / 3), pytest.approx(1 / 3))


def test_the_labels_of_the_calls_are_those_of_their_places() -> None:
    placed = {(s.group, s.text[m.start : m.end].casefold()) for s in sample_calls() for m in s.mentions}
    assert sum(len(labels) for _, labels in call_labels()) == len(placed) == 19


def test_files_with_and_without_whole_labels_share_a_table(tmp_path: Path) -> None:
    sets = {"A": {"f1": 0.5, "false_span_rate": 0.1}, "B": {"recall": 0.8434}}
    (tmp_path / "one.json").write_text(json.dumps({"sets": sets}), encoding="utf-8")
    assert table([tmp_path / "one.json"]).splitlines()[2] == "| one | 50.0 / 10 % | recall 84.3 |"


def percent(share: float) -> str:
    return f"{100 * share:.1f}"


def test_the_document_has_the_figures_of_the_file() -> None:
    sets = json.loads(RESULT.read_text(encoding="utf-8"))["sets"]
    for name, got in sets.items():
        if "f1" in got and name != "selection":
            shown = {"own-held-out": "own, held-out domains"}.get(name, f"{name} test")
            row = [
                f"{got['texts']:.0f}",
                f"{got['spans']:,.0f}",
                *(percent(got[k]) for k in ("precision", "recall", "f1")),
            ]
            assert f"| {shown} | {' | '.join(row)} |" in PAGE
    said = PAGE.partition("calibration error of the spans, ten\nbins")[2]
    for name in ("selection", "MAMS", "REST14", "LAP14", "REST15", "REST16", "own-held-out"):
        found = re.search(rf"\b{name.replace('own-', 'own ')} (\d+\.\d)", said)
        assert found, name
        assert found[1] == percent(sets[name]["ece"]), name
    for name, shown in (("sample-reviews", "sample reviews"), ("sample-calls", "sample calls")):
        got = sets[name]
        row = [f"{got[k]:.0f}" for k in ("texts", "spans", "found")] + [
            percent(got["recall"]),
            percent(got["precision_at_least"]),
        ]
        assert f"| {shown} | {' | '.join(row)} |" in PAGE


def test_the_document_has_the_figures_trained_in_the_domain() -> None:
    cells = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(IN_DOMAIN.glob("*.json"))]
    kinds = {(c["encoder"], c["set"], c["epochs"]) for c in cells}
    assert kinds
    for encoder, name, epochs in kinds:
        own = [c["sets"][name] for c in cells if (c["encoder"], c["set"], c["epochs"]) == (encoder, name, epochs)]
        mean = [percent(float(np.mean([s[k] for s in own]))) for k in ("precision", "recall", "f1", "false_span_rate")]
        assert f"| {encoder} | {name} | {len(own)} | {epochs} | {' | '.join(mean)} % (" in PAGE
