"""From a training folder to a serving folder: gates folded into LayerNorm, ONNX, int8 weights.

    python -m sentiment.export cvib    --from TRAINED --to model_repo/cvib/1 [--fp32]
    python -m sentiment.export aspects --from TRAINED --to model_repo/aspects/1

The folder holds model.onnx, tokenizer.json and model.json (kind, temperature, threshold, limits, version). `version` is
the first 12 hex digits of the SHA-256 over the other files, so equal weights have equal versions.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from sentiment.gates import Gates, fold
from sentiment.model import PolarityNet, TagNet, load_encoder, minilm_dir
from sentiment.report import report

__all__ = ["content_version", "folded", "load_polarity", "load_tags", "stamp", "to_onnx"]

MAX_TOKENS = 128


def load_polarity(folder: Path, source: str | Path) -> PolarityNet:
    """The trained network as it was trained, with its gates attached; eval mode."""
    state = load_file(folder / "model.safetensors")
    gated = any(key.startswith("gates.") for key in state)
    net = PolarityNet(load_encoder(source, pretrained=False), gated=gated, dropout=0.0)
    net.load_state_dict(state)
    return net.eval()


def folded(trained: PolarityNet, source: str | Path) -> PolarityNet:
    """An equal network without gates. In the dtype of the trained one: cast to float64 before, not after."""
    plain = PolarityNet(load_encoder(source, pretrained=False), gated=False, dropout=0.0)
    plain = plain.to(next(trained.parameters()).dtype)
    plain.load_state_dict({k: v for k, v in trained.state_dict().items() if not k.startswith("gates.")})
    if isinstance(trained.gates, Gates):
        fold(trained.gates, plain.encoder)
    return plain.eval()


def load_tags(folder: Path, source: str | Path) -> TagNet:
    """The trained extractor; eval mode."""
    net = TagNet(load_encoder(source, pretrained=False), dropout=0.0)
    net.load_state_dict(load_file(folder / "model.safetensors"))
    return net.eval()


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
    table.weight = nn.Parameter(table.weight[: MAX_TOKENS + offset + 1].clone())  # type: ignore[operator, index]


def content_version(folder: Path) -> str:
    """12 hex digits over the graph, the tokenizer and the settings (without the version itself)."""
    digest = hashlib.sha256()
    for name in ("model.onnx", "tokenizer.json"):
        digest.update((folder / name).read_bytes())
    settings = json.loads((folder / "model.json").read_text(encoding="utf-8"))
    settings.pop("version", None)
    digest.update(json.dumps(settings, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def stamp(config: Path, version: str) -> None:
    """Write the version into a model's config.pbtxt, from where it goes into every run."""
    text = config.read_text(encoding="utf-8")
    pattern = r'(key: "version" value \{ string_value: ")[^"]*'
    config.write_text(re.sub(pattern, rf"\g<1>{version}", text), encoding="utf-8")


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = source.with_name("prepared.onnx")
    quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
    quantize_dynamic(str(prepared), str(target), weight_type=QuantType.QInt8, per_channel=True)


def main() -> None:
    """Write a serving folder and print its version."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=("cvib", "aspects"))
    parser.add_argument("--from", dest="trained", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--encoder", type=Path, default=None)
    parser.add_argument("--threshold", type=float, default=0.5, help="least confidence of a span (aspects)")
    parser.add_argument("--fp32", action="store_true", help="keep fp32 weights")
    args = parser.parse_args()
    source = args.encoder or minilm_dir()
    record = json.loads((args.trained / "train.json").read_text(encoding="utf-8"))
    net: PolarityNet | TagNet
    if args.kind == "cvib":
        net = folded(load_polarity(args.trained, source), source)
    else:
        net = load_tags(args.trained, source)
    _trim_positions(net.encoder)
    args.to.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        graph = Path(temporary) / "fp32.onnx"
        to_onnx(net, graph)
        if args.fp32:
            shutil.copy(graph, args.to / "model.onnx")
        else:
            _quantise(graph, args.to / "model.onnx")
    shutil.copy(source / "tokenizer.json", args.to / "tokenizer.json")
    settings: dict[str, object] = {"kind": args.kind, "max_tokens": MAX_TOKENS, "temperature": record["temperature"]}
    if args.kind == "aspects":
        settings["threshold"] = args.threshold
    target = args.to / "model.json"
    target.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    settings["version"] = content_version(args.to)
    target.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    config = args.to.parent / "config.pbtxt"
    if config.exists():
        stamp(config, str(settings["version"]))
    report(settings)


if __name__ == "__main__":
    main()
