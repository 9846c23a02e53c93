"""Scores of serving folders on the benchmarks, through the code that serves; no torch.

    python -m sentiment.evaluate cvib    --model model_repo/cvib/1    --absa DIR --to docs/results/NAME.json
    python -m sentiment.evaluate aspects --model model_repo/aspects/1 --absa DIR --to docs/results/NAME.json
    python -m sentiment.evaluate table docs/results/*.json

Nothing here chooses anything: checkpoints and thresholds come from the selection set before.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from sentiment.corpora import HELD_OUT_DOMAINS, OWN, file_hash
from sentiment.data import POLARITIES, Sentence, read_arts, read_own, read_semeval14, read_semeval15, read_twitter
from sentiment.metrics import calibration_error, classification, span_scores
from sentiment.report import report
from sentiment.serve import AspectModel, PolarityModel

__all__ = ["arts_scores", "benchmarks", "extraction_scores", "polarity_scores", "table"]


def benchmarks(absa: Path) -> dict[str, list[Sentence]]:
    """The test sets by name; `own-held-out` are our sentences of the domains that no training saw."""
    return {
        "MAMS": read_semeval14(absa / "mams" / "ATSA" / "test.xml", "mams"),
        "REST14": read_semeval14(next((absa / "semeval14_restaurants").glob("*Test*.xml")), "rest14"),
        "LAP14": read_semeval14(next((absa / "semeval14_laptops").glob("*Test*.xml")), "lap14"),
        "REST15": read_semeval15(next((absa / "semeval15_restaurants").glob("*Test*.xml")), "rest15"),
        "REST16": read_semeval15(next((absa / "semeval16_restaurants").glob("*TEST*")), "rest16"),
        "Twitter": read_twitter(absa / "twitter" / "test.raw"),
        "own-held-out": [s for s in read_own(OWN) if s.domain in HELD_OUT_DOMAINS],
    }


def _predict(model: PolarityModel, sentences: Sequence[Sentence]) -> tuple[np.ndarray, np.ndarray]:
    rows, gold = [np.zeros((0, 3), np.float32)], []
    for s in sentences:
        if s.mentions:
            rows.append(model.probabilities(s.text, [(m.start, m.end) for m in s.mentions]))
            gold += [POLARITIES.index(m.polarity) for m in s.mentions]
    return np.concatenate(rows).astype(np.float64), np.array(gold, dtype=np.int64)


def polarity_scores(model: PolarityModel, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Accuracy, macro-F1, recalls, ECE, and accuracy on sentences with more than one polarity."""
    probabilities, gold = _predict(model, sentences)
    scores = classification(gold, probabilities.argmax(axis=1)) | {"ece": calibration_error(probabilities, gold)}
    mixed = [s for s in sentences if len({m.polarity for m in s.mentions}) > 1]
    if mixed:
        some, gold = _predict(model, mixed)
        scores |= {"mixed_n": float(len(gold)), "mixed_accuracy": float((some.argmax(axis=1) == gold).mean())}
    return scores


def arts_scores(model: PolarityModel, items: Sequence[Sentence]) -> dict[str, float]:
    """Accuracy and macro-F1 over all items, and ARS: groups whose original and variants are all right."""
    probabilities, gold = _predict(model, items)
    right = probabilities.argmax(axis=1) == gold
    groups: dict[str, list[bool]] = defaultdict(list)
    for s, ok in zip(items, right, strict=True):
        groups[s.group].append(bool(ok))
    scores = classification(gold, probabilities.argmax(axis=1))
    return scores | {"groups": float(len(groups)), "ars": float(np.mean([all(v) for v in groups.values()]))}


def extraction_scores(model: AspectModel, sentences: Sequence[Sentence]) -> dict[str, float]:
    """Exact-match spans."""
    found = [[(a.start, a.end) for a in model.find(s.text)] for s in sentences]
    return span_scores([[(m.start, m.end) for m in s.mentions] for s in sentences], found)


def table(files: Sequence[Path]) -> str:
    """Markdown: one row per result file, one column per set; accuracy / macro-F1 or F1 / false-span rate, in percent."""
    results = [(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in files]
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
            else:
                cells.append(f"{100 * got['f1']:.1f} / {100 * got['false_span_rate']:.0f} %")
        lines.append(f"| {stem} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Evaluate one folder, or print the table of result files."""
    if sys.argv[1:2] == ["table"]:
        sys.stdout.write(table([Path(name) for name in sys.argv[2:]]))
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=("cvib", "aspects"))
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--absa", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--sets", nargs="*", default=None, help="only these")
    args = parser.parse_args()
    sets: dict[str, dict[str, float]] = {}
    model: PolarityModel | AspectModel
    chosen = {k: v for k, v in benchmarks(args.absa).items() if args.sets is None or k in args.sets}
    if args.kind == "cvib":
        model = PolarityModel(args.model)
        for name, sentences in chosen.items():
            sets[name] = polarity_scores(model, sentences)
        for name, file in (("ARTS-REST", "rest_test_enriched.json"), ("ARTS-LAP", "laptop_test_enriched.json")):
            if args.sets is None or name in args.sets:
                sets[name] = arts_scores(model, read_arts(args.absa / "arts" / file, name))
    else:
        model = AspectModel(args.model)
        for name, sentences in chosen.items():
            if name != "Twitter":  # its targets are search words, not all aspects of the text
                sets[name] = extraction_scores(model, sentences)
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
