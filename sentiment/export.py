"""From a training folder to a serving folder: gates folded into LayerNorm, ONNX, int8.

    python -m sentiment.export cvib    --from TRAINED --to model_repo/cvib/1 [--fp32]
    python -m sentiment.export aspects --from TRAINED --to model_repo/aspects/1

The folder holds model.onnx, tokenizer.json and model.json (kind, temperature, threshold, limits, fixed_scales, version).
`version` is the first 12 hex digits of the SHA-256 over the other files, so equal weights have equal versions.
int8 of a BERT encoder with gelu has fixed scales (graph.py), found on our own sentences; another gets dynamic ones.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sentiment.batches import pair_batch, pairs, tag_batch, tagged
from sentiment.corpora import HELD_OUT_DOMAINS, OWN
from sentiment.data import read_own
from sentiment.encode import TextEncoder
from sentiment.folder import content_version, stamp
from sentiment.gates import Gates, fold
from sentiment.graph import ranges, write_int8
from sentiment.model import PolarityNet, TagNet, load_encoder, load_polarity, minilm_dir
from sentiment.report import report

__all__ = ["THRESHOLD", "export", "folded", "load_tags", "to_int8", "to_onnx"]

MAX_TOKENS = 128
THRESHOLD = 0.5  # least confidence of a span, where nobody chose one


def folded(trained: PolarityNet, source: str | Path) -> PolarityNet:
    """An equal network without gates. In the dtype of the trained one: cast to float64 before, not after."""
    plain = PolarityNet(load_encoder(source, pretrained=False), dropout=0.0)
    plain.to(next(trained.parameters()).dtype)
    plain.load_state_dict({k: v for k, v in trained.state_dict().items() if not k.startswith("gates.")})
    if isinstance(trained.gates, Gates):
        fold(trained.gates, plain.encoder)
    plain.eval()
    return plain


def load_tags(folder: Path, source: str | Path) -> TagNet:
    """The trained extractor; eval mode."""
    net = TagNet(load_encoder(source, pretrained=False), dropout=0.0)
    net.load_state_dict(load_file(folder / "model.safetensors"))
    net.eval()
    return net


class _Logits(nn.Module):
    """Only the logits, so that the graph has one output."""

    def __init__(self, net: PolarityNet) -> None:
        super().__init__()
        self.net = net

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor, aspect: Tensor) -> Tensor:
        logits: Tensor = self.net(ids, mask, types, aspect)[0]
        return logits


def to_onnx(net: PolarityNet | TagNet, path: Path) -> None:
    """An fp32 graph with free batch and length. Inputs int64: ids, mask (and types, aspect); output: logits."""
    names = ["ids", "mask"] if isinstance(net, TagNet) else ["ids", "mask", "types", "aspect"]
    module = (net if isinstance(net, TagNet) else _Logits(net)).eval()  # the tracer restores the mode it found
    ids = torch.tensor([[1, 9, 8, 2, 8, 2], [1, 9, 7, 6, 2, 0]])
    mask = (ids > 0).long()
    aspect = torch.zeros_like(ids)
    aspect[:, 2] = 1
    example = {"ids": ids, "mask": mask, "types": torch.zeros_like(ids), "aspect": aspect}
    axes = {name: {0: "batch", 1: "tokens"} for name in names}
    axes["logits"] = {0: "batch", 1: "tokens"} if isinstance(net, TagNet) else {0: "batch"}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's own deprecation notes
        torch.onnx.export(
            module, tuple(example[n] for n in names), str(path), input_names=names, output_names=["logits"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
        )  # fmt: skip


@torch.no_grad()
def _trim_positions(encoder: nn.Module) -> None:
    """Drop the position vectors that no input of MAX_TOKENS reaches (MiniLM has 512: 0.15 MB in int8)."""
    table = encoder.get_submodule("embeddings.position_embeddings")
    offset = int(getattr(table, "padding_idx", None) or 0)  # MPNet counts positions from padding_idx + 1
    table.weight = nn.Parameter(table.weight[: MAX_TOKENS + offset + 1].clone())


def _calibration(net: PolarityNet | TagNet, encoder: TextEncoder, *, second: bool) -> list[tuple[Tensor, ...]]:
    """Inputs of some of our own sentences, one at a time: about 400 sentences, or their aspects."""
    own = [s for s in read_own(OWN) if s.domain not in HELD_OUT_DOMAINS]
    chosen = own[:: max(1, len(own) // 400)]
    if isinstance(net, PolarityNet):
        return [pair_batch([pair], encoder.pad_id).inputs for pair in pairs(chosen, encoder, second=second)]
    batches = [tag_batch([one], encoder.pad_id) for one in tagged(chosen, encoder)]
    return [(batch.ids, batch.mask) for batch in batches]


def to_int8(net: PolarityNet | TagNet, encoder: TextEncoder, target: Path, *, second: bool = True) -> bool:
    """Write an int8 graph; True if its scales are fixed, so that texts may share a batch. `second`: as of TextEncoder.pair."""
    config = net.encoder.config
    if config.model_type == "bert" and config.hidden_act == "gelu":  # what graph.py writes
        write_int8(net, ranges(net, _calibration(net, encoder, second=second)), target)
        return True
    with tempfile.TemporaryDirectory() as temporary:
        graph = Path(temporary) / "fp32.onnx"
        to_onnx(net, graph)
        _quantise(graph, target)
    return False


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8, per_channel=True)


def export(
    kind: str, trained: Path, target: Path, source: Path, *, threshold: float = THRESHOLD, fp32: bool = False
) -> dict[str, object]:
    """Write a serving folder and return its settings. `kind`: cvib or aspects; `source`: the encoder's folder."""
    record = json.loads((trained / "train.json").read_text(encoding="utf-8"))
    net: PolarityNet | TagNet
    net = folded(load_polarity(trained, source), source) if kind == "cvib" else load_tags(trained, source)
    _trim_positions(net.encoder)
    target.mkdir(parents=True, exist_ok=True)
    fixed = False
    if fp32:
        to_onnx(net, target / "model.onnx")
    else:
        encoder = TextEncoder.load(source / "tokenizer.json", MAX_TOKENS)
        second = record.get("config", {}).get("input", "pair") == "pair"
        fixed = to_int8(net, encoder, target / "model.onnx", second=second)
    shutil.copyfile(source / "tokenizer.json", target / "tokenizer.json")
    settings: dict[str, object] = {"kind": kind, "max_tokens": MAX_TOKENS, "temperature": record["temperature"]}
    if fixed:
        settings["fixed_scales"] = True
    if record.get("config", {}).get("input", "pair") != "pair":
        settings["input"] = record["config"]["input"]
    if kind == "aspects":
        settings["threshold"] = threshold
    path = target / "model.json"
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    settings["version"] = content_version(target)
    path.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    return settings


def main() -> None:
    """Write a serving folder and print its version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=("cvib", "aspects"))
    parser.add_argument("--from", dest="trained", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--threshold", type=float, default=THRESHOLD, help="least confidence of a span; default: 0.5")
    parser.add_argument("--fp32", action="store_true", help="keep fp32 weights")
    args = parser.parse_args()
    source = args.encoder or minilm_dir()
    settings = export(args.kind, args.trained, args.to, source, threshold=args.threshold, fp32=args.fp32)
    config = args.to.parent / "config.pbtxt"
    if config.exists():
        stamp(config, str(settings["version"]))
    report(settings)


if __name__ == "__main__":
    main()
