"""Scores of serving folders on the benchmarks, through the code that serves; no torch.

    python -m sentiment.evaluate cvib    --model model_repo/cvib/1    --absa DIR --to docs/results/NAME.json
    python -m sentiment.evaluate aspects --model model_repo/aspects/1 --absa DIR --to docs/results/NAME.json
    python -m sentiment.evaluate threshold --model DIR --absa DIR --to docs/results/NAME.json
    python -m sentiment.evaluate table docs/results/*.json

`threshold` chooses the extractor's least confidence on the selection set; nothing else here chooses anything. `cvib` and
`aspects` also score the selection set, by which a model may be chosen, and the samples, which are neither blind nor real.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from sentiment.benchmarks import ARTS, benchmarks
from sentiment.corpora import file_hash, parts_only, shipped
from sentiment.data import Sentence, read_arts
from sentiment.metrics import binned_gap, span_scores
from sentiment.report import report
from sentiment.samples import call_labels, sample_calls, sample_reviews
from sentiment.scores import arts, plain_test
from sentiment.serve import AspectModel, PolarityModel

__all__ = [
    "arts_scores", "call_scores", "choose", "extraction_scores", "operating_points", "partial_scores", "polarity_scores", "table",
]  # fmt: skip


def _predict(model: PolarityModel, sentences: Sequence[Sentence]) -> np.ndarray:
    rows = [np.zeros((0, 3), np.float32)]
    rows += [model.probabilities(s.text, [(m.start, m.end) for m in s.mentions]) for s in sentences if s.mentions]
    return np.concatenate(rows).astype(np.float64)


def polarity_scores(model: PolarityModel, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Accuracy, macro-F1, recalls, ECE, and accuracy on sentences with more than one polarity."""
    return plain_test(_predict(model, sentences), sentences)


def arts_scores(model: PolarityModel, items: Sequence[Sentence]) -> dict[str, float]:
    """Accuracy and macro-F1 over all items, accuracy by kind of variant, and ARS: groups that are all right."""
    return arts(_predict(model, items), items)


