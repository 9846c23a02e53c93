"""Gates, losses, folding, training steps. Needs torch, which the product's environment does not have."""

from __future__ import annotations

import copy
import random
import re
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip(
    "torch", reason="torch is not in the product environment; run these in .venv-torch (docs/cvib.md)"
)
transformers = pytest.importorskip("transformers", reason="transformers is in .venv-torch only")

from safetensors.torch import save_file  # noqa: E402

from bench import cvib_input  # noqa: E402
from sentiment.batches import length_batches, pair_batch, pairs  # noqa: E402
from sentiment.data import Mention, Sentence  # noqa: E402
from sentiment.encode import TextEncoder  # noqa: E402
from sentiment.export import folded, to_onnx  # noqa: E402
from sentiment.gates import Gates, VIBGate, fold, last_layer_norms, places  # noqa: E402
from sentiment.losses import self_contrast  # noqa: E402
from sentiment.model import PolarityNet, TagNet, load_polarity  # noqa: E402
from sentiment.predict import MODEL_REPO  # noqa: E402
from sentiment.train import PRESETS, Config, predict_logits, step_loss  # noqa: E402

torch.set_num_threads(1)  # tiny nets: a second thread only waits

CONFIG = {
    "model_type": "bert", "vocab_size": 3000, "hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4,
    "intermediate_size": 64, "max_position_embeddings": 160,
}  # fmt: skip


@pytest.fixture(name="source", scope="module")
def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    transformers.BertConfig(**CONFIG).save_pretrained(folder)
    return folder


def net(source: Path, *, gated: bool, seed: int = 0, where: str = "all") -> PolarityNet:
    from sentiment.model import load_encoder

    torch.manual_seed(seed)
    gates = places(where, 3) if gated else ()
    made = PolarityNet(load_encoder(source, pretrained=False), gates=gates, dropout=0.0)
    with (
        torch.no_grad()
    ):  # as if trained: untrained norms have bias 0, and nothing could tell whether a gate reached it
        for norm in made.modules():
            if isinstance(norm, torch.nn.LayerNorm):
                norm.weight.normal_(1.0, 0.2)
                norm.bias.normal_(0.0, 0.2)
        for gate in made.gates.each() if made.gates is not None else ():  # some channels pruned, the others scaled
            gate.mu.normal_(1.0, 0.5)
            gate.log_d.uniform_(-6, 2)
    return made


def batch(n: int = 6, length: int = 12, seed: int = 1) -> tuple[torch.Tensor, ...]:
    torch.manual_seed(seed)
    ids = torch.randint(5, 3000, (n, length))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    aspect = torch.zeros_like(ids)
    aspect[:, 2:4] = 1
    return ids, mask, torch.zeros_like(ids), aspect


def test_gate_by_hand() -> None:
    gate = VIBGate(3)
    with torch.no_grad():
        gate.mu.copy_(torch.tensor([2.0, 0.5, -1.0]))
        gate.log_d.copy_(torch.tensor([0.0, 0.0, -3.0]))  # variances 1, 1, 0.05 against mu^2 of 4, 0.25, 1
    gate.eval()
    assert gate.keep().tolist() == [True, False, True]
    assert gate(torch.ones(1, 2, 3)).tolist() == [[[2.0, 0.0, -1.0]] * 2]
    expected = [0.5 * np.log1p(4 / 1), 0.5 * np.log1p(0.25), 0.5 * np.log1p(1 / np.exp(-3))]
    assert gate.kl().tolist() == pytest.approx(expected, rel=1e-5)


def test_one_draw_per_example_shared_by_its_tokens() -> None:
    gate = VIBGate(8)
    with torch.no_grad():
        gate.log_d.fill_(0.0)
    out = gate(torch.ones(4, 5, 8))
    assert torch.equal(out[:, 0], out[:, 4])
    assert not torch.equal(out[0], out[1])


