"""What a run is made of: the versions of the models that Triton serves, and of our own rules."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence

from errors import Transient
from settings import Settings
from store.runs import Run
from workers.extractive import METHOD
from workers.inference import Inference

__all__ = ["PARTS_OF", "check_served", "describe"]

#: What a stage's results are made with. "summary": the speech model, if it writes summaries, or else our own rules.
PARTS_OF: Mapping[str, tuple[str, ...]] = {
    "segmenter": (),
    "transcriber": ("speech",),
    "summarizer": ("aspects", "cvib", "known_aspects", "summary"),
    "reviewer": ("aspects", "cvib", "known_aspects"),
}
#: Where and how fast a model runs: what it says does not depend on these parameters.
ELSEWHERE = frozenset({"weights", "threads", "device", "limits"})


async def describe(settings: Settings) -> dict[str, object]:
    """The spec of a run: each model's parameters and the rules' versions. Raises Transient when Triton is away."""
    inference = Inference(
        settings.triton_url,
        ssl=settings.triton_ssl,
        speech_model=settings.speech_model,
        known_aspects=settings.known_aspects,
    )
    try:
        spec = await _served(inference, ("speech", "aspects", "cvib", "known_aspects", "summary"))
        return {part: made_with for part, made_with in spec.items() if made_with is not None}
    finally:
        await inference.close()


async def check_served(inference: Inference, stage: str, run: Run) -> dict[str, str]:
    """The version of each model that the stage's run was opened for. Raises Transient where Triton serves another one.

    Rows say the run and not each model, so nothing may be written under the run of another.
    """
    parts = PARTS_OF[stage] + (("speech",) if stage == "summarizer" and inference.summarizes else ())
    wanted = {part: run.spec.get(part) for part in parts if part in run.spec or part == "known_aspects"}
    served = await _served(inference, wanted)
    for part, spec in wanted.items():
        if _said_by(served[part]) != _said_by(spec):
            raise Transient(
                f"run {run.run_id} was opened for {part} {_named(spec)}, and {_named(served[part])} is there: "
                "serve that one again, or `earful runs open`"
            )
    models = {inference.speech_model if part == "speech" else part: spec for part, spec in wanted.items()}
    return {model: spec["version"] for model, spec in models.items() if isinstance(spec, dict) and "version" in spec}


async def _served(inference: Inference, parts: Iterable[str]) -> dict[str, object]:
    return {part: await _part(inference, part) for part in parts}


async def _part(inference: Inference, part: str) -> object:
    if part == "summary":  # what the speech model refuses is quoted
        return f"{inference.speech_model}, {METHOD}" if inference.summarizes else METHOD
    if part == "known_aspects":
        return version_of(inference.known_aspects)
    if part != "speech":
        return await inference.model_parameters(part)
    speech = await inference.model_parameters(inference.speech_model)
    if not speech.get("version"):  # weights from a folder of the user's: only the model knows which
        speech["version"] = await inference.speech_version()
    return {"model": inference.speech_model, **speech}


def version_of(known_aspects: Mapping[str, Sequence[str]]) -> str | None:
    """A hash of the products' lists, in whatever order they are; None without one: a run says nothing of it then."""
    lists = {product: sorted({*aspects}) for product, aspects in known_aspects.items()}
    return hashlib.sha256(json.dumps(lists, sort_keys=True).encode()).hexdigest()[:12] if lists else None


def _said_by(spec: object) -> object:
    return {k: v for k, v in spec.items() if k not in ELSEWHERE} if isinstance(spec, dict) else spec


def _named(spec: object) -> str:
    return (
        " ".join(f"{name}={value}" for name, value in sorted(spec.items()))
        if isinstance(spec, dict)
        else str(spec or "none")
    )