def extraction_scores(model: AspectModel, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Exact-match spans; how many were found, their mean confidence, and its calibration error in ten bins (if any were)."""
    rows = [model.find(s.text) for s in sentences]
    found = [[(a.start, a.end) for a in row] for row in rows]
    gold = [[(m.start, m.end) for m in s.mentions] for s in sentences]
    confidence = np.array([a.confidence for row in rows for a in row])
    right = np.array([span in marked for spans, marked in zip(found, gold, strict=True) for span in spans], dtype=bool)
    scores = span_scores(gold, found) | {"found": float(len(right))}
    if len(right):
        scores |= {"mean_confidence": float(confidence.mean()), "ece": binned_gap(confidence, right, 10)}
    return scores


def partial_scores(model: AspectModel, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Where the labels may lack aspects that a text names: recall, and the precision that it has at least."""
    got = extraction_scores(model, sentences)
    kept = {k: got[k] for k in ("texts", "spans", "recall", "found")}
    return kept | {"precision_at_least": got["precision"]}


def call_scores(model: AspectModel, calls: Sequence[tuple[Sequence[str], set[str]]]) -> dict[str, float]:
    """Labelled aspects whose very name some utterance of their call gives; all names found, and at least so many are right.

    calls: the utterances' texts, and the labelled names, casefolded.
    """
    said = [{text[a.start : a.end].casefold() for text in texts for a in model.find(text)} for texts, _ in calls]
    hit = sum(len(names & labels) for names, (_, labels) in zip(said, calls, strict=True))
    have, found = sum(len(labels) for _, labels in calls), sum(map(len, said))
    return {
        "texts": float(sum(len(texts) for texts, _ in calls)), "spans": float(have), "recall": hit / have if have else 0.0,
        "found": float(found), "precision_at_least": hit / found if found else 0.0,
    }  # fmt: skip


def operating_points(model: AspectModel, sentences: Sequence[Sentence]) -> list[dict[str, float]]:
    """Scores at each least confidence from 0.3 to 0.95, on the sentences that select: never a test set."""
    found = [model.find(s.text, threshold=0.0) for s in sentences]
    gold = [[(m.start, m.end) for m in s.mentions] for s in sentences]
    rows = []
    for threshold in np.arange(0.30, 0.96, 0.05).round(2):
        kept = [[(a.start, a.end) for a in row if a.confidence >= threshold] for row in found]
        rows.append({"threshold": float(threshold)} | span_scores(gold, kept))
    return rows


#: Of sentences without an aspect, so many may get one: half of the 10 % that is asked of benchmarks, which get more.
MOST_FALSE = 0.05


def choose(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    """The row with the best F1 among those with few false spans; where none has so few, the one with the fewest."""
    few = [r for r in rows if r["false_span_rate"] <= MOST_FALSE]
    return max(few, key=lambda r: r["f1"]) if few else min(rows, key=lambda r: r["false_span_rate"])


def table(files: Sequence[Path]) -> str:
    """Markdown: one row per result file, one column per set; accuracy / macro-F1, F1 / false-span rate, or recall, in percent."""
    read = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in files]
    results = [(stem, result) for stem, result in read if "sets" in result]
    names = list(dict.fromkeys(name for _, result in results for name in result["sets"]))
    lines = ["| | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
    for stem, result in results:
        cells = []
        for name in names:
            got = result["sets"].get(name)
            if got is None:
                cells.append("")
            elif "accuracy" in got:
                text = f"{100 * got['accuracy']:.1f} / {100 * got['macro_f1']:.1f}"
                cells.append(text + (f", ARS {100 * got['ars']:.1f}" if "ars" in got else ""))
            elif "f1" in got:
                cells.append(f"{100 * got['f1']:.1f} / {100 * got['false_span_rate']:.0f} %")
            else:
                cells.append(f"recall {100 * got['recall']:.1f}")
        lines.append(f"| {stem} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _selection(absa: Path) -> list[Sentence]:
    """What an extractor is chosen by: TSA-MD's marks on whole products taken off (docs/cvib.md)."""
    return [parts_only(s) if s.domain == "tsa_md" else s for s in shipped(absa).dev]


def main() -> None:
    """Evaluate one folder, or print the table of result files."""
    if sys.argv[1:2] == ["table"]:
        sys.stdout.write(table([Path(name) for name in sys.argv[2:]]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=("cvib", "aspects", "threshold"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--absa", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=None, help="only these")
    args = parser.parse_args()
    if args.kind == "threshold":
        rows = operating_points(AspectModel(args.model), _selection(args.absa))
        chosen_row = choose(rows)
        args.to.write_text(
            json.dumps({"kind": "threshold", "chosen": chosen_row, "rows": rows}, indent=1) + "\n", "utf-8"
        )
        report(chosen_row)
        return
    sets: dict[str, dict[str, float]] = {}
    model: PolarityModel | AspectModel
    chosen = {
        k: v
        for k, v in benchmarks(args.absa, conflict=args.kind == "aspects").items()
        if args.sets is None or k in args.sets
    }
    if args.kind == "cvib":
        model = PolarityModel(args.model)
        others: dict[str, Callable[[], list[Sentence]]] = {
            "selection": lambda: shipped(args.absa).dev, "sample-reviews": sample_reviews, "sample-calls": sample_calls,
        }  # fmt: skip
        chosen |= {k: read() for k, read in others.items() if args.sets is None or k in args.sets}
        for name, sentences in chosen.items():
            sets[name] = polarity_scores(model, sentences)
        for name, file in ARTS.items():
            if args.sets is None or name in args.sets:
                sets[name] = arts_scores(model, read_arts(args.absa / "arts" / file, name))
    else:
        model = AspectModel(args.model)
        chosen.pop("Twitter", None)  # its targets are search words, not all aspects of the text
        scored: dict[str, Callable[[], dict[str, float]]] = {
            "selection": lambda: extraction_scores(model, _selection(args.absa)),
            "sample-reviews": lambda: partial_scores(model, sample_reviews()),
            "sample-calls": lambda: call_scores(model, call_labels()),
        }
        for name, sentences in chosen.items():
            sets[name] = extraction_scores(model, sentences)
        sets |= {k: score() for k, score in scored.items() if args.sets is None or k in args.sets}
    result = {
        "kind": args.kind,
        "version": model.version,
        "onnx_sha256": file_hash(args.model / "model.onnx"),
        "sets": {name: {k: round(v, 4) for k, v in got.items()} for name, got in sets.items()},
    }
    args.to.parent.mkdir(parents=True, exist_ok=True)
    args.to.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    report(result)


if __name__ == "__main__":
    main()