def test_kl_weighs_real_length() -> None:
    gates = Gates(range(2), 4)
    one = gates.kl(torch.tensor([3, 5]), per_channel=False)
    total = sum(float(g.kl().sum().detach()) for g in gates.each())
    assert float(one.detach()) == pytest.approx(4 * total, rel=1e-5)
    assert float(gates.kl(torch.tensor([3, 5]), per_channel=True).detach()) == pytest.approx(total / 8, rel=1e-5)


@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("aware", [False, True])
def test_contrast_against_the_formula(symmetric: bool, aware: bool) -> None:
    rng = np.random.default_rng(0)
    a, b, y, tau = rng.normal(size=(5, 7)), rng.normal(size=(5, 7)), [0, 1, 0, 2, 1], 0.25

    def direction(u: np.ndarray, v: np.ndarray) -> float:
        terms = []
        for i in range(5):
            cosines = [float(u[i] @ v[j] / np.linalg.norm(u[i]) / np.linalg.norm(v[j])) for j in range(5)]
            seen = [j for j in range(5) if j == i or not (aware and y[i] == y[j])]
            terms.append(-np.log(np.exp(cosines[i] / tau) / sum(np.exp(cosines[j] / tau) for j in seen)))
        return float(np.mean(terms))

    expected = (direction(a, b) + direction(b, a)) / 2 if symmetric else direction(a, b)
    labels = torch.tensor(y) if aware else None
    got = self_contrast(torch.tensor(a), torch.tensor(b), tau=tau, labels=labels, symmetric=symmetric)
    assert float(got) == pytest.approx(expected, rel=1e-5)


def test_contrast_is_computed_in_float32_where_the_networks_are_not() -> None:
    rng = np.random.default_rng(0)
    a = torch.tensor(rng.normal(size=(8, 16)), dtype=torch.float32)
    b = a + torch.tensor(0.01 * rng.normal(size=(8, 16)), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = self_contrast(a, b, tau=0.05)
    assert float(got) == float(self_contrast(a, b, tau=0.05))


def test_twins_of_one_seed_begin_with_the_same_head(source: Path) -> None:
    from sentiment.model import load_encoder

    heads = []
    for gates in ((), (0, 1)):
        torch.manual_seed(5)
        heads.append(PolarityNet(load_encoder(source, pretrained=False), gates=gates, dropout=0.0).head.state_dict())
    assert all(torch.equal(heads[0][name], heads[1][name]) for name in heads[0])


def test_gradients_reach_the_right_network_only(source: Path) -> None:
    main, sub = net(source, gated=False), net(source, gated=True)
    inputs = batch()
    h_sub, h_main = sub(*inputs)[1], main(*inputs)[1]
    self_contrast(h_sub, h_main.detach(), tau=0.1).backward(retain_graph=True)
    assert all(p.grad is None for p in main.parameters())
    assert any(p.grad is not None for p in sub.parameters())
    sub.zero_grad(set_to_none=True)
    self_contrast(h_sub.detach(), h_main, tau=0.1).backward()
    assert all(p.grad is None for p in sub.parameters())


def gradients(net: PolarityNet) -> dict[str, torch.Tensor]:
    return {name: p.grad.clone() for name, p in net.named_parameters() if p.grad is not None}


def test_a_step_gives_each_network_the_gradients_of_its_own_loss(source: Path) -> None:
    """L_main = CE + a SCL(sub fixed), L_sub = CE + b KL + a SCL(main fixed): not what the other's loss would add."""
    main, sub = net(source, gated=False).eval(), net(source, gated=True).eval()  # eval: no noise between the two ways
    labels, inputs, config = torch.tensor([0, 1, 2, 0, 1, 2]), batch(), Config(**PRESETS["improved"])
    assert sub.gates is not None
    step_loss(main, sub, inputs, labels, config).backward()
    got = gradients(main), gradients(sub)
    main.zero_grad(set_to_none=True)
    sub.zero_grad(set_to_none=True)
    (main_logits, h_main), (sub_logits, h_sub) = main(*inputs), sub(*inputs)
    rules = {"tau": config.tau, "labels": labels, "symmetric": True}
    kl = sub.gates.kl(inputs[1].sum(1), per_channel=True)
    cross_entropy = torch.nn.functional.cross_entropy
    (cross_entropy(main_logits, labels) + config.contrast * self_contrast(h_sub.detach(), h_main, **rules)).backward()
    l_sub = cross_entropy(sub_logits, labels) + config.kl * kl
    (l_sub + config.contrast * self_contrast(h_sub, h_main.detach(), **rules)).backward()
    for one, other in zip(got, (gradients(main), gradients(sub)), strict=True):
        assert one.keys() == other.keys()
        assert all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-7) for name in one)
    assert all(g.mu.grad is not None and g.log_d.grad is not None for g in sub.gates.each())


