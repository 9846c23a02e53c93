"""The extractor trained on one benchmark: leaks, what it learns, what --choose does, and MPNet's tokenizer. Needs torch."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="torch is not in the product environment (docs/cvib.md)")
transformers = pytest.importorskip("transformers", reason="transformers is in the training environment only")

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers  # noqa: E402

from sentiment import in_domain  # noqa: E402
from sentiment.data import Sentence  # noqa: E402

NOUNS = ("screen", "fan", "keyboard", "battery", "lid", "hinge")
LIKED = ("lovely", "awful", "loud", "fine", "old", "new")
OTHERS = ("the", "is", "and", "we", "were", "there", "for", "days", "!")
NUMBERS = ("two", "three", "four", "five", "six", "seven", "eight", "nine")
SMALL = {
    "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64,
    "max_position_embeddings": 40,
}  # fmt: skip


def marked(text: str, term: str = "") -> str:
    at = text.find(term)
    aspect = f'<aspectTerm term="{term}" polarity="conflict" from="{at}" to="{at + len(term)}"/>' if term else ""
    return f"<sentence><text>{text}</text><aspectTerms>{aspect}</aspectTerms></sentence>"


@pytest.fixture(name="absa", scope="module")
def _absa(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A little LAP14 whose training set holds a sentence of its own test set and one of another set's, in other letters."""
    folder = tmp_path_factory.mktemp("absa")
    training = [marked(f"the {noun} is {liked}", noun) for noun in NOUNS for liked in LIKED[:4]]
    training += [marked(f"we were there for {n} {word}") for n in NUMBERS[:7] for word in ("days", *LIKED[:2])]
    test = [marked(f"the {noun} is {liked}", noun) for noun in NOUNS[:4] for liked in LIKED[4:]]
    test += [marked(f"we were there for nine {word}") for word in ("days", *LIKED[:2])]
    leaks = [marked("The FAN is new!", "FAN"), marked("we were there, and old")]
    other = marked("We were there and OLD", "")
    for place, sentences in {
        "semeval14_laptops/Laptop_Train.xml": [*training, *leaks], "semeval14_laptops/Laptops_Test.xml": test,
        "semeval14_restaurants/a_Test.xml": [other], "mams/ATSA/test.xml": [other],
        "semeval15_restaurants/a_Test.xml": [], "semeval16_restaurants/a_TEST.xml": [],
    }.items():  # fmt: skip
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(f"<sentences>{''.join(sentences)}</sentences>", encoding="utf-8")
    nothing = {"twitter/test.raw": "", "arts/rest_test_enriched.json": "{}", "arts/laptop_test_enriched.json": "{}"}
    for place, text in nothing.items():
        (folder / place).parent.mkdir(exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    return folder


def encoder(folder: Path, kind: str) -> Path:
    """A tiny BERT or MPNet with random weights, and a tokenizer with that kind's special tokens in its own order."""
    special = ["[PAD]", "[CLS]", "[SEP]"] if kind == "bert" else ["<s>", "<pad>", "</s>"]
    vocabulary = {word: n for n, word in enumerate([*special, "[UNK]", *NOUNS, *LIKED, *OTHERS, *NUMBERS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(0)
    size = {**SMALL, "vocab_size": len(vocabulary)}
    if kind == "bert":
        net = transformers.BertModel(transformers.BertConfig(**size))
    else:
        net = transformers.MPNetModel(transformers.MPNetConfig(**size))
    net.save_pretrained(folder)
    return folder


def run(absa: Path, source: Path, to: Path, monkeypatch: pytest.MonkeyPatch, *more: str) -> list[dict[str, object]]:
    arguments = ["--absa", str(absa), "--out", str(to / "out"), "--to", str(to / "results"), "--encoder", str(source)]
    arguments += ["--encoder-name", "tiny", "--set", "LAP14", "--epochs", "40", "--lr", "5e-3", "--quiet", *more]
    monkeypatch.setattr(sys, "argv", ["in_domain", *arguments])
    in_domain.main()
    return [json.loads(p.read_text(encoding="utf-8")) for p in sorted((to / "results").glob("*.json"))]


@pytest.mark.parametrize("kind", ["bert", "mpnet"])
def test_it_learns_the_set_without_the_leaks_and_is_not_trained_twice(
    kind: str, absa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = encoder(tmp_path, kind)
    [got] = run(absa, source, tmp_path, monkeypatch)
    assert got["cell"] == "lap14-tiny-e40-lr0.005-s0"
    assert (got["sentences"], got["without_aspect"], got["dropped_leaks"]) == (24 + 21, 21, 2)
    scores = got["sets"]["LAP14"]  # type: ignore[index]
    assert (scores["texts"], scores["spans"], scores["empty_texts"]) == (11.0, 8.0, 3.0), "conflict is an aspect here"
    assert scores["f1"] >= 0.9
    assert scores["false_span_rate"] == 0.0
    before = [p.stat().st_mtime_ns for p in tmp_path.rglob("*s0*/*")]
    assert before
    run(absa, source, tmp_path, monkeypatch)
    assert before == [p.stat().st_mtime_ns for p in tmp_path.rglob("*s0*/*")]


def test_a_recipe_is_chosen_without_a_test_set(
    absa: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(absa, encoder(tmp_path, "bert"), tmp_path, monkeypatch, "--choose", "--epochs", "2") == []
    rows = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line.startswith("{")]
    assert [row["epoch"] for row in rows] == [1, 2]
    assert all(0 < row["dev"]["texts"] < 45 for row in rows)


def test_a_tenth_is_held_out_and_equal_texts_stay_together() -> None:
    pool = [Sentence(text=f"Sentence {n // 2}{'.' * (n % 2)}", mentions=(), domain="x") for n in range(4000)]
    seen, dev = in_domain.held_out(pool)
    assert 0.08 < len(dev) / len(pool) < 0.13
    assert len(seen) + len(dev) == len(pool)
    assert {s.text.rstrip(".") for s in seen}.isdisjoint(s.text.rstrip(".") for s in dev)
