"""python -m bench.phi4: the engine, then transformers, each in a process of its own; a table and bench-phi4.json.

The targets bind on an H100 (80 GB) or H200; elsewhere they are named "not measured".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

FLIGHTS = (1, 8, 32, 64, 128, 256, 512)
FILE = Path("bench-phi4.json")
Figures = list[dict[str, Any]]


def main(arguments: list[str] | None = None) -> int:
    """Exit code 1 where a target is missed on a GPU."""
    options = _options(arguments)
    if options.side:
        for figures in _side(options):
            print("FIGURE " + json.dumps(figures), flush=True)
        return 0
    found = {}
    for side in ("engine", "baseline"):
        found[side] = _child(side, sys.argv[1:] if arguments is None else arguments)
        FILE.write_text(json.dumps(found, indent=1) + "\n")
    verdicts = targets(found["engine"], found["baseline"])
    found["targets"] = verdicts
    FILE.write_text(json.dumps(found, indent=1) + "\n")
    for verdict in verdicts:
        print(f"{verdict['target']:<58} {verdict['value']!s:>10}  {verdict['met']}")
    return 1 if any(verdict["met"] == "missed" for verdict in verdicts) else 0


def targets(engine: Figures, baseline: Figures) -> Figures:
    """What the project asks for, and whether it was met; "not measured" on anything but an H100 or H200."""
    card = next(one for one in engine if one["scenario"] == "card")
    binding = any(name in card["device"] for name in ("H100", "H200"))
    best = max((one["rtfx"] for one in engine if one["scenario"] == "30s"), default=0.0)
    stock = max((one["rtfx"] for one in baseline if one["scenario"] == "30s"), default=0.0)
    by_name = {one["scenario"]: one for one in engine}

    def value(scenario: str, name: str) -> float | None:
        found: float | None = by_name.get(scenario, {}).get(name)
        return found

    asked = [
        ("30 s clips, best in flight: at least 1,500 x real time", best, best >= 1_500),
        ("30 s clips: at least 4 x transformers", best / stock if stock else None, bool(stock) and best >= 4 * stock),
    ]
    for text, number, limit in (
        ("16 summaries of 30 min: within 16 s", value("16 summaries", "seconds"), 16.0),
        ("1 summary of 30 min: within 2 s", value("1 summaries", "seconds"), 2.0),
        (
            "4 summaries beside 32 streams: no gap over 200 ms",
            value("4 summaries beside 32 streams", "longest_gap_ms"),
            200.0,
        ),
        ("one stream: first token within 150 ms", value("one stream", "first_ms"), 150.0),
        ("one stream: a step within 1.5 x the weights' read time", value("one stream", "step_over_read"), 1.5),
    ):
        asked.append((text, number, number is not None and number <= limit))
    return [
        {
            "target": text,
            "value": None if number is None else round(number, 2),
            "met": "not measured" if not binding else "met" if met else "missed",
        }
        for text, number, met in asked
    ]


def _side(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    import torch

    device = options.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.side == "baseline":
        from bench.phi4 import baseline

        return baseline.run(size=options.size, device=device, most=options.batch)
    from bench.phi4 import engine
    from speech.phi4.memory import GRAPH_SIZES

    graphs = (GRAPH_SIZES if device == "cuda" else ()) if options.graphs is None else options.graphs
    return engine.run(
        size=options.size, device=device, flights=options.flight, graphs=graphs, lora=options.lora,
        long=not options.no_summaries,
    )  # fmt: skip


def _child(side: str, arguments: list[str]) -> Figures:
    """The figures that one side prints; what else it prints goes to standard error."""
    command = [sys.executable, "-m", "bench.phi4", *arguments, "--side", side]
    figures: Figures = []
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout or ():
            if line.startswith("FIGURE "):
                figures.append(json.loads(line.removeprefix("FIGURE ")))
                print(side, _short(figures[-1]), flush=True)
            else:
                print(line, end="", file=sys.stderr)
    if process.returncode:
        print(f"{side} ended with {process.returncode}: its figures are what it told before", file=sys.stderr)
    return figures


def _short(figures: dict[str, Any]) -> str:
    return "  ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in figures.items()
    )


def _options(arguments: list[str] | None) -> argparse.Namespace:
    def numbers(text: str) -> tuple[int, ...]:
        return tuple(int(one) for one in text.split(",") if one)

    parser = argparse.ArgumentParser(prog="python -m bench.phi4", description=__doc__)
    parser.add_argument("--size", choices=("full", "tiny"), default="full", help="tiny: does the benchmark work?")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--flight", type=numbers, default=FLIGHTS, help="clips in flight, with commas")
    parser.add_argument("--graphs", type=numbers, help="sizes of CUDA graphs; default: the engine's own, empty: eager")
    parser.add_argument("--lora", choices=("merged", "unmerged"), default="merged")
    parser.add_argument("--batch", type=int, default=128, help="transformers' largest batch")
    parser.add_argument("--no-summaries", action="store_true")
    parser.add_argument("--side", choices=("engine", "baseline"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