def test_in_a_shared_trunk_mains_pass_leaves_the_gates_out(source: Path) -> None:
    sub, alone = net(source, gated=True).eval(), net(source, gated=False).eval()
    alone.encoder.load_state_dict(sub.encoder.state_dict())
    main = PolarityNet(sub.encoder, dropout=0.0).eval()
    main.head.load_state_dict(alone.head.state_dict())
    config, labels = Config(contrast=0.0, kl=0.0), torch.tensor([0, 1, 2, 0, 1, 2])
    with torch.inference_mode():
        expected = step_loss(alone, sub, batch(), labels, config)
        assert torch.allclose(step_loss(main, sub, batch(), labels, config), expected)
        assert not torch.allclose(main(*batch())[0], alone(*batch())[0])  # the gates are there again


def test_the_pressure_scales_the_bottleneck_alone(source: Path) -> None:
    sub, labels, config = net(source, gated=True).eval(), torch.tensor([0, 1, 2, 0, 1, 2]), Config(kl=1e-3)
    assert sub.gates is not None
    with torch.inference_mode():
        whole, half, none = (float(step_loss(None, sub, batch(), labels, config, p)) for p in (1.0, 0.5, 0.0))
        kl = float(sub.gates.kl(batch()[1].sum(1), per_channel=False))
    assert none == pytest.approx(float(torch.nn.functional.cross_entropy(sub(*batch())[0], labels).detach()), rel=1e-5)
    assert (whole - none, half - none) == (pytest.approx(1e-3 * kl, rel=1e-3), pytest.approx(5e-4 * kl, rel=1e-3))


@pytest.mark.parametrize(("where", "layers"), [("all", 3), ("lower", 1), ("upper", 2), ("last", 1)])
def test_gates_sit_where_they_were_trained_also_after_loading(
    where: str, layers: int, source: Path, tmp_path: Path
) -> None:
    trained = net(source, gated=True, where=where).eval()
    save_file(trained.state_dict(), tmp_path / "model.safetensors")
    loaded = load_polarity(tmp_path, source)
    assert loaded.gates is not None
    assert len(loaded.gates.prune_rates()) == layers
    with torch.inference_mode():
        expected = trained(*batch())[1]
        assert torch.equal(loaded(*batch())[1], expected)
        assert torch.allclose(folded(loaded, source)(*batch())[1], expected, atol=1e-4)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
def test_folded_equals_gated(source: Path, dtype: str, tolerance: float) -> None:
    gated = net(source, gated=True).to(getattr(torch, dtype)).eval()
    plain = folded(gated, source)
    assert plain.gates is None
    with torch.inference_mode():
        a, b = gated(*batch()), plain(*batch())
    assert float((a[1] - b[1]).abs().max()) < tolerance * max(1.0, float(a[1].abs().max()))
    assert torch.equal(a[0].argmax(1), b[0].argmax(1))


def test_folding_where_gates_are_attached_is_refused(source: Path) -> None:
    gated = net(source, gated=True)
    assert gated.gates is not None
    with pytest.raises(ValueError, match="twice"):
        fold(gated.gates, gated.encoder)


def test_gates_sit_behind_every_layer(source: Path) -> None:
    assert len(last_layer_norms(net(source, gated=False).encoder)) == 3


