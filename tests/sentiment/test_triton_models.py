"""The shipped models in a real Triton server: they answer like the library, and one bad request harms no other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from tritonclient.grpc import InferenceServerClient, InferInput, InferResult
from tritonclient.utils import InferenceServerException

from sentiment.predict import MODEL_REPO
from sentiment.serve import MAX_CHARACTERS, AspectModel, PolarityModel
from sentiment.triton import MAX_KNOWN, MAX_SPANS, MAX_TEXTS
from stack.ports import Ports
from stack.triton import Triton

pytestmark = pytest.mark.timeout(180)
TEXTS = [
    "The screen is gorgeous but the battery is terrible.",
    "",
    "no thanks that is all",
    "Le café était 🎉 — the staff were kind.\nThe room? Tiny and loud. I loved the view though.",
    "the technician never came and the app is confusing",
]
#: A fault planted in the server's copies: what no code foresaw, with the text in its words.
FAULT = "this text breaks the model"
PLANTED = f"""
for _model, _name in ((serve.AspectModel, "windows"), (serve.PolarityModel, "pairs")):
    def _broken(self, text, *more, _right=getattr(_model, _name)):
        if text == {FAULT!r}:
            raise KeyError(text)
        return _right(self, text, *more)
    setattr(_model, _name, _broken)
