"""`earful runs`: open, list, use; the views follow, and go back."""

from __future__ import annotations

import json
from uuid import uuid4

from tests.commands.conftest import Run
from tests.workers.pipeline import Pipeline


def test_the_views_follow_the_chosen_run(run: Run, pipeline: Pipeline) -> None:
    opened = run("runs", "open", "--keep-current")
    assert opened.code == 0, opened.err
    other = opened.out.strip()
    assert other != str(pipeline.run_id)
    assert run("runs", "open", "--keep-current").out.strip() == other  # the same models are the same run

    def current() -> str:
        [one] = [one["run_id"] for one in run("runs", "list", "--json").json() if one["current"]]
        return str(one)

    assert current() == str(pipeline.run_id)
    try:
        assert run("runs", "use", other).code == 0
        assert current() == other
        assert f"* {other}" in run("runs", "list").out
    finally:
        assert run("runs", "use", str(pipeline.run_id)).code == 0
    assert current() == str(pipeline.run_id)


def test_a_run_names_its_models(run: Run) -> None:
    opened = run("runs", "open", "--keep-current").out.strip()
    [spec] = [one["spec"] for one in run("runs", "list", "--json").json() if one["run_id"] == opened]
    assert spec.keys() == {"speech", "aspects", "cvib", "summary"}
    assert spec["speech"]["model"] == "whisper"
    assert json.dumps(spec)


def test_a_spec_is_shown_as_it_is(run: Run, pipeline: Pipeline) -> None:
    spec = {"labels": ["a", "b"], "speech": "[bold]whisper[/bold]"}
    opened = pipeline.open_run(spec, current=False)
    assert f"  {opened} {spec}" in run("runs", "list").out.splitlines()


def test_an_unknown_run_is_refused(run: Run, pipeline: Pipeline) -> None:
    done = run("runs", "use", str(uuid4()))
    assert (done.code, "earful runs list" in done.sentence()) == (1, True)