def test_a_prediction_does_not_depend_on_batch_mates(source: Path) -> None:
    model = net(source, gated=True).eval()
    ids, mask, types, aspect = batch()
    with torch.inference_mode():
        together = model(ids, mask, types, aspect)[0]
        alone = torch.cat(
            [model(*(t[i : i + 1, : int(mask[i].sum())] for t in (ids, mask, types, aspect)))[0] for i in range(6)]
        )
    assert torch.allclose(together, alone, atol=1e-5)


SCREENS = "The screen is bright, but the screen of the lid cracks and its hinge is loud."
LONG = "The lid shuts. " + "It was so very good that day. " * 40 + "The fan hums and the cord is short."


def mentions(text: str, *aspects: tuple[str, int]) -> Sentence:
    """Each aspect as its words and which of their occurrences is meant, from 0."""
    found = []
    for words, which in aspects:
        start = [m.start() for m in re.finditer(words, text)][which]
        found.append(Mention(start=start, end=start + len(words), polarity="neutral"))
    return Sentence(text=text, mentions=tuple(found), domain="x")


@pytest.mark.parametrize(("second", "rows"), [(False, 4), (True, 8)])
def test_aspects_of_equal_tokens_share_one_pass_of_the_encoder(second: bool, rows: int, tmp_path: Path) -> None:
    """With sentence input all aspects of a sentence, save where it is too long for one window; in a pair a word said twice."""
    transformers.BertConfig(**{**CONFIG, "vocab_size": 30522}).save_pretrained(tmp_path)
    model, tokens = net(tmp_path, gated=True).eval(), TextEncoder.load(MODEL_REPO / "cvib" / "1" / "tokenizer.json")
    sentences = [
        mentions(SCREENS, ("screen", 0), ("lid", 0), ("screen", 1), ("screen of the lid", 0), ("hinge", 0)),
        mentions(LONG, ("lid", 0), ("fan", 0), ("cord", 0)),
        mentions("A fine hinge.", ("hinge", 0)),
    ]
    examples, read = pairs(sentences, tokens, second=second), list[int]()
    with torch.inference_mode():
        alone = torch.cat([model(*pair_batch([one], tokens.pad_id).inputs)[0] for one in examples]).numpy()
    model.encoder.register_forward_pre_hook(lambda _, __, given: read.append(len(given["input_ids"])), with_kwargs=True)
    for size in (1, 64):
        assert np.abs(predict_logits(model, examples, tokens.pad_id, size) - alone).max() < 1e-5
        assert sum(read) == rows
        read.clear()
    assert np.abs(alone[:, None] - alone[None])[~np.eye(len(alone), dtype=bool)].max(axis=-1).min() > 1e-3


def test_the_speed_of_both_inputs_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, terms = tmp_path / "mams" / "ATSA", ""
    for m in mentions(SCREENS, ("screen", 0), ("lid", 0), ("screen", 1)).mentions:
        terms += f'<aspectTerm term="{SCREENS[m.start : m.end]}" polarity="neutral" from="{m.start}" to="{m.end}"/>'
    folder.mkdir(parents=True)
    one = f"<sentence><text>{SCREENS}</text><aspectTerms>{terms}</aspectTerms></sentence>"
    (folder / "test.xml").write_text(f"<sentences>{one}</sentences>")
    monkeypatch.setattr("sys.argv", ["cvib_input", "--absa", str(tmp_path), "--rounds", "1"])
    cvib_input.main()
    told = capsys.readouterr().out
    assert told.startswith("3 pairs of 1 sentences")
    assert told.count("a CPU second") == 5


