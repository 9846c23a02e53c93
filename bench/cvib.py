"""python -m bench.cvib --fp32 DIR: pairs a CPU second of the shipped polarity model, against onnxruntime fp32.

The base is fp32 one pair at a time, one thread, in this process; DIR holds it (`sentiment.export cvib --fp32`). Ours is
what serves, in this process and in a Triton server of its own. All take turns within one run, and CPU time is counted,
since other work on the machine slows them alike. For Triton it is the server's, its Python stubs included; the client's
stands beside it. Spans are those of samples/reviews.truth.jsonl, or of MAMS test with --absa DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median

import numpy as np
import psutil
from tritonclient.grpc import InferenceServerClient, InferInput

from sentiment.data import POLARITIES, read_semeval14
from sentiment.folder import stamp
from sentiment.predict import MODEL_REPO
from sentiment.serve import PolarityModel
from stack.ports import Ports
from stack.triton import Triton
from workers.inference import MOST_TEXTS

__all__ = ["main"]

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
TEXTS_IN_A_REQUEST = MOST_TEXTS  # their bounds on characters and spans are beyond what eight of the samples hold
ROUNDS = 7

Item = tuple[str, list[tuple[int, int]], list[str]]


def items(absa: Path | None) -> list[Item]:
    """Texts with their spans and polarities."""
    if absa is not None:
        found = read_semeval14(absa / "mams" / "ATSA" / "test.xml", "mams")
        return [(s.text, [(m.start, m.end) for m in s.mentions], [m.polarity for m in s.mentions]) for s in found]
    texts = {}
    for line in (SAMPLES / "reviews.jsonl").read_text().splitlines():
        row = json.loads(line)
        texts[row["review_id"], row.get("version")] = row.get("text")
    out: list[Item] = []
    for line in (SAMPLES / "reviews.truth.jsonl").read_text().splitlines():
        row = json.loads(line)
        text = texts.get((row["review_id"], row.get("version")))
        if text:
            out.append((text, [(a, b) for a, b in row["spans"]], [polarity for _, polarity in row["aspects"]]))
    return out


def one_by_one(model: PolarityModel, some: Sequence[Item]) -> np.ndarray:
    rows = [model.judge([pair]) for text, spans, _ in some for pair in model.pairs(text, spans)]
    return np.concatenate(rows)


def together(model: PolarityModel, some: Sequence[Item], texts: int = TEXTS_IN_A_REQUEST) -> np.ndarray:
    rows = []
    for k in range(0, len(some), texts):
        part = some[k : k + texts]
        rows.append(model.judge([pair for text, spans, _ in part for pair in model.pairs(text, spans)]))
    return np.concatenate(rows)


def served(client: InferenceServerClient, some: Sequence[Item]) -> np.ndarray:
    rows = []
    for k in range(0, len(some), TEXTS_IN_A_REQUEST):
        part = some[k : k + TEXTS_IN_A_REQUEST]
        inputs = [InferInput("TEXT", [len(part)], "BYTES")]
        inputs[0].set_data_from_numpy(np.array([text.encode() for text, _, _ in part], np.object_))
        flat = [span for _, spans, _ in part for span in spans]
        for name, values in (
            ("COUNT", [len(spans) for _, spans, _ in part]),
            ("START", [start for start, _ in flat]),
            ("END", [end for _, end in flat]),
        ):
            inputs.append(InferInput(name, [len(values)], "INT32"))
            inputs[-1].set_data_from_numpy(np.array(values, np.int32))
        rows.append(client.infer("cvib", inputs, client_timeout=120).as_numpy("PROBABILITIES"))
    return np.concatenate(rows)


def accuracy(rows: np.ndarray, some: Sequence[Item]) -> float:
    gold = [POLARITIES.index(label) for _, _, labels in some for label in labels]
    return float((rows.argmax(axis=1) == np.array(gold)).mean())


def cpu_of(pid: int) -> float:
    """CPU seconds of a process and its children."""
    root = psutil.Process(pid)
    return sum(sum(one.cpu_times()[:2]) for one in [root, *root.children(recursive=True)])


def report(name: str, seconds: Sequence[float], pairs: int, base: float, more: str = "") -> None:
    each = median(seconds) / pairs
    print(
        f"{name:<44} {1e6 * each:7.0f} us a pair  {1 / each:6.0f} a CPU second  {base / each:5.2f} x{more}", flush=True
    )


def main() -> None:
    """Take turns, and print each one's median of the rounds."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--fp32", type=Path, required=True, help="serving folder with fp32 weights")
    parser.add_argument("--model", type=Path, default=MODEL_REPO / "cvib" / "1")
    parser.add_argument("--absa", type=Path, default=None)
    parser.add_argument("--texts", type=int, default=64, help="texts in a round")
    parser.add_argument("--accuracy", action="store_true", help="of both models over all texts")
    args = parser.parse_args()
    everything = items(args.absa)
    some = [one for one in everything if one[1]][: args.texts]
    pairs = sum(len(spans) for _, spans, _ in some)
    fp32, ours = PolarityModel(args.fp32), PolarityModel(args.model)
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        shutil.copytree(MODEL_REPO / "cvib", home / "models" / "cvib", ignore=shutil.ignore_patterns("__pycache__"))
        for file in ("model.onnx", "tokenizer.json", "model.json"):
            shutil.copyfile(args.model / file, home / "models" / "cvib" / "1" / file)
        stamp(home / "models" / "cvib" / "config.pbtxt", ours.version)
        server = Triton(home, Ports(home), [home / "models"])
        server.start(seconds=300)
        try:
            client, pid = InferenceServerClient(server.address), server.pid or os.getpid()
            assert np.allclose(served(client, some), together(ours, some), atol=1e-6)
            turns: dict[str, Callable[[], object]] = {
                "fp32, one by one": lambda: one_by_one(fp32, some),
                "ours, one by one": lambda: one_by_one(ours, some),
                f"ours, {TEXTS_IN_A_REQUEST} texts at a time": lambda: together(ours, some),
                f"ours, all {len(some)} texts at once": lambda: together(ours, some, len(some)),
            }
            found: dict[str, list[float]] = {name: [] for name in (*turns, "server", "client")}
            for _ in range(ROUNDS):
                for name, turn in turns.items():
                    begun = time.process_time()
                    turn()
                    found[name].append(time.process_time() - begun)
                begun, before = time.process_time(), cpu_of(pid)
                served(client, some)
                found["server"].append(cpu_of(pid) - before)
                found["client"].append(time.process_time() - begun)
        finally:
            server.stop()
    base = median(found["fp32, one by one"]) / pairs
    print(f"{pairs} pairs of {len(some)} texts, {ROUNDS} rounds in turn, median")
    for name in turns:
        report(name, found[name], pairs, base)
    client_us = 1e6 * median(found["client"]) / pairs
    report(
        f"Triton, {TEXTS_IN_A_REQUEST} texts a request", found["server"], pairs, base, f"  (client {client_us:.0f} us)"
    )
    if args.accuracy:
        for name, model in (("fp32", fp32), ("ours", ours)):
            print(f"accuracy of {name}: {100 * accuracy(together(model, everything), everything):.2f} %")


if __name__ == "__main__":
    main()
