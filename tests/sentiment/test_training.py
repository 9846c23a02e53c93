"""Training as a whole, with tiny networks: kills, seeds, leaks, the grid's files and the plants. Needs torch."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not in the product environment (docs/cvib.md)")
pytest.importorskip("transformers", reason="transformers is in the training environment only")

from sentiment import grid  # noqa: E402
from sentiment.checkpoint import StaleCheckpoint, digest  # noqa: E402
from sentiment.corpora import HELD_OUT_DOMAINS, OWN, file_hash  # noqa: E402
from sentiment.data import normalise, read_own  # noqa: E402
from sentiment.model import PolarityNet, load_polarity, minilm_dir  # noqa: E402
from sentiment.planted import examples, measure, tiny_encoder  # noqa: E402
from sentiment.precision import autocast, precision  # noqa: E402
from sentiment.recipe import PRESETS, Config, settings  # noqa: E402
from sentiment.train import train  # noqa: E402

torch.set_num_threads(1)  # tiny nets: a second thread only waits
ROOT = Path(__file__).resolve().parents[2]
Weights = dict[str, "torch.Tensor"]


def run(
    source: Path, state: Path | None, *, seed: int = 3, epochs: int = 4, minutes: float = 1e9, shared: bool = False
) -> Weights:
    got: Weights = {}

    def keep(net: PolarityNet, log: list[dict[str, object]]) -> None:
        got.update({k: v.clone() for k, v in net.state_dict().items()})

    chosen = {"arm": "cvib", "seed": seed, "epochs": epochs, "accumulate": 2, "shared": shared}
    config = Config(**{**PRESETS["improved"], **chosen})  # type: ignore[arg-type]
    pool = examples(200, agree=0.9, seed=0)
    train(config, pool, [], source, 0, minutes=minutes, bar=False, on_best=keep, select="last", state=state)
    return got


def equal(a: Weights, b: Weights) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_encoder(tmp_path_factory.mktemp("tiny"), seed=0)


def test_a_group_of_batches_that_is_not_full_counts_as_what_it_is(source: Path) -> None:
    """One batch is all there is: a step on it is the same step, however many might have been gathered."""
    got = []
    for accumulate in (1, 4):
        kept: Weights = {}
        config = Config(arm="plain", epochs=1, accumulate=accumulate)
        train(
            config, examples(20, agree=0.9, seed=0), [], source, 0, minutes=1e9, bar=False, select="last",
            on_best=lambda net, _, kept=kept: kept.update(net.state_dict()),
        )  # fmt: skip
        got.append(kept)
    assert equal(*got)


def test_same_seed_same_weights(source: Path) -> None:
    first = run(source, None)
    assert equal(first, run(source, None))
    assert not equal(first, run(source, None, seed=4))


@pytest.mark.parametrize(("native", "kind"), [(True, "bfloat16"), (False, "float32")])
def test_a_processor_computes_in_bfloat16_only_where_it_has_it(
    native: bool, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Emulated on AVX2 one step of MiniLM took 21.7 CPU seconds, in float32 1.6."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"avx2": True, "avx512_bf16": native})
    assert precision("cpu") == kind
    assert precision("cuda") == "bfloat16"
    with autocast("cpu"):
        assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == getattr(torch, kind)


def test_a_killed_training_goes_on_to_the_same_weights(source: Path, tmp_path: Path) -> None:
    """A real kill, in the middle of whatever it does after two epochs."""
    state = tmp_path / "resume.safetensors"
    code = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]
from pathlib import Path
import test_training
test_training.run(Path({str(source)!r}), Path({str(state)!r}), epochs=EPOCHS)
"""
    process = subprocess.Popen([sys.executable, "-c", code.replace("EPOCHS", "6")], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        seen = 0
        while seen < 2 and (line := process.stdout.readline()):
            seen += line.startswith('{"epoch"')
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()  # type: ignore[union-attr]
    assert seen == 2, "the training ended before it could be killed"
    assert equal(run(source, state, epochs=6), run(source, None, epochs=6))


def test_a_checkpoint_of_another_training_is_refused(source: Path, tmp_path: Path) -> None:
    state = tmp_path / "resume.safetensors"
    run(source, state, epochs=1)
    with pytest.raises(StaleCheckpoint, match="config"):
        run(source, state, epochs=2)


def test_another_encoder_of_equal_shape_is_another_training(source: Path, tmp_path: Path) -> None:
    state = tmp_path / "resume.safetensors"
    run(source, state)
    other = tiny_encoder(tmp_path / "other", seed=1)
    with pytest.raises(StaleCheckpoint, match="encoder"):
        run(other, state)


def test_as_many_other_examples_are_another_training() -> None:
    one, other = (examples(20, agree=0.9, seed=seed) for seed in (0, 1))
    assert digest(one) == digest(examples(20, agree=0.9, seed=0)) != digest(other)
    assert digest(one[::-1]) != digest(one)


@pytest.mark.parametrize("shared", [False, True])
def test_a_training_out_of_time_stops_at_an_epoch_and_goes_on(source: Path, tmp_path: Path, shared: bool) -> None:
    state = tmp_path / "resume.safetensors"
    run(source, state, minutes=1e-6, shared=shared)
    assert equal(run(source, state, shared=shared), run(source, None, shared=shared))


def semeval(path: Path, rows: list[tuple[str, str, str]]) -> None:
    """rows: text, term, polarity."""
    body = "".join(
        f'<sentence><text>{text}</text><aspectTerms><aspectTerm term="{term}" polarity="{polarity}" '
        f'from="{text.index(term)}" to="{text.index(term) + len(term)}"/></aspectTerms></sentence>'
        for text, term, polarity in rows
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"<sentences>{body}</sentences>", encoding="utf-8")


@pytest.fixture(name="absa", scope="module")
def _absa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little LAP14 with a leak planted in its training set, and its ARTS."""
    folder = tmp_path_factory.mktemp("absa")
    words = {"positive": "lovely", "negative": "awful", "neutral": "blue"}
    rows = [
        (f"the {noun} of number {i} is {words[p]}", noun, p)
        for i in range(4)
        for noun in ("screen", "fan")
        for p in words
    ]
    test = [("my keyboard is lovely", "keyboard", "positive"), ("my keyboard is awful", "keyboard", "negative")]
    leak = ("My keyboard is LOVELY!", "keyboard", "positive")
    semeval(folder / "semeval14_laptops/Laptop_Train.xml", [*rows, leak])
    semeval(folder / "semeval14_laptops/Laptops_Test.xml", test)
    arts = {}
    for i, (text, term, polarity) in enumerate(test):
        for variant in ("", "_adv1", "_adv3"):
            at = text.index(term)
            item = {
                "sentence": text,
                "term": term,
                "polarity": polarity,
                "from": at,
                "to": at + len(term),
                "id": str(i),
            }
            arts[f"{i}{variant}"] = item
    (folder / "arts").mkdir()
    (folder / "arts/laptop_test_enriched.json").write_text(json.dumps(arts), encoding="utf-8")
    return folder


def cells(absa: Path, source: Path, to: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[dict[str, object]]:
    arguments = ["--absa", str(absa), "--out", str(to / "out"), "--to", str(to / "results"), "--encoder", str(source)]
    arguments += ["--encoder-name", "tiny", "--set", "LAP14", "--epochs", "2", "--quiet", *more]
    monkeypatch.setattr(sys, "argv", ["grid", *arguments])
    grid.main()
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((to / "results").glob("*.json"))]


@pytest.fixture(name="worded", scope="module")
def _worded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with a real tokenizer."""
    folder = tiny_encoder(tmp_path_factory.mktemp("worded"), seed=0, vocabulary=30522)
    (folder / "tokenizer.json").write_bytes((minilm_dir() / "tokenizer.json").read_bytes())
    return folder


def test_the_grid_drops_the_planted_leak_and_trains_no_cell_twice(
    absa: Path, worded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = cells(absa, worded, tmp_path, monkeypatch, "--seeds", "0", "1")
    assert [c["cell"] for c in got] == [
        f"lap14-tiny-improved-{arm}-e2-s{seed}" for arm in ("cvib", "plain") for seed in (0, 1)
    ]
    for c in got:
        assert (c["examples"], c["dropped_leaks"]) == (24, 1)
        scores = c["tests"]["ARTS-LAP14"]  # type: ignore[index]
        assert (scores["n"], scores["groups"], len(scores["groups_right"])) == (6.0, 2.0, 2)
        assert scores["ars"] == scores["groups_right"].count("1") / 2
        assert scores["revtgt_accuracy"] == scores["original_accuracy"]  # the same sentences here
    stamps = {p: p.stat().st_mtime_ns for p in (tmp_path / "results").iterdir()}
    cells(absa, worded, tmp_path, monkeypatch, "--seeds", "0", "1")
    assert stamps == {p: p.stat().st_mtime_ns for p in (tmp_path / "results").iterdir()}


@pytest.mark.parametrize("arm", ["no_vib", "no_contrast"])
def test_every_arm_and_the_sentence_input_run(
    arm: str, absa: Path, worded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cell,) = cells(absa, worded, tmp_path, monkeypatch, "--arms", arm, "--input", "sentence", "--preset", "paper")
    assert cell["cell"] == f"lap14-tiny-paper-{arm}-sentence-e2-s0"
    assert ("prune_rates" in cell["log"][-1]) == (arm == "no_contrast")  # type: ignore[index]


@pytest.fixture(name="unchanged", scope="module")
def _unchanged(absa: Path, worded: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], bytes]:
    folder = tmp_path_factory.mktemp("unchanged")
    with pytest.MonkeyPatch.context() as patch:
        (cell,) = cells(absa, worded, folder, patch, "--arms", "cvib")
    return cell, weights(folder)


def weights(folder: Path) -> bytes:
    [file] = folder.rglob("model.safetensors")
    return file.read_bytes()


@pytest.mark.parametrize(
    "change",
    ["label_aware=off", "symmetric=off", "kl_per_channel=off", "kl=1.0", "kl_warmup=0.9", "gates=last", "shared=on"],
)
def test_one_switch_changes_one_thing_and_the_training(
    change: str, unchanged: tuple[dict[str, object], bytes], absa: Path, worded: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    (cell,) = cells(absa, worded, tmp_path, monkeypatch, "--arms", "cvib", "--change", change)
    name, _, value = change.partition("=")
    assert (cell["cell"], cell["changes"]) == (f"lap14-tiny-improved-cvib-{change}-e2-s0", {name: value})
    before, after = unchanged[0]["config"], cell["config"]
    assert {key for key in after if after[key] != before[key]} == {name}  # type: ignore[index]
    assert weights(tmp_path) != unchanged[1]
    assert len(cell["log"][-1]["prune_rates"]) == (1 if change == "gates=last" else 2)  # type: ignore[index]


def test_cls_alone_leaves_the_span_out_of_every_arm(
    absa: Path, worded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arms = ("cvib", "plain")
    got = cells(absa, worded, tmp_path, monkeypatch, "--arms", *arms, "--change", "pool=cls")
    assert [c["cell"] for c in got] == [f"lap14-tiny-improved-{arm}-pool=cls-e2-s0" for arm in arms]
    assert all(c["changes"] == {"pool": "cls"} and c["config"]["pool"] == "cls" for c in got)  # type: ignore[index]
    ids, aspect = torch.tensor([[101, 1996, 3898, 2003, 102]]), torch.tensor([[0, 0, 1, 0, 0]])
    rest = torch.ones_like(ids), torch.zeros_like(ids)
    for c in got:
        net = load_polarity(tmp_path / "out" / str(c["cell"]), worded)
        (logits, h), (moved, _) = (net(ids, *rest, marks) for marks in (aspect, aspect.roll(1, dims=1)))
        assert torch.equal(logits, moved)
        assert h.shape == (1, 32)


def test_our_own_sentences_train_beside_the_benchmarks_without_leaks(
    absa: Path, worded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is planted in another set's test."""
    ours = [s for n, s in enumerate(read_own(OWN)) if n % 8 != 7 and s.domain not in HELD_OUT_DOMAINS]
    leak = next(s for s in ours if len(s.mentions) == 1)
    term = leak.text[leak.mentions[0].start : leak.mentions[0].end]
    shutil.copytree(absa, tmp_path / "absa")
    semeval(
        tmp_path / "absa/semeval14_restaurants/Restaurants_Test.xml", [(leak.text.upper(), term.upper(), "neutral")]
    )
    (cell,) = cells(tmp_path / "absa", worded, tmp_path, monkeypatch, "--arms", "plain", "--change", "own=on")
    assert (cell["cell"], cell["changes"]) == ("lap14-tiny-improved-plain-own=on-e2-s0", {"own": "on"})
    same = sum(normalise(s.text) == normalise(leak.text) for s in ours)
    assert (cell["examples"], cell["dropped_leaks"]) == (24 + sum(len(s.mentions) for s in ours) - same, 1 + same)
    assert cell["files"]["own"] == file_hash(OWN)  # type: ignore[index]


def test_a_lever_at_its_default_is_not_in_the_settings_of_a_checkpoint() -> None:
    """Those written before the lever was there go on."""
    before = settings(Config(**PRESETS["improved"]))  # type: ignore[arg-type]
    assert {"arm", "gates", "shared"} < before.keys()
    assert not {"pool", "own"} & before.keys()
    assert settings(Config(pool="cls", own=True)).keys() - before.keys() == {"pool", "own"}


@pytest.mark.parametrize(
    "wrong", ["dropout=0.5", "shared=yes", "kl=much", "gates=first", "pool=all", "pool=cls kl=1.0"]
)
def test_what_no_ablation_may_change_is_refused(
    wrong: str, absa: Path, worded: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = [("--arms", "plain", "--change", *wrong.split())]
    refused += [("--arms", "cvib", "--change", wrong), ("--input", "sentence", "--change", "pool=cls")]
    for arguments in refused:
        with pytest.raises(SystemExit) as stopped:
            cells(absa, worded, tmp_path, monkeypatch, *arguments)
        assert stopped.value.code == 2


@pytest.mark.parametrize(("epochs", "accumulate"), [(2, 1), (8, 2)])
def test_a_pressed_run_lets_channels_fall_however_short(source: Path, epochs: int, accumulate: int) -> None:
    """improved's fixed rate of logD cannot get from -9 to 0 in so few steps; pressed's can, and so prunes."""
    rates = {}
    for preset in ("improved", "pressed"):
        config = Config(**{**PRESETS[preset], "arm": "cvib", "epochs": epochs, "accumulate": accumulate, "kl": 1.0})  # type: ignore[arg-type]
        pool = examples(400, agree=0.9, seed=0)
        log = train(config, pool, [], source, 0, minutes=1e9, bar=False, on_best=lambda *_: None, select="last")
        rates[preset] = np.mean(log[-1]["prune_rates"])  # type: ignore[arg-type]
    assert rates["improved"] == 0.0
    assert rates["pressed"] > 0.05


def test_the_planted_spurious_word_is_learnt_by_both_and_measured(tmp_path: Path) -> None:
    """No sign is required of the difference; that the plant works is: right where the word agrees, worse where reversed."""
    for arm in ("cvib", "plain"):
        got = measure(arm, 0, tmp_path / arm, epochs=10)
        assert got["agreeing"] > 0.85  # type: ignore[operator]
        assert got["reversed"] < got["agreeing"] - 0.1  # type: ignore[operator]


def test_the_plant_is_what_it_says() -> None:
    pairs = examples(3000, agree=0.9, seed=5)
    named = np.array([p.encoded.ids[-2] - 300 for p in pairs])
    assert np.mean(named == [p.label for p in pairs]) == pytest.approx(0.9, abs=0.02)