def test_same_seed_same_weights(source: Path) -> None:
    def trained() -> dict[str, torch.Tensor]:
        sub, main = net(source, gated=True).train(), net(source, gated=False).train()
        optimizer = torch.optim.AdamW([*sub.parameters(), *main.parameters()], lr=1e-3)
        torch.manual_seed(3)
        for step in range(3):
            optimizer.zero_grad()
            step_loss(main, sub, batch(seed=step), torch.tensor([0, 1, 2, 0, 1, 2]), Config()).backward()
            optimizer.step()
        return copy.deepcopy(sub.state_dict())

    first, second = trained(), trained()
    assert all(torch.equal(first[k], second[k]) for k in first)


def test_noise_channels_are_pruned_and_label_channels_kept() -> None:
    torch.manual_seed(0)
    gate, head = VIBGate(8), torch.nn.Linear(8, 2)
    optimizer = torch.optim.Adam([{"params": gate.parameters(), "lr": 0.03}, {"params": head.parameters(), "lr": 0.01}])
    for _ in range(700):
        y = torch.randint(0, 2, (64,))
        x = torch.randn(64, 1, 8)
        x[:, 0, 0] = (y * 2 - 1).float() * 3
        loss = torch.nn.functional.cross_entropy(head(gate(x)[:, 0]), y) + 0.05 * gate.kl().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert gate.keep().tolist() == [True] + [False] * 7


def test_length_batches_hold_every_index_once() -> None:
    lengths = [random.Random(0).randint(3, 40) for _ in range(1000)]
    for rng in (None, random.Random(1)):
        chunks = list(length_batches(lengths, 32, rng))
        assert sorted(i for c in chunks for i in c) == list(range(1000))
        assert max(len(c) for c in chunks) == 32


@pytest.mark.filterwarnings("ignore")  # the tracer warns about its own deprecation
def test_onnx_answers_like_torch(source: Path, tmp_path: Path) -> None:
    ort = pytest.importorskip("onnxruntime")
    model = net(source, gated=False).eval()
    to_onnx(model, tmp_path / "net.onnx")
    session = ort.InferenceSession(str(tmp_path / "net.onnx"), providers=["CPUExecutionProvider"])
    for length in (6, 12, 31):
        inputs = batch(n=3, length=length)
        with torch.inference_mode():
            expected = model(*inputs)[0].numpy()
        names = ("ids", "mask", "types", "aspect")
        got = session.run(None, {k: v.numpy() for k, v in zip(names, inputs, strict=True)})[0]
        assert np.abs(got - expected).max() < 1e-5
    tags = TagNet(model.encoder, dropout=0.0).eval()
    to_onnx(tags, tmp_path / "tags.onnx")
    session = ort.InferenceSession(str(tmp_path / "tags.onnx"), providers=["CPUExecutionProvider"])
    ids, mask, _, _ = batch(n=2, length=17)
    with torch.inference_mode():
        expected = tags(ids, mask).numpy()
    assert np.abs(session.run(None, {"ids": ids.numpy(), "mask": mask.numpy()})[0] - expected).max() < 1e-5


def test_mpnet_trains_and_folds_like_bert(tmp_path: Path) -> None:
    """MPNet has no token types, pads with 1 and counts positions from 2: nothing of BERT's may be assumed."""
    small = {k: v for k, v in CONFIG.items() if k != "model_type"}
    transformers.MPNetConfig(**small).save_pretrained(tmp_path)
    gated = net(tmp_path, gated=True)
    ids, mask, types, aspect = batch()
    ids = ids.masked_fill(mask == 0, 1)
    inputs = (ids, mask, types, aspect)
    step_loss(net(tmp_path, gated=False), gated, inputs, torch.tensor([0, 1, 2, 0, 1, 2]), Config()).backward()
    assert gated.gates is not None
    assert all(g.mu.grad is not None for g in gated.gates.each())
    gated.eval()
    with torch.inference_mode():
        a, b = gated(*inputs), folded(gated, tmp_path)(*inputs)
        alone = gated(*(t[1:2, :7] for t in inputs))
    assert float((a[1] - b[1]).abs().max()) < 1e-5 * max(1.0, float(a[1].abs().max()))
    assert torch.allclose(a[0][1:2], alone[0], atol=1e-5)
