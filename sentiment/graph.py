"""A BERT encoder as an int8 ONNX graph whose scales are fixed when it is exported, so that no answer depends on its batch.

Weights: int8, one scale per output channel, 7 bits of range (without VNNI, u8 x s8 products of 8 bits saturate).
Activations: uint8, one scale and zero point per matrix product, from the ranges seen on calibration texts (`ranges`).
Attention's own products, LayerNorm, GELU and the residual path stay in fp32. The polarity model's last layer is computed
for the tokens that are read alone ([CLS] and the aspects'), which changes nothing in them and saves a tenth of the work.

Inputs int64: ids, mask [batch, tokens]. The polarity model also takes types [batch, tokens], rows [batch, read] (the tokens
that are read), places [aspects, most] (of each aspect: its [CLS], then its tokens, counted through all `rows`), and fp32
weight [aspects, most]: h = [sum of weight * place ; place 0]. So the aspects of one sentence share one pass of the encoder.
Output: logits [aspects, 3], or [batch, tokens, 3] of tags.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from sentiment.model import PolarityNet, TagNet

__all__ = ["Ranges", "ranges", "write_int8"]

Ranges = dict[str, tuple[float, float]]
Floats = NDArray[np.float32]

WEIGHT_LIMIT = 63  # 7 bits
VALUES, TEXTS = 0.9999, 0.98  # as `ranges` says
EXTRA = "com.microsoft"  # onnxruntime's own operators


@contextmanager
def _watched(net: nn.Module, seen: dict[str, list[tuple[float, float]]]) -> Iterator[None]:
    def watch(name: str) -> Callable[..., None]:
        def look(module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            low, high = torch.quantile(inputs[0].flatten(), torch.tensor([1 - VALUES, VALUES])).tolist()
            seen[name].append((low, high))

        return look

    hooks = [m.register_forward_pre_hook(watch(n)) for n, m in net.named_modules() if isinstance(m, nn.Linear)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@torch.inference_mode()
def ranges(net: PolarityNet | TagNet, texts: Sequence[tuple[Tensor, ...]]) -> Ranges:
    """The range of every linear layer's input, without what is rare; each text is what the network takes, unpadded.

    Of each text the middle 99.98 % of the values, of all texts' least and greatest the middle 96 %. Nearest to fp32 of seven
    ways tried, on the selection set; the very least and greatest cost half a point more on MAMS test (docs/cvib.md).
    """
    seen: dict[str, list[tuple[float, float]]] = defaultdict(list)
    with _watched(net.eval(), seen):
        for inputs in texts:
            net(*inputs)
    found = {}
    for name, each in seen.items():
        low, high = (np.array(side) for side in zip(*each, strict=True))
        found[name] = (min(0.0, float(np.quantile(low, 1 - TEXTS))), max(0.0, float(np.quantile(high, TEXTS))))
    return found


class _Graph:
    """Collects nodes and weights; methods return the name of what they compute."""

    def __init__(self, found: Ranges) -> None:
        self._ranges = found
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def add(self, op: str, *inputs: str, domain: str = "", out: str = "", **attributes: object) -> str:
        name = out or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], domain=domain, **attributes))
        return name

    def hold(self, value: NDArray[np.generic]) -> str:
        name = f"w{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(np.asarray(value, order="C"), name))
        return name

    def hold_half(self, value: Floats) -> str:
        """Kept in fp16 in the file, fp32 for those who read it."""
        return self.add("Cast", self.hold(value.astype(np.float16)), to=TensorProto.FLOAT)

    def hold_int8(self, weight: Floats) -> tuple[str, str, str]:
        """[in, out] as int8; names of weight, scales and zero points."""
        scale = np.maximum(np.abs(weight).max(axis=0), 1e-8).astype(np.float32) / WEIGHT_LIMIT
        rounded = np.clip(np.rint(weight / scale), -WEIGHT_LIMIT, WEIGHT_LIMIT).astype(np.int8)
        return self.hold(rounded), self.hold(scale), self.hold(np.zeros(len(scale), np.int8))

    def quantised(self, x: str, layer: str) -> tuple[str, str, str]:
        """x as uint8 over the range that `layer` saw; names of it, its scale and its zero point."""
        low, high = self._ranges[layer]
        scale = max(high - low, 1e-8) / 255
        names = self.hold(np.float32(scale)), self.hold(np.uint8(round(-low / scale)))  # type: ignore[arg-type]
        return self.add("QuantizeLinear", x, *names), *names

    def linear(self, x: str | tuple[str, str, str], name: str, layer: nn.Linear) -> str:
        q, scale, zero = self.quantised(x, name) if isinstance(x, str) else x
        w, w_scale, w_zero = self.hold_int8(_array(layer.weight).T)
        bias = self.hold(_array(layer.bias))
        return self.add("MatMulIntegerToFloat", q, w, scale, w_scale, zero, w_zero, bias, domain=EXTRA)

    def norm(self, x: str, y: str, layer: nn.LayerNorm) -> str:
        weight, bias = self.hold(_array(layer.weight)), self.hold(_array(layer.bias))
        return self.add("LayerNormalization", self.add("Add", x, y), weight, bias, axis=-1, epsilon=layer.eps)


def _array(tensor: Tensor) -> Floats:
    found: Floats = tensor.detach().float().numpy()
    return found


def _embedded(g: _Graph, embeddings: nn.Module, *, types: bool) -> str:
    """Words (int8, a scale per word), positions and types, normalised."""
    words = _array(embeddings.word_embeddings.weight)
    scale = np.maximum(np.abs(words).max(axis=1, keepdims=True), 1e-8).astype(np.float32) / 127
    table, scales = g.hold(np.rint(words / scale).astype(np.int8)), g.hold_half(scale)
    word = g.add("Cast", g.add("Gather", table, "ids"), to=TensorProto.FLOAT)
    word = g.add("Mul", word, g.add("Gather", scales, "ids"))
    length = g.add("Shape", "ids", start=1, end=2)
    positions = _array(embeddings.position_embeddings.weight)
    kinds = _array(embeddings.token_type_embeddings.weight)
    if not types:
        positions = positions + kinds[0]
    start, axis = g.hold(np.array([0], np.int64)), g.hold(np.array([0], np.int64))
    x = g.add("Add", word, g.add("Slice", g.hold_half(positions), start, length, axis))
    kind = g.add("Gather", g.hold(kinds), "types") if types else g.hold(np.zeros(1, np.float32))
    return g.norm(x, kind, embeddings.LayerNorm)


def _attended(g: _Graph, x: str, name: str, layer: nn.Module, heads: int, mask: str) -> str:
    """Self-attention of all tokens, in one operator."""
    own = layer.attention.self
    parts = [own.query, own.key, own.value]
    q, scale, zero = g.quantised(x, f"{name}.attention.self.query")
    w, w_scale, w_zero = g.hold_int8(np.concatenate([_array(p.weight).T for p in parts], axis=1))
    bias = g.hold(np.concatenate([_array(p.bias) for p in parts]))
    return g.add("QAttention", q, w, bias, scale, w_scale, mask, zero, w_zero, domain=EXTRA, num_heads=heads)


def _attended_rows(g: _Graph, x: str, rows: str, name: str, layer: nn.Module, heads: int, mask: str) -> str:
    """Attention of a few rows over all tokens. `mask` int32 [batch, tokens]."""
    own = layer.attention.self
    shape = g.hold(np.array([0, 0, heads, -1], np.int64))

    def split(y: str) -> str:
        return g.add("Transpose", g.add("Reshape", y, shape), perm=[0, 2, 1, 3])

    seen = g.quantised(x, f"{name}.attention.self.query")
    query = split(g.linear(rows, f"{name}.attention.self.query", own.query))
    key = split(g.linear(seen, f"{name}.attention.self.key", own.key))
    value = split(g.linear(seen, f"{name}.attention.self.value", own.value))
    size = own.query.out_features // heads
    scores = g.add("FusedMatMul", query, key, domain=EXTRA, transB=1, alpha=float(size**-0.5))
    hidden = g.add("Sub", g.add("Cast", mask, to=TensorProto.FLOAT), g.hold(np.float32(1)))  # type: ignore[arg-type]
    hidden = g.add("Mul", hidden, g.hold(np.float32(1e4)))  # type: ignore[arg-type]
    hidden = g.add("Unsqueeze", hidden, g.hold(np.array([1, 2], np.int64)))
    share = g.add("Softmax", g.add("Add", scores, hidden), axis=-1)
    context = g.add("Transpose", g.add("MatMul", share, value), perm=[0, 2, 1, 3])
    return g.add("Reshape", context, g.hold(np.array([0, 0, own.query.out_features], np.int64)))


def _rest(g: _Graph, context: str, x: str, name: str, layer: nn.Module) -> str:
    """What follows attention in a layer; x is the residual."""
    after, into, out = layer.attention.output, layer.intermediate, layer.output
    h = g.norm(g.linear(context, f"{name}.attention.output.dense", after.dense), x, after.LayerNorm)
    wide = g.add("Gelu", g.linear(h, f"{name}.intermediate.dense", into.dense), domain=EXTRA)
    return g.norm(g.linear(wide, f"{name}.output.dense", out.dense), h, out.LayerNorm)


def write_int8(net: PolarityNet | TagNet, found: Ranges, path: Path) -> None:
    """Write the graph of a network without gates. Raises ValueError for an encoder that is not BERT's."""
    config = net.encoder.config
    if config.model_type != "bert" or config.hidden_act != "gelu":
        raise ValueError(f"{config.model_type} is not BERT's layout")
    pairs = isinstance(net, PolarityNet)
    g = _Graph(found)
    heads = int(config.num_attention_heads)
    layers = list(net.encoder.encoder.layer)
    mask = g.add("Cast", "mask", to=TensorProto.INT32)
    x = _embedded(g, net.encoder.embeddings, types=pairs)
    for i, layer in enumerate(layers[:-1] if pairs else layers):
        name = f"encoder.encoder.layer.{i}"
        x = _rest(g, _attended(g, x, name, layer, heads, mask), x, name, layer)
    if isinstance(net, PolarityNet):
        name = f"encoder.encoder.layer.{len(layers) - 1}"
        index = g.add("Unsqueeze", "rows", g.hold(np.array([2], np.int64)))
        read = g.add("GatherND", x, index, batch_dims=1)
        read = _rest(g, _attended_rows(g, x, read, name, layers[-1], heads, mask), read, name, layers[-1])
        size = int(config.hidden_size)
        read = g.add("Gather", g.add("Reshape", read, g.hold(np.array([-1, size], np.int64))), "places")
        axis = g.hold(np.array([1], np.int64))
        mean = g.add("Squeeze", g.add("MatMul", g.add("Unsqueeze", "weight", axis), read), axis)
        first = g.add("Gather", read, g.hold(np.int64(0)), axis=1)  # type: ignore[arg-type]
        h = g.add("Concat", mean, first, axis=-1)
        for i in (0, 2):
            h = g.add("Relu", g.linear(h, f"head.{i}", net.head[i]))
        last, last_name = net.head[4], "head.4"
    else:
        h, last, last_name = x, net.head, "head"
    g.add("Identity", g.linear(h, last_name, last), out="logits")
    _save(g, path, pairs=pairs)


def _save(g: _Graph, path: Path, *, pairs: bool) -> None:
    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, list(shape))

    inputs = [value(name, TensorProto.INT64, "batch", "tokens") for name in ("ids", "mask", *(["types"] * pairs))]
    if pairs:
        inputs += [
            value("rows", TensorProto.INT64, "batch", "read"),
            value("places", TensorProto.INT64, "aspects", "most"),
            value("weight", TensorProto.FLOAT, "aspects", "most"),
        ]
    shape = ("aspects", 3) if pairs else ("batch", "tokens", 3)
    graph = helper.make_graph(g.nodes, "earful", inputs, [value("logits", TensorProto.FLOAT, *shape)], g.weights)
    model = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 17), helper.make_opsetid(EXTRA, 1)], ir_version=8
    )
    onnx.save(model, str(path))
