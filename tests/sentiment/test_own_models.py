"""From a user's labelled file to a serving folder, and int8 with fixed scales. Needs torch; runs in .venv-torch."""

from __future__ import annotations

import copy
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is in .venv-torch only")
transformers = pytest.importorskip("transformers", reason="transformers is in .venv-torch only")

import onnx  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402

from sentiment import own_training, tagger  # noqa: E402
from sentiment.batches import pair_batch, pairs  # noqa: E402
from sentiment.checkpoint import StaleCheckpoint  # noqa: E402
from sentiment.data import Mention, Sentence  # noqa: E402
from sentiment.encode import TextEncoder  # noqa: E402
from sentiment.export import to_int8  # noqa: E402
from sentiment.graph import ranges  # noqa: E402
from sentiment.labelled import read_labelled  # noqa: E402
from sentiment.model import PolarityNet, TagNet, load_encoder  # noqa: E402
from sentiment.own_training import Recipe, TooFewTexts, split, train_extractor, train_polarity  # noqa: E402
from sentiment.serve import AspectModel, PolarityModel  # noqa: E402
from sentiment.tagger import score  # noqa: E402
from tests.commands.runner import earful  # noqa: E402

torch.set_num_threads(1)

TOKENIZER = Path(__file__).parents[2] / "model_repo" / "cvib" / "1" / "tokenizer.json"


@pytest.fixture(name="encoder", scope="module")
def _encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny BERT with random weights and the real tokenizer."""
    folder = tmp_path_factory.mktemp("encoder")
    torch.manual_seed(0)
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=64, max_position_embeddings=160
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(folder)
    shutil.copy(TOKENIZER, folder / "tokenizer.json")
    return folder


@pytest.fixture(name="file")
def _file(tmp_path: Path) -> Path:
    """80 texts of two sentences: in one the kettle is good or bad, the other names nothing."""
    path = tmp_path / "kettles.jsonl"
    lines = []
    for n in range(80):
        word, polarity = ("wonderful", "positive") if n % 2 else ("terrible", "negative")
        text = f"We bought it on day {n}. The kettle from shop {n} is {word}."
        at = text.index("kettle")
        lines.append(json.dumps({"text": text, "aspects": [{"from": at, "to": at + 6, "polarity": polarity}]}))
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_file_becomes_two_serving_folders(file: Path, encoder: Path, tmp_path: Path) -> None:
    lines, out = read_labelled(file), tmp_path / "own"
    recipe = Recipe(epochs=2, source=encoder, with_ours=False, bar=False, threads=1)
    got = train_polarity(file, lines, out, recipe)
    model = PolarityModel(out / "cvib")
    assert model.version == got["version"]
    assert json.loads((out / "cvib" / "model.json").read_text())["input"] == "sentence"  # as what ships
    assert model.probabilities(lines[0].text, [(m.start, m.end) for m in lines[0].mentions]).shape == (1, 3)
    record = json.loads((out / "train" / "cvib" / "train.json").read_text())
    assert (set(record["files"]), record["dev"]) == ({"kettles.jsonl"}, sum(len(s.mentions) for s in split(lines)[1]))
    assert json.loads((out / "cvib" / "train.json").read_text()) == record  # `use` puts it beside the weights
    assert (record["select"], len(record["log"])) == ("last", 2)  # so few choose no epoch
    assert record["temperature"] >= 1.0
    assert train_extractor(file, lines, out, recipe)["version"] == AspectModel(out / "aspects").version
    assert train_polarity(file, lines, out, recipe)["version"] == got["version"]  # goes on from where it ended


@pytest.mark.timeout(300)
def test_the_command_trains_from_another_encoder(file: Path, encoder: Path, tmp_path: Path) -> None:
    """As somebody types it. What a name of a hub becomes is such a folder: tests/commands/test_encoder.py."""
    words = ["--no-ours", "--epochs", "1", "--out", str(tmp_path / "own"), "--json"]
    done = earful("cvib", "train", str(file), *words, "--encoder", str(encoder), "--device", "cpu")
    assert done.code == 0, done.err
    assert PolarityModel(tmp_path / "own" / "cvib").version == done.json()["cvib"]["version"]
    record = json.loads((tmp_path / "own" / "cvib" / "train.json").read_text())
    assert (record["encoder"], record["device"]) == (encoder.name, "cpu")
    weights = load_file(tmp_path / "own" / "train" / "cvib" / "model.safetensors")
    assert weights["encoder.embeddings.word_embeddings.weight"].shape[1] == 32, "not MiniLM"


@pytest.mark.skipif(torch.cuda.is_available(), reason="torch sees a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(file: Path) -> None:
    done = earful("cvib", "train", str(file), "--device", "cuda")
    assert (done.code, "torch sees no GPU" in done.sentence()) == (2, True)


@pytest.mark.parametrize(("least", "epoch"), [(150, "last"), (5, "best")])
def test_few_aspects_choose_no_epoch_of_the_extractor(
    least: int, epoch: str, file: Path, encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first epoch's score is made the better one: its network is kept only where enough aspects say so."""
    seen: list[TagNet] = []

    def worse_and_worse(net: TagNet, *_: object, **__: object) -> dict[str, float]:
        seen.append(copy.deepcopy(net))
        return {"f1": 1 / len(seen), "false_span_rate": 0.0}

    monkeypatch.setattr(own_training, "LEAST_TO_SELECT", least)
    monkeypatch.setattr(tagger, "score", worse_and_worse)
    recipe = Recipe(epochs=2, source=encoder, with_ours=False, bar=False, threads=1)
    assert train_extractor(file, read_labelled(file), tmp_path / "own", recipe)["epoch"] == epoch
    kept = load_file(tmp_path / "own" / "train" / "aspects" / "model.safetensors")
    wanted = seen[0 if epoch == "best" else 1].state_dict()
    assert all(torch.equal(kept[name], wanted[name]) for name in wanted)


