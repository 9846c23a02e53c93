"""A product's own list of aspects: the workers send it with the texts on that product, and the run tells of it."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from errors import Transient
from sentiment.serve import MAX_CHARACTERS
from sentiment.triton import MAX_KNOWN
from settings import MOST_KNOWN, MOST_KNOWN_CHARACTERS, Settings
from stack.stack import Stack
from store.runs import Run, run_id_of
from tests.workers.pipeline import Pipeline
from tests.workers.sending import review, whole_call
from tests.workers.watching import TALK, finished, send, verdicts
from workers.inference import Inference
from workers.run import check_served, describe

#: Of the kettle also words of which every sentence of the stand-in for Whisper has one (tests/models/whisper).
HEARD = ("is", "was", "died", "me", "a", "it", "you", "I")
LISTS = {"kettle": ["descaler", "spout guard", *HEARD], "radio": ["dial"]}


@pytest.fixture(name="pipeline", scope="module")
def _pipeline(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pipeline]:
    """Its run is the one that these lists make."""
    file = tmp_path_factory.mktemp("lists") / "aspects.json"
    file.write_text(json.dumps(LISTS))
    with Pipeline(stack, known_aspects=file) as pipeline:
        pipeline.open_run(asyncio.run(describe(settings_of(stack, file))))
        yield pipeline


def settings_of(stack: Stack, file: Path | None) -> Settings:
    return Settings(triton_url=stack.endpoints["triton"], **({"known_aspects": file} if file else {}))  # type: ignore[arg-type]


def test_a_products_words_are_aspects_of_its_reviews_alone(pipeline: Pipeline) -> None:
    pipeline.worker("reviewer")
    text = "The descaler broke the dial, but the Spout Guard and the battery are fine."
    events = [review(product, text, product=product) for product in ("kettle", "radio", "lamp")]
    verdicts(pipeline, "reviewer", send(pipeline, events))
    found = dict(
        pipeline.rows(
            "SELECT review_id, array_agg(aspect_text ORDER BY span_start) FROM analytics_v1.aspect_mentions GROUP BY 1"
        )
    )
    assert found == {
        "kettle": ["descaler", "Spout Guard", "battery"],
        "radio": ["dial", "battery"],
        "lamp": ["battery"],
    }


def test_so_they_are_in_what_customers_say(pipeline: Pipeline) -> None:
    pipeline.start(["segmenter", "transcriber", "summarizer"])
    send(pipeline, whole_call("call", TALK))
    assert finished(pipeline, "call")["product"] == "kettle"
    said = pipeline.rows("SELECT utterance_id, text FROM analytics_v1.utterances WHERE role = 'customer'")
    found = pipeline.rows("SELECT utterance_id, aspect_text FROM analytics_v1.aspect_mentions WHERE call_id = 'call'")
    words = {(one, word) for one, text in said for word in re.findall(r"\w+", text) if word in HEARD}
    assert words
    assert {(one, word) for one, word in found if word in HEARD} == words


async def test_other_lists_are_another_run_for_who_looks_for_aspects(stack: Stack, tmp_path: Path) -> None:
    lists = {
        "none": None,
        "some": LISTS,
        "in another order": dict(reversed(LISTS.items())),
        "other": {"kettle": ["lid"]},
    }
    using = {}
    for name, held in lists.items():
        (tmp_path / name).write_text(json.dumps(held))
        using[name] = settings_of(stack, tmp_path / name if held else None)
    specs = {name: await describe(settings) for name, settings in using.items()}
    assert "known_aspects" not in specs["none"], "an update opens no new run where nobody has a list"
    assert specs["some"] == specs["in another order"]
    for opened in ("none", "some", "other"):
        run = Run(run_id=run_id_of(specs[opened]), spec=specs[opened])
        for served in ("none", "some", "other"):
            inference = Inference(stack.endpoints["triton"], known_aspects=using[served].known_aspects)
            try:
                assert await check_served(inference, "transcriber", run)
                for stage in ("summarizer", "reviewer"):
                    if served == opened:
                        await check_served(inference, stage, run)
                    else:
                        named = specs[opened].get("known_aspects", "none")
                        with pytest.raises(Transient, match=f"opened for known_aspects {named}, and"):
                            await check_served(inference, stage, run)
            finally:
                await inference.close()


def test_a_list_is_as_long_as_the_model_takes() -> None:
    assert (MOST_KNOWN, MOST_KNOWN_CHARACTERS) == (MAX_KNOWN, MAX_CHARACTERS)
