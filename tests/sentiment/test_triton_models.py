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
GERMAN = "Der Akku ist leider sehr schwach und die Lieferung kam zu spät."


@pytest.fixture(name="client", scope="module")
def _client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InferenceServerClient]:
    home = tmp_path_factory.mktemp("triton")
    for name in ("cvib", "aspects"):
        shutil.copytree(MODEL_REPO / name, home / "models" / name, ignore=shutil.ignore_patterns("__pycache__"))
    server = Triton(home, Ports(home), [home / "models"])
    server.start(seconds=150)
    client = InferenceServerClient(server.address)
    try:
        yield client
    finally:
        client.close()
        server.stop()


def infer(client: InferenceServerClient, model: str, text: str | bytes, **vectors: list[int]) -> InferResult:
    raw = text if isinstance(text, bytes) else text.encode()
    inputs = [InferInput("TEXT", [1], "BYTES")]
    inputs[0].set_data_from_numpy(np.array([raw], np.object_))
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
    texts = InferInput("TEXT", [len(TEXTS)], "BYTES")
    texts.set_data_from_numpy(np.array([text.encode() for text in TEXTS], np.object_))
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