def test_few_aspects_never_make_a_model_surer() -> None:
    logits, gold = np.array([[1.0, 0.0, 0.0]] * 40), np.zeros(40, np.int64)  # always right: surer would fit better
    assert own_training._temperature(logits, gold, 100) < 1.0
    assert own_training._temperature(logits, gold, 99) == 1.0


def test_an_extractors_training_does_not_go_on_with_another_encoder(file: Path, encoder: Path, tmp_path: Path) -> None:
    lines, out = read_labelled(file), tmp_path / "own"
    recipe = Recipe(epochs=1, source=encoder, bar=False, threads=1)
    train_extractor(file, lines, out, recipe)
    record = json.loads((out / "train" / "aspects" / "train.json").read_text())
    assert set(record["files"]) == {"kettles.jsonl", "own.txt"}
    other = tmp_path / "encoder"
    shutil.copytree(encoder, other)
    weights = load_file(other / "model.safetensors")
    save_file({name: tensor * 1.01 for name, tensor in weights.items()}, other / "model.safetensors")
    with pytest.raises(StaleCheckpoint, match="encoder"):
        train_extractor(file, lines, out, replace(recipe, source=other))


def test_an_aspect_behind_the_first_window_counts(encoder: Path) -> None:
    """The network tags every word as an aspect's beginning; a sentence of 300 words takes three windows."""
    net = TagNet(load_encoder(encoder), dropout=0.0)
    with torch.no_grad():
        net.head.weight.zero_()
        net.head.bias.copy_(torch.tensor([0.0, 3.0, 0.0]))
    words = [f"lid{n}" if n == 250 else "so" for n in range(300)]
    text = " ".join(words)
    at = text.index("lid250")
    long = Sentence(text=text, mentions=(Mention(start=at, end=at + 6, polarity="neutral"),), domain="x")
    empty = Sentence(text=" ", mentions=(), domain="x")
    tokens = TextEncoder.load(TOKENIZER)
    got = score(net, [long, empty], tokens)
    assert (got["recall"], got["texts"], got["false_span_rate"]) == (1.0, 2.0, 0.0)
    least = 0.99 * (1 - 1 / (2 + np.e**3))  # a little below 1 - P(O) of every word
    assert score(net, [long], tokens, threshold=least)["recall"] == 1.0
    assert score(net, [long], tokens, temperature=2.0, threshold=least)["recall"] == 0.0


def test_equal_texts_never_stand_on_both_sides(file: Path) -> None:
    train, dev = split(read_labelled(file))
    assert 5 <= len(dev) <= 60
    alike = read_labelled(file)[:1]
    with pytest.raises(TooFewTexts):
        split(alike)
    assert not {s.text for s in train if s.mentions} & {s.text for s in dev if s.mentions}


KETTLE = "The kettle is wonderful, the lid is loose, and the cord that came with it was far too short for me."
CORDS = "one cord is short, the other cord is long"
LID_AND_FAN = f"the lid sticks {'and so on ' * 60}but the fan hums"  # too long for one window


