"""What a run is made of: the versions of the models that Triton serves, and of our own rules."""

from __future__ import annotations

from settings import Settings
from workers.extractive import METHOD
from workers.inference import Inference

__all__ = ["describe"]


async def describe(settings: Settings) -> dict[str, object]:
    """The spec of a run: each model's parameters and the rules' versions. Raises Transient when Triton is away."""
    inference = Inference(settings.triton_url, ssl=settings.triton_ssl, speech_model=settings.speech_model)
    try:
        speech = await inference.model_parameters(settings.speech_model)
        if not speech.get("version"):  # weights from a folder of the user's: only the model knows which
            speech["version"] = await inference.speech_version()
        return {
            "speech": {"model": settings.speech_model, **speech},
            "aspects": await inference.model_parameters("aspects"),
            "cvib": await inference.model_parameters("cvib"),
            # What the speech model refuses is quoted.
            "summary": f"{settings.speech_model}, {METHOD}" if inference.summarizes else METHOD,
        }
    finally:
        await inference.close()
