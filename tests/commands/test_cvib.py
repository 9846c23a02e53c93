"""`earful cvib`: predict, eval and use with the models of the model repository; train says what it needs."""

from __future__ import annotations

import json
import re
import shutil
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from sentiment.folder import content_version
from sentiment.predict import MODEL_REPO, polarity
from settings import PROJECT
from tests.commands.runner import earful

TEXT = "The screen is gorgeous but the battery is terrible."


def lines(*rows: object, name: str = "a.jsonl") -> str:
    Path(name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return name


def test_predict_answers_like_the_library_and_a_bad_line_fails_alone() -> None:
    file = lines(
        {"text": TEXT, "from": 4, "to": 10},
        {"text": TEXT, "from": 31, "to": 99},
        {"text": TEXT, "from": 31, "to": 38},
        {"text": "Der Akku ist leider sehr schwach und laut.", "from": 4, "to": 8},
        {"text": "x" * 20_001, "from": 0, "to": 1},
        {"text": "The battery \ud83d", "from": 4, "to": 11},
        {"text": TEXT, "aspects": [{"from": 4, "to": 10, "polarity": "positive"}]},
    )
    done = earful("cvib", "predict", file, "--json")
    rows = [json.loads(line) for line in done.out.splitlines()]
    assert done.code == 1
    assert [row.get("polarity") for row in rows] == ["positive", None, "negative", None, None, None, None]
    expected = polarity(TEXT, [(4, 10)])[0]
    assert rows[0]["positive"] == pytest.approx(expected.positive, abs=1e-4)
    assert [row["line"] for row in rows] == [1, 2, 3, 4, 5, 6, 7]
    assert "outside the text" in rows[1]["error"]
    assert rows[3]["unsupported_language"] is True
    assert "20000 are the most" in rows[4]["error"]
    assert "surrogate" in rows[5]["error"]
    assert "one aspect a line" in rows[6]["error"]


def test_predict_in_columns() -> None:
    done = earful(
        "cvib", "predict", lines({"text": TEXT, "from": 4, "to": 10}), "--model", str(MODEL_REPO / "cvib" / "1")
    )
    assert (done.code, done.out.split()[1:2], done.out.split()[-1]) == (0, ["positive"], "screen")


def test_predict_abstains_below_a_probability() -> None:
    file = lines({"text": TEXT, "from": 4, "to": 10})
    row = json.loads(earful("cvib", "predict", file, "--abstain-below", "1", "--json").out)
    assert (row["polarity"], max(row["negative"], row["neutral"], row["positive"]) == row["positive"]) == (
        "unsure",
        True,
    )
    assert earful("cvib", "predict", file, "--abstain-below", "0.4").out.split()[1] == "positive"


def test_no_control_of_a_text_reaches_the_terminal() -> None:
    text = "The battery\x1b[31m pack is great."
    done = earful("cvib", "predict", lines({"text": text, "from": 4, "to": text.index(" is")}))
    assert (done.code, "\x1b" in done.out, done.out.split()[-2:]) == (0, False, ["[31m", "pack"])


def test_a_folder_without_a_model_is_2() -> None:
    Path("empty").mkdir()
    file = lines({"text": TEXT, "from": 4, "to": 10})
    for folder, says in (("empty", "no model.json"), (str(MODEL_REPO / "aspects" / "1"), "kind aspects")):
        done = earful("cvib", "predict", file, "--model", folder)
        assert (done.code, says in done.sentence()) == (2, True), done.err


def test_eval_on_a_labelled_file() -> None:
    marked = [{"from": 4, "to": 10, "polarity": "positive"}, {"from": 31, "to": 38, "polarity": "negative"}]
    file = lines({"text": TEXT, "aspects": marked}, {"text": "Thanks, bye."})
    found = earful("cvib", "eval", file, "--exhaustive", "--json").json()
    assert (found["polarity"]["accuracy"], found["polarity"]["n"]) == (1.0, 2.0)
    assert (found["aspects"]["f1"], found["aspects"]["false_span_rate"]) == (1.0, 0.0)
    assert found["not_english"] == 0
    in_use = json.loads((MODEL_REPO / "aspects" / "1" / "model.json").read_text())["version"]
    shutil.copytree(MODEL_REPO / "cvib" / "1", Path("own/cvib"))
    done = earful("cvib", "eval", file, "--exhaustive", "--json", "--model", "own")
    assert (done.json()["extractor"], found["extractor"]) == (in_use, in_use)
    assert done.err == f"own has no extractor: the one in use is measured ({in_use})\n"
    assert "accuracy" in earful("cvib", "eval", file).out


def test_what_is_not_english_is_named_measured_by_no_eval_and_trained_by_no_train() -> None:
    german = {"text": "Der Akku ist leider sehr schwach und laut.", "from": 4, "to": 8, "polarity": "positive"}
    file = lines({"text": TEXT, "from": 4, "to": 10, "polarity": "positive"}, german)
    done = earful("cvib", "eval", file, "--json")
    assert done.err.startswith("a.jsonl, line 2: the text is not English (it looks like de)")
    assert (done.json()["not_english"], done.json()["polarity"]["n"]) == (1, 1.0)
    assert "no aspect" in earful("cvib", "eval", lines(german)).err
    done = earful("cvib", "train", lines(german, {"text": "a", "from": 9, "to": 10, "polarity": "neutral"}), "--check")
    assert (done.code, [line[:28] for line in done.err.splitlines()[:2]]) == (
        2,
        ["a.jsonl, line 1: the text is", "a.jsonl, line 2: the span 9:"],
    )


def test_eval_names_the_line_that_the_models_refuse() -> None:
    wrong = {"text": "x " * 10_001, "from": 0, "to": 1, "polarity": "neutral"}
    file = lines({"text": TEXT, "from": 4, "to": 10, "polarity": "positive"}, wrong)
    for more in ((), ("--exhaustive",)):
        done = earful("cvib", "eval", file, *more)
        said = done.sentence()
        assert (done.code, "a.jsonl, line 2: " in said, "20000 are the most" in said) == (2, True, True)


def test_eval_of_benchmarks_measures_polarity_arts_and_with_exhaustive_the_extractor() -> None:
    spans = [("screen", 4, "positive"), ("battery", 31, "negative")]
    old = "".join(
        f'<aspectTerm term="{w}" from="{at}" to="{at + len(w)}" polarity="{label}"/>' for w, at, label in spans
    )
    new = "".join(
        f'<Opinion target="{w}" from="{at}" to="{at + len(w)}" polarity="{label}"/>' for w, at, label in spans
    )
    for folder, name, marks in (
        ("mams/ATSA", "test.xml", old), ("semeval14_restaurants", "a_Test.xml", old), ("semeval14_laptops", "a_Test.xml", old),
        ("semeval15_restaurants", "a_Test.xml", new), ("semeval16_restaurants", "a_TEST.xml", new),
    ):  # fmt: skip
        (Path("absa") / folder).mkdir(parents=True)
        empty = "<sentence><text>Thanks, bye.</text></sentence>"
        page = f"<sentences><sentence><text>{TEXT}</text>{marks}</sentence>{empty}</sentences>"
        (Path("absa") / folder / name).write_text(page)
    item = {"sentence": TEXT, "term": "screen", "from": 4, "polarity": "positive", "id": "1"}
    for folder, name, content in (
        ("twitter", "test.raw", "the $T$ is great\nscreen\n1\n"), ("arts", "rest_test_enriched.json", json.dumps({"1": item})),
        ("arts", "laptop_test_enriched.json", json.dumps({"1": item})),
    ):  # fmt: skip
        (Path("absa") / folder).mkdir(exist_ok=True)
        (Path("absa") / folder / name).write_text(content)
    found = earful("cvib", "eval", "absa", "--exhaustive", "--json").json()
    names = ["MAMS", "REST14", "LAP14", "REST15", "REST16"]
    assert list(found["sets"]) == [*names, "Twitter", "own-held-out", "ARTS-REST", "ARTS-LAP"]
    assert (found["sets"]["LAP14"]["mixed_accuracy"], found["sets"]["ARTS-LAP"]["ars"]) == (1.0, 1.0)
    assert list(found["extraction"]) == [*names, "own-held-out"]
    assert (found["extraction"]["REST16"]["f1"], found["extraction"]["REST16"]["empty_texts"]) == (1.0, 1.0)
    assert "extraction" not in earful("cvib", "eval", "absa", "--json").json()


def test_eval_names_a_wrong_line_and_a_missing_benchmark() -> None:
    file = lines({"text": TEXT, "from": 4, "to": 10, "polarity": "good"})
    done = earful("cvib", "eval", file)
    assert (done.code, "a.jsonl, line 1: `polarity`" in done.sentence()) == (2, True)
    Path("none").mkdir()
    assert earful("cvib", "eval", "none").code == 2


def test_train_checks_every_line_before_anything_else() -> None:
    done = earful(
        "cvib", "train", lines({"text": TEXT}, {"text": "a", "from": 0, "to": 9, "polarity": "neutral"}, {"x": 1})
    )
    assert done.code == 2
    assert [line[:15] for line in done.err.splitlines()[:2]] == ["a.jsonl, line 2", "a.jsonl, line 3"]
    done = earful("cvib", "train", lines({"text": TEXT, "from": 4, "to": 10, "polarity": "positive"}))
    assert (done.code, "50 of 2 are the least" in done.sentence()) == (2, True)


def test_every_arm_can_be_trained_and_no_other() -> None:
    rows = [{"text": f"Lid {n}.", "aspect": "Lid", "polarity": ("neutral", "positive")[n % 2]} for n in range(60)]
    file = lines(*rows)
    for arm in ("cvib", "plain", "no_contrast", "no_vib"):
        assert earful("cvib", "train", file, "--arm", arm, "--check").code == 0
    done = earful("cvib", "train", file, "--arm", "vib", "--check")
    assert (done.code, "no arm 'vib': cvib, plain, no_vib, no_contrast" in done.sentence()) == (2, True)


@pytest.mark.skipif(find_spec("torch") is not None, reason="torch is there")
def test_train_without_torch_says_what_to_install() -> None:
    rows = [
        {"text": f"The lid number {n} is fine.", "aspect": "lid", "polarity": ("neutral", "positive")[n % 2]}
        for n in range(60)
    ]
    assert earful("cvib", "train", lines(*rows), "--check").code == 0
    done = earful("cvib", "train", lines(*rows))
    assert (done.code, "training needs torch" in done.sentence()) == (2, True)
    for way in ("make .venv-torch/.made", "'.[train]'", "requirements/torch.txt"):
        assert way in done.err


def test_the_extra_for_training_is_what_the_lock_holds() -> None:
    """What `pip install '.[train]'` would take is what .venv-torch has, and it is all that `train` asks for."""
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    wanted = [Requirement(line) for line in project["optional-dependencies"]["train"]]
    lock = dict(re.findall(r"^([\w.-]+)==([^ ]+)", (PROJECT / "requirements" / "torch.txt").read_text(), re.MULTILINE))
    assert [one.name for one in wanted if lock.get(one.name, "0") not in one.specifier] == []
    assert {one.name for one in wanted} >= {"torch", "transformers", "safetensors", "onnx", "tqdm"}


@pytest.fixture(name="repository")
def _repository() -> Path:
    for name in ("cvib", "aspects"):
        shutil.copytree(MODEL_REPO / name, Path("repository") / name)
    return Path("repository")


def test_use_installs_a_model_and_brings_back_the_one_before(repository: Path) -> None:
    before = content_version(repository / "cvib" / "1")
    own = Path("own/cvib")
    shutil.copytree(MODEL_REPO / "cvib" / "1", own)
    settings = json.loads((own / "model.json").read_text()) | {"temperature": 1.25}
    (own / "model.json").write_text(json.dumps(settings))
    done = earful("cvib", "use", "own", "--to", str(repository))
    assert (done.code, "export them anew" in done.sentence()) == (1, True)  # its version is not that of its files
    settings["version"] = content_version(own)
    (own / "model.json").write_text(json.dumps(settings))
    (own / "train.json").write_text("mine")
    card = (repository / "cvib" / "CARD.md").read_text()
    done = earful("cvib", "use", "own", "--to", str(repository))
    assert done.code == 0, done.err
    served = json.loads((repository / "cvib" / "1" / "model.json").read_text())
    config = (repository / "cvib" / "config.pbtxt").read_text()
    assert (served["temperature"], f'string_value: "{settings["version"]}"' in config) == (1.25, True)
    assert (repository / "cvib" / "train.json").read_text() == "mine"
    assert not (repository / "cvib" / "CARD.md").exists()  # it told of other weights
    kept = Path("no-stack-here/models") / f"cvib-{before}"
    assert earful("cvib", "use", str(kept), "--to", str(repository)).code == 0
    assert content_version(repository / "cvib" / "1") == before
    assert (repository / "cvib" / "CARD.md").read_text() == card
    assert (repository / "cvib" / "train.json").read_bytes() == (MODEL_REPO / "cvib" / "train.json").read_bytes()


def other(kind: str) -> Path:
    """A model of one's own, of another version than the one that ships."""
    folder = Path("own") / kind
    shutil.copytree(MODEL_REPO / kind / "1", folder)
    settings = json.loads((folder / "model.json").read_text()) | {"temperature": 1.25}
    (folder / "model.json").write_text(json.dumps(settings))
    settings["version"] = content_version(folder)
    (folder / "model.json").write_text(json.dumps(settings))
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_use_checks_both_models_before_either(repository: Path) -> None:
    other("cvib"), other("aspects")
    before = contents(repository)
    for broken, says in (("{}", "kind None"), ("[]", "kind None"), ("{", "model.json describes no model")):
        Path("own/aspects/model.json").write_text(broken)
        done = earful("cvib", "use", "own", "--to", str(repository))
        assert (done.code, says in done.sentence(), contents(repository) == before) == (1, True, True)


def test_use_installs_both_models_or_neither(repository: Path) -> None:
    """The second one's place is taken, after all of the first was written."""
    other("cvib"), other("aspects")
    before = contents(repository)
    taken = Path("no-stack-here/models") / f"aspects-{content_version(repository / 'aspects' / '1')}"
    taken.parent.mkdir(parents=True)
    taken.write_text("a file")
    done = earful("cvib", "use", "own", "--to", str(repository))
    assert (done.code, str(taken) in done.sentence()) == (1, True)
    assert contents(repository) == before
    assert [path for path in contents(Path("no-stack-here/models")) if path.startswith("cvib")] == []
    taken.unlink()
    done = earful("cvib", "use", "own", "--to", str(repository))
    assert (done.code, done.out.count("what was there is in")) == (0, 2)
    for kind in ("cvib", "aspects"):
        assert content_version(repository / kind / "1") == content_version(Path("own") / kind)
    assert [path for path in contents(repository) if path.endswith(".partial")] == []


def test_use_refuses_what_is_no_model(repository: Path) -> None:
    Path("empty").mkdir()
    done = earful("cvib", "use", "empty", "--to", str(repository))
    assert (done.code, "holds no model" in done.sentence()) == (2, True)