@pytest.mark.parametrize(("read", "passes"), [("pair", 8), ("sentence", 5)])
def test_fixed_scales_answer_like_the_network_and_alike_in_any_company(
    read: str, passes: int, encoder: Path, tmp_path: Path
) -> None:
    """Aspects of equal tokens share a pass: all of a sentence that is read alone, in a pair a word that is said twice."""
    torch.manual_seed(1)
    net = PolarityNet(load_encoder(encoder), dropout=0.0).eval()
    with torch.no_grad():
        net.head[4].weight.mul_(30)  # logits far enough apart to compare
    tokens, second = TextEncoder.load(TOKENIZER), read == "pair"
    assert to_int8(net, tokens, tmp_path / "model.onnx", second=second)
    shutil.copy(TOKENIZER, tmp_path / "tokenizer.json")
    settings = {
        "kind": "cvib",
        "max_tokens": 128,
        "temperature": 1.0,
        "fixed_scales": True,
        "version": "x",
        "input": read,
    }
    (tmp_path / "model.json").write_text(json.dumps(settings))
    model = PolarityModel(tmp_path)
    texts = {
        KETTLE: [(4, 10), (29, 32), (51, 55), (4, 32)],
        CORDS: [(4, 8), (29, 33)],
        LID_AND_FAN: [(4, 7), (LID_AND_FAN.index("fan"), LID_AND_FAN.index("fan") + 3)],
        "the cord is short": [(4, 8)],
    }
    encoded = [pair for text, spans in texts.items() for pair in model.pairs(text, spans)]
    together = model.judge(encoded)
    assert np.array_equal(together, np.concatenate([model.judge([pair]) for pair in encoded]))
    assert np.array_equal(together[::-1], model.judge(encoded[::-1]))
    assert len(model._passes(encoded)) == passes
    with torch.inference_mode():
        logits = torch.cat(
            [
                net(*pair_batch([_pair(tokens, text, span, second=second)], 0).inputs)[0]
                for text, spans in texts.items()
                for span in spans
            ]
        )
    expected = torch.softmax(logits, -1).numpy()
    assert np.abs(together - expected).max() < 0.05
    assert np.abs(expected[:, None] - expected[None]).max() > 0.2  # so that a mix-up shows
    _without_places(tmp_path / "model.onnx")
    assert np.array_equal(PolarityModel(tmp_path).judge(encoded), together)


def _without_places(path: Path) -> None:
    """The graph as it was exported before aspects shared a pass; what `cvib use` once put aside has it."""
    model = onnx.load(str(path))
    nodes, inputs = model.graph.node, model.graph.input
    [gather] = [node for node in nodes if "places" in node.input]
    [reshape] = [node for node in nodes if gather.input[0] in node.output]
    for node in nodes:
        node.input[:] = [reshape.input[0] if name == gather.output[0] else name for name in node.input]
    nodes.remove(gather)
    nodes.remove(reshape)
    [places] = [one for one in inputs if one.name == "places"]
    inputs.remove(places)
    onnx.save(model, str(path))


def test_rare_values_set_no_range() -> None:
    """One value of 50,000 in every text, and one text of 100, are far out."""
    torch.manual_seed(0)
    texts = [torch.rand(500, 100) * 2 - 1 for _ in range(100)]
    for text in texts:
        text[7, 7] = 1e3
    texts[40] = -1e3 * torch.rand(500, 100)
    ((low, high),) = ranges(torch.nn.Sequential(torch.nn.Linear(100, 2)), [(text,) for text in texts]).values()  # type: ignore[arg-type]
    assert (low, high) == (pytest.approx(-1, abs=0.01), pytest.approx(1, abs=0.01))
    ((low, _),) = ranges(torch.nn.Sequential(torch.nn.Linear(100, 2)), [(texts[0].abs() + 1,)]).values()  # type: ignore[arg-type]
    assert low == 0.0  # zero is always inside: padding is exact


def test_an_encoder_that_is_not_quite_berts_gets_other_scales_not_an_error(tmp_path: Path) -> None:
    config = transformers.BertConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=64, hidden_act="relu"
    )
    transformers.BertModel(config, add_pooling_layer=False).save_pretrained(tmp_path)
    net = TagNet(load_encoder(tmp_path), dropout=0.0)
    assert not to_int8(net, TextEncoder.load(TOKENIZER), tmp_path / "model.onnx")
    assert (tmp_path / "model.onnx").is_file()


def _pair(tokens: TextEncoder, text: str, span: tuple[int, int], *, second: bool):  # type: ignore[no-untyped-def]
    mention = Mention(start=span[0], end=span[1], polarity="neutral")
    return pairs([Sentence(text=text, mentions=(mention,), domain="x")], tokens, second=second)[0]
