"""ARTS scores, the paired bootstrap, the choice of a threshold and the tables: numpy only."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from sentiment.corpora import parts_only
from sentiment.data import Mention, Sentence, parse_marked
from sentiment.evaluate import choose
from sentiment.scores import arts, group_right, paired_bootstrap, plain_test
from sentiment.table import BEGIN, END, compare, fill, load, render, twins

ROOT = Path(__file__).resolve().parents[2]
RESULTS = sorted((ROOT / "docs" / "results" / "cvib").glob("*.json"))


def item(group: str, variant: str, polarity: str) -> Sentence:
    mention = Mention(start=0, end=1, polarity=polarity)
    return Sentence(text="x is so", mentions=(mention,), domain="x", group=group, variant=variant)


def certain(*labels: int) -> np.ndarray:
    return np.eye(3)[list(labels)]


ITEMS = [
    item("a", "", "positive"), item("a", "adv1", "negative"), item("a", "adv3", "positive"),
    item("b", "", "negative"), item("b", "adv2", "negative"),
]  # fmt: skip


def test_arts_by_hand() -> None:
    got = arts(certain(2, 2, 2, 0, 0), ITEMS)  # the reversed one is missed
    assert group_right(certain(2, 2, 2, 0, 0), ITEMS) == {"a": False, "b": True}
    assert (got["ars"], got["groups"], got["accuracy"]) == (0.5, 2.0, 0.8)
    kinds = [got[f"{k}_accuracy"] for k in ("original", "revtgt", "revnon", "adddiff")]
    assert kinds == [1.0, 0.0, 1.0, 1.0]


def test_only_sentences_of_several_polarities_count_as_mixed() -> None:
    mixed = parse_marked("The [screen|+] is fine, the [fan|-] is not.", "x", "1")
    plain = parse_marked("The [lid|0] and the [hinge|0].", "x", "2")
    got = plain_test(certain(2, 2, 1, 1), [mixed, plain])
    assert (got["accuracy"], got["mixed_n"], got["mixed_accuracy"]) == (0.75, 2.0, 0.5)


def test_the_bootstrap_keeps_pairs_together() -> None:
    rng = np.random.default_rng(1)
    flags = rng.integers(0, 2, size=(3, 400)).astype(float)
    assert paired_bootstrap([flags - flags]) == (0.0, 0.0, 0.0)
    got = paired_bootstrap([np.ones((3, 50)), np.zeros((3, 80))])
    assert got == pytest.approx((0.5, 0.5, 0.5))  # sets count equally, whatever their size


def test_the_bootstrap_interval_is_as_wide_as_theory_says() -> None:
    rng = np.random.default_rng(2)
    d = rng.normal(0.02, 0.4, size=(1, 900))
    mean, low, high = paired_bootstrap([d], draws=4000)
    assert high - low == pytest.approx(2 * 1.96 * 0.4 / 30, rel=0.1)
    assert low < mean < high


def test_seeds_that_disagree_widen_the_interval() -> None:
    same, apart = np.full((3, 200), 0.1), np.repeat([[0.0], [0.1], [0.2]], 200, axis=1)
    assert np.ptp(paired_bootstrap([same])[1:]) == pytest.approx(0)
    assert np.ptp(paired_bootstrap([apart])[1:]) > 0.1
    rng = np.random.default_rng(3)
    seeds = np.repeat(rng.normal(0.1, 0.05, size=(4, 1)), 50, axis=1)
    _, low, high = paired_bootstrap([seeds], draws=40_000)
    assert high - low == pytest.approx(2 * 1.96 * seeds[:, 0].std(ddof=1) / 2, rel=0.1)


def test_the_threshold_makes_few_false_spans() -> None:
    points = ((0.3, 0.75, 0.08), (0.5, 0.74, 0.05), (0.7, 0.71, 0.04), (0.9, 0.40, 0.02))
    rows = [{"threshold": t, "f1": f1, "false_span_rate": false} for t, f1, false in points]
    assert choose(rows)["threshold"] == 0.5
    assert choose([rows[0], rows[0] | {"threshold": 0.4, "false_span_rate": 0.06}])["threshold"] == 0.4


def test_whole_products_and_pronouns_are_unmarked() -> None:
    s = parse_marked("Love [it|+]: this [smart tv|+] has a [great screen|+] and the [place|+] is fine.", "tsa_md", "1")
    assert [s.text[m.start : m.end] for m in parts_only(s).mentions] == ["great screen"]


def cell(arm: str, seed: int, flags: str, accuracy: float, name: str = "LAP14") -> dict[str, object]:
    tests = {
        name: {"accuracy": accuracy, "macro_f1": 0.5, "ece": 0.1},
        f"ARTS-{name}": {"accuracy": 0.6, "macro_f1": 0.5, "ars": flags.count("1") / len(flags), "groups_right": flags},
    }
    config = {"arm": arm, "input": "pair", "epochs": 5, "seed": seed}
    log = [{"epoch": 5, "prune_rates": [0.25, 0.5]}] if arm == "cvib" else [{"epoch": 5}]
    return {"kind": "cvib-grid", "set": name, "encoder": "tiny", "preset": "improved", "config": config, "log": log,
            "tests": tests, "training": {"cpu_s": 10}}  # fmt: skip


def test_files_of_several_machines_make_one_table(tmp_path: Path) -> None:
    made = [
        cell("cvib", 0, "1100", 0.7),
        cell("cvib", 1, "1110", 0.8),
        cell("plain", 0, "1000", 0.7),
        cell("plain", 2, "0000", 0.1),
    ]
    for n, one in enumerate(made):
        folder = tmp_path / f"machine{n % 2}"
        folder.mkdir(exist_ok=True)
        (folder / f"{n}.json").write_text(json.dumps(one), encoding="utf-8")
    (tmp_path / "other.json").write_text(json.dumps({"kind": "aspects"}), encoding="utf-8")
    cells = load([*tmp_path.rglob("*.json")])
    row = ("tiny", "improved", "cvib", "pair", 5)
    [twin] = twins(cells, row)
    difference = compare(cells, row, twin, "LAP14")
    assert difference is not None
    assert (difference["n"], difference["ars"], difference["clean"]) == (1.0, 0.25, 0.0)  # the shared seed alone
    text = render(cells)
    assert "75.0 ± 7.1 / 50.0 ± 0.0 (n=2, 5 ep)" in text
    assert "| tiny, improved, plain twin |  | 40.0" in text, "REST14 was not run: its cell stays empty"
    assert "25.0 50.0" in text


def test_runs_of_another_precision_are_no_pair(tmp_path: Path) -> None:
    made = [cell(arm, seed, flags, 0.7) for seed in (0, 1, 2) for arm, flags in (("cvib", "11"), ("plain", "10"))]
    for n, said in ((2, "float32"), (3, "float32"), (5, "float32")):  # seed 0 does not say, seed 2 says two things
        made[n]["precision"] = said
    for n, one in enumerate(made):
        (tmp_path / f"{n}.json").write_text(json.dumps(one), encoding="utf-8")
    cells = load([*tmp_path.iterdir()])
    difference = compare(
        cells, ("tiny", "improved", "cvib", "pair", 5), ("tiny", "improved", "plain", "pair", 5), "LAP14"
    )
    assert difference is not None
    assert difference["n"] == 2


def test_an_ablation_has_the_twin_of_its_preset_and_one_that_trained_longer(tmp_path: Path) -> None:
    changed = cell("cvib", 0, "1111", 0.9) | {"preset": "pressed", "changes": {"kl": "1.0", "gates": "last"}}
    longer = cell("plain", 0, "1100", 0.8)
    longer["config"] = {**longer["config"], "epochs": 10}  # type: ignore[dict-item]
    for n, one in enumerate([changed, cell("cvib", 0, "1110", 0.7), cell("plain", 0, "1000", 0.7), longer]):
        (tmp_path / f"{n}.json").write_text(json.dumps(one), encoding="utf-8")
    text = render(load([*tmp_path.iterdir()]))
    assert "| tiny, pressed, kl=1.0, gates=last, cvib | LAP14 | 1 | 5 | +75.0 |" in text
    assert "| tiny, pressed, kl=1.0, gates=last, cvib | LAP14 | 1 | 5, twin 10 | +50.0 |" in text
    assert "| tiny, improved, cvib | LAP14 | 1 | 5, twin 10 | +25.0 |" in text


def test_a_lever_is_the_twins_too_and_its_gain_is_told_apart(tmp_path: Path) -> None:
    """By hand: on these seeds the span is worth 1/4, 1/2 and 0; our own sentences cost 1/4 on the one seed they have."""
    made = [cell("plain", seed, flags, 0.8) for seed, flags in enumerate(("1110", "1100", "1000", "1111"))]
    made += [
        cell("plain", seed, flags, 0.7) | {"changes": {"pool": "cls"}}
        for seed, flags in enumerate(("1100", "0000", "1000"))
    ]
    made += [cell("plain", 3, "1110", 0.9) | {"changes": {"own": "on"}}]
    made += [cell("cvib", 0, "1111", 0.9) | more for more in ({}, {"changes": {"pool": "cls"}})]
    made += [cell("cvib", 0, "1111", 0.9) | {"preset": "pressed", "changes": {"kl": "1.0", "pool": "cls"}}]
    for n, one in enumerate(made):
        (tmp_path / f"{n}.json").write_text(json.dumps(one), encoding="utf-8")
    text = render(load([*tmp_path.iterdir()]))
    gains = text.partition("**The system's gain**")[2].partition("**More")[0].splitlines()
    [own], [span] = ([line for line in gains if word in line] for word in ("own sentences", "tokens"))
    assert own.endswith("| LAP14 | 1 | 5 | -25.0 |  | +10.0 |"), "one seed has no interval"
    assert re.search(r"\| LAP14 \| 3 \| 5 \| \+25\.0 \| -?\+?\d+\.\d to \+\d+\.\d \| \+10\.0 \|$", span)
    assert "| tiny, pressed, kl=1.0, pool=cls, cvib | LAP14 | 1 | 5 | +50.0 |" in text, "its twin has the lever, too"
    assert "cvib:" not in text, "the gain is the twin's"


def test_the_mean_of_both_domains_is_of_seeds_that_all_four_have(tmp_path: Path) -> None:
    """By hand: no_contrast less twin on seed 0 is 1/2 and 0, on seed 3 0 and 1/4; seed 4 lacks a set, seed 5 a twin."""
    right = {  # arm, seed: flags on REST14 (two groups) and LAP14 (four groups)
        ("no_contrast", 0): ("11", "1000"), ("plain", 0): ("10", "1000"),
        ("no_contrast", 3): ("10", "1100"), ("plain", 3): ("10", "1000"),
        ("no_contrast", 4): ("11", ""), ("plain", 4): ("00", ""),
        ("no_contrast", 5): ("11", "1111"),
    }  # fmt: skip
    for (arm, seed), sets in right.items():
        for name, flags in zip(("REST14", "LAP14"), sets, strict=True):
            if flags:
                one = cell(arm, seed, flags, 0.8 if arm == "plain" else 0.7, name)
                (tmp_path / f"{arm}{seed}{name}.json").write_text(json.dumps(one), encoding="utf-8")
    cells = load([*tmp_path.iterdir()])
    row, twin = (("tiny", "improved", arm, "pair", 5) for arm in ("no_contrast", "plain"))
    both = compare(cells, row, twin, "REST14", "LAP14")
    assert both is not None
    assert (both["n"], both["ars"], both["clean"]) == (
        2.0,
        pytest.approx((0.5 + 0 + 0 + 0.25) / 4),
        pytest.approx(-0.1),
    )
    assert both["low"] <= both["ars"] <= both["high"]
    fresh = compare(cells, row, twin, "REST14", "LAP14", since=3)
    assert fresh is not None
    assert (fresh["n"], fresh["ars"]) == (1.0, 0.125)
    assert compare(cells, row, twin, "REST14", "LAP14", since=4) is None
    text = render(cells)
    assert "| tiny, improved, no_contrast | all | 2 | 5 | +18.8 |" in text
    assert "| tiny, improved, no_contrast | from 3 on | 1 | 5 | +12.5 |" in text
    assert "| tiny, improved, no_contrast | REST14 | 3 | 5 | +50.0 |" in text, "each set alone has its own seeds"


@pytest.mark.skipif(not RESULTS, reason="no results yet")
@pytest.mark.timeout(600)  # some twenty bootstraps
def test_the_documents_tables_are_what_the_command_makes() -> None:
    text = (ROOT / "docs" / "cvib.md").read_text(encoding="utf-8")
    assert fill(text, render(load(RESULTS))) == text, (
        "run: python -m sentiment.table docs/results/cvib/*.json --into docs/cvib.md"
    )


def test_a_document_without_markers_is_refused() -> None:
    assert fill(f"a {BEGIN} old {END} b", "new") == f"a {BEGIN}\n\nnew\n{END} b"
    with pytest.raises(ValueError, match="markers"):
        fill("nothing here", "new")