"""
GERMAN = "Der Akku ist leider sehr schwach und die Lieferung kam zu spät."


@pytest.fixture(name="client", scope="module")
def _client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceServerClient]:
    home = tmp_path_factory.mktemp("triton")
    for name in ("cvib", "aspects"):
        shutil.copytree(MODEL_REPO / name, home / "models" / name, ignore=shutil.ignore_patterns("__pycache__"))
        with (home / "models" / name / "1" / "model.py").open("a") as code:
            code.write(f"\nfrom sentiment import serve\n{PLANTED}")
    server = Triton(home, Ports(home), [home / "models"])
    server.start(seconds=150)
    client = InferenceServerClient(server.address)
    try:
        yield client
    finally:
        client.close()
        server.stop()


def strings(name: str, *texts: str | bytes) -> InferInput:
    found = InferInput(name, [len(texts)], "BYTES")
    found.set_data_from_numpy(np.array([t if isinstance(t, bytes) else t.encode() for t in texts], np.object_))
    return found


def infer(client: InferenceServerClient, model: str, text: str | bytes, **vectors: list[int]) -> InferResult:
    inputs = [strings("TEXT", text)]
    for name, values in vectors.items():
        inputs.append(InferInput(name, [len(values)], "INT32"))
        inputs[-1].set_data_from_numpy(np.array(values, np.int32))
    return client.infer(model, inputs, client_timeout=30)


def test_aspects_like_the_library(client: InferenceServerClient) -> None:
    library = AspectModel(MODEL_REPO / "aspects" / "1")
    for text in TEXTS:
        got, expected = infer(client, "aspects", text), library.find(text)
        assert got.as_numpy("START").tolist() == [a.start for a in expected]
        assert got.as_numpy("END").tolist() == [a.end for a in expected]
        assert got.as_numpy("CONFIDENCE").tolist() == pytest.approx([a.confidence for a in expected], abs=1e-6)
        assert [i.decode() for i in got.as_numpy("ASPECT_ID")] == [a.aspect_id for a in expected]
        assert got.as_numpy("VERSION")[0].decode() == library.version
        assert got.as_numpy("START").dtype == np.int32


def test_cvib_like_the_library(client: InferenceServerClient) -> None:
    library, text = PolarityModel(MODEL_REPO / "cvib" / "1"), TEXTS[0]
    got = infer(client, "cvib", text, START=[4, 31], END=[10, 38])
    assert np.array_equal(got.as_numpy("PROBABILITIES"), library.probabilities(text, [(4, 10), (31, 38)]))
    assert got.as_numpy("VERSION")[0].decode() == library.version


def test_several_texts_in_a_request_answer_as_each_alone(client: InferenceServerClient) -> None:
    texts = strings("TEXT", *TEXTS)
    got = client.infer("aspects", [texts], client_timeout=30)
    counts = got.as_numpy("COUNT")
    alone = [infer(client, "aspects", text) for text in TEXTS]
    assert counts.tolist() == [len(one.as_numpy("START")) for one in alone]
    for name in ("START", "END", "CONFIDENCE"):
        assert np.array_equal(got.as_numpy(name), np.concatenate([one.as_numpy(name) for one in alone]))
    inputs = [texts]
    for name, values in (("COUNT", counts), ("START", got.as_numpy("START")), ("END", got.as_numpy("END"))):
        inputs.append(InferInput(name, [len(values)], "INT32"))
        inputs[-1].set_data_from_numpy(values)
    rows = client.infer("cvib", inputs, client_timeout=30).as_numpy("PROBABILITIES")
    each = [
        infer(client, "cvib", text, START=one.as_numpy("START").tolist(), END=one.as_numpy("END").tolist())
        for text, one in zip(TEXTS, alone, strict=True)
    ]
    assert len(rows) > 3
    assert np.array_equal(rows, np.concatenate([one.as_numpy("PROBABILITIES") for one in each]))


def test_known_words_are_aspects_as_in_the_library(client: InferenceServerClient) -> None:
    library, known = AspectModel(MODEL_REPO / "aspects" / "1"), ["quux", "view though", "no such word"]
    texts = ["Well, the quux is what I came for, and the Quuxes I got.", *TEXTS]
    got = client.infer("aspects", [strings("TEXT", *texts), strings("KNOWN", *known)], client_timeout=30)
    expected = library.find_all(texts, known=known)
    assert expected != library.find_all(texts)
    assert got.as_numpy("COUNT").tolist() == [len(one) for one in expected]
    flat = [aspect for one in expected for aspect in one]
    found = zip(*(got.as_numpy(name).tolist() for name in ("START", "END", "ASPECT_ID")), strict=True)
    assert list(found) == [(a.start, a.end, a.aspect_id.encode()) for a in flat]
    assert got.as_numpy("CONFIDENCE").tolist() == pytest.approx([a.confidence for a in flat], abs=1e-6)


def test_a_request_is_bounded_as_a_whole(client: InferenceServerClient) -> None:
    def refused(model: str, *inputs: InferInput) -> str:
        with pytest.raises(InferenceServerException) as err:
            client.infer(model, list(inputs), client_timeout=30)
        return str(err.value.message())

    def spans(count: int) -> list[InferInput]:
        out = []
        for name, values in (("COUNT", [count // 2] * 2), ("START", [0] * count), ("END", [3] * count)):
            out.append(InferInput(name, [len(values)], "INT32"))
            out[-1].set_data_from_numpy(np.array(values, np.int32))
        return out

    most, half = strings("TEXT", *["a"] * MAX_TEXTS), "so " * (MAX_CHARACTERS // 6)
    assert client.infer("aspects", [most], client_timeout=30).as_numpy("COUNT").tolist() == [0] * MAX_TEXTS
    for model in ("aspects", "cvib"):
        more = spans(2) if model == "cvib" else []
        message = refused(model, strings("TEXT", *["a"] * (MAX_TEXTS + 1)), *more)
        assert f"invalid: TEXT holds {MAX_TEXTS + 1} texts, {MAX_TEXTS} are the most of a request" in message
        message = refused(model, strings("TEXT", half, half + "and so"), *more)
        assert f"{MAX_CHARACTERS} are the most of a request" in message
    message = refused("cvib", strings("TEXT", "The lid.", "The fan."), *spans(MAX_SPANS + 2))
    assert f"{MAX_SPANS} are the most of a request" in message
    for known in (["a"] * (MAX_KNOWN + 1), ["a" * (MAX_CHARACTERS + 1)]):
        assert "invalid: KNOWN holds" in refused("aspects", strings("TEXT", "The lid."), strings("KNOWN", *known))


def test_an_error_nobody_foresaw_answers_its_own_request_and_tells_no_text(client: InferenceServerClient) -> None:
    for model, more in (("aspects", {}), ("cvib", {"START": [0], "END": [4]})):
        with pytest.raises(InferenceServerException, match=r"KeyError at .*:\d+") as err:
            infer(client, model, FAULT, **more)
        assert "breaks" not in str(err.value.message())
        assert infer(client, model, TEXTS[0], **more).as_numpy("VERSION") is not None


def test_the_version_stands_in_the_config(client: InferenceServerClient) -> None:
    for model in ("cvib", "aspects"):
        config = client.get_model_config(model).config
        assert config.parameters["version"].string_value


def test_a_bad_request_fails_alone(client: InferenceServerClient) -> None:
    def bad(model: str, text: str | bytes, **vectors: list[int]) -> str:
        with pytest.raises(InferenceServerException) as err:
            infer(client, model, text, **vectors)
        return str(err.value.message())

    def good(_: int) -> list[float]:
        return [float(v) for v in infer(client, "cvib", TEXTS[0], START=[4], END=[10]).as_numpy("PROBABILITIES")[0]]

    alone = good(0)
    with ThreadPoolExecutor(4) as pool:
        answers = pool.map(good, range(40))
        messages = [
            bad("cvib", TEXTS[0], START=[4], END=[999]),
            bad("cvib", TEXTS[0], START=[4, 5], END=[10]),
            bad("cvib", b"\xff\xfe", START=[0], END=[1]),
            bad("cvib", TEXTS[0], START=[4], END=[10], COUNT=[2]),
            bad("aspects", b"\xff\xfe"),
            bad("cvib", TEXTS[0], START=[-1], END=[10]),
            bad("aspects", "x" * (MAX_CHARACTERS + 1)),
            bad("cvib", "x" * (MAX_CHARACTERS + 1), START=[0], END=[1]),
        ]
        foreign = [bad("aspects", GERMAN), bad("cvib", GERMAN, START=[4], END=[8])]
        assert all("invalid: " in m for m in messages), messages
        assert all("unsupported_language: the text is not English" in m for m in foreign), foreign
        assert not any("Akku" in m for m in foreign)
        assert all(a == alone for a in answers)
