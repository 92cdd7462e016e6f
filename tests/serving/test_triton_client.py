"""Triton's own HTTP client against the gateway, as it comes: the protocol, its binary tensors and the index."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from include.settings import Settings
from tests.serving.conftest import Served, make_world, numbers_model, served


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("triton")
    world = make_world(Settings.from_env({"WINDTUNNEL_HOME": str(folder / "windtunnel")}), folder)
    world.route(world.model("1.0.0", fail_on="boom"), world.model("2.0.0"), challenger_share=0.5, rollout="r1")
    world.route(numbers_model(world, "1.0.0"), family="numbers")
    with served(world) as gateway:
        while len(gateway.gateway.watcher.tables) < 2:
            time.sleep(0.01)
        yield gateway


@pytest.fixture
def client(gateway: Served) -> Iterator[InferenceServerClient]:
    with InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        yield client


def texts(*questions: str, binary: bool = True) -> InferInput:
    tensor = InferInput("question", [len(questions)], "BYTES")
    tensor.set_data_from_numpy(np.array([each.encode() for each in questions], dtype=np.object_), binary_data=binary)
    return tensor


def test_it_is_alive_ready_and_known(client: InferenceServerClient) -> None:
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("echo") and client.is_model_ready("echo", "2.0.0")
    assert not client.is_model_ready("echo", "3.0.0") and not client.is_model_ready("nobody")
    server = client.get_server_metadata()
    assert server["name"] == "windtunnel" and "binary_tensor_data" in server["extensions"]
    model = client.get_model_metadata("echo")
    assert sorted(model["versions"]) == ["1.0.0", "2.0.0"]
    assert model["inputs"] == [{"name": "question", "datatype": "BYTES", "shape": [-1]}]
    assert client.get_model_metadata("echo", "2.0.0")["versions"] == ["2.0.0"]


def test_the_index_names_every_version(client: InferenceServerClient) -> None:
    index = client.get_model_repository_index()
    assert sorted((entry["name"], entry["version"], entry["state"]) for entry in index) == [
        ("echo", "1.0.0", "READY"),
        ("echo", "2.0.0", "READY"),
        ("numbers", "1.0.0", "READY"),
    ]


@pytest.mark.parametrize("binary_in", [True, False])
@pytest.mark.parametrize("binary_out", [True, False, None])
def test_texts_in_and_out(client: InferenceServerClient, binary_in: bool, binary_out: bool | None) -> None:
    names = ("answer", "passage_ids", "score")
    outputs = None if binary_out is None else [InferRequestedOutput(name, binary_data=binary_out) for name in names]
    asked = texts("wer prüft?", "why\n", binary=binary_in)
    result = client.infer("echo", [asked], model_version="1.0.0", outputs=outputs, request_id="mine")
    answers = result.as_numpy("answer")
    decoded = [each.decode() if isinstance(each, bytes) else each for each in answers]
    assert decoded == ["1.0.0: wer prüft?", "1.0.0: why\n"]
    assert result.as_numpy("passage_ids").shape == (2, 2)
    scores = result.as_numpy("score")
    assert scores.dtype == np.float32 and scores.tolist() == [10.0, 4.0]
    response = result.get_response()
    assert (response["id"], response["model_name"], response["model_version"]) == ("mine", "echo", "1.0.0")
    assert ("data" in response["outputs"][0]) is (binary_out is False)


def test_numbers_in_and_out(client: InferenceServerClient) -> None:
    vectors = np.array([[1.5, -2.0, 3.25], [0.0, 1.0, 2.0]], dtype=np.float32)
    flags = np.array([[True], [False]])
    counts = np.array([3, -4], dtype=np.int64)
    for binary in (True, False):
        inputs = [InferInput("vector", [2, 3], "FP32"), InferInput("on", [2, 1], "BOOL"), InferInput("n", [2], "INT64")]
        for tensor, values in zip(inputs, (vectors, flags, counts), strict=True):
            tensor.set_data_from_numpy(values, binary_data=binary)
        result = client.infer("numbers", inputs)
        assert result.as_numpy("total").dtype == np.float64
        assert result.as_numpy("total").tolist() == [2.75 + 3, -1.0]
        assert result.as_numpy("doubled").tolist() == [[3.0, -4.0, 6.5], [0.0, 2.0, 4.0]]
        assert result.as_numpy("negative").tolist() == [False, True]


def test_without_a_version_the_unit_decides(client: InferenceServerClient) -> None:
    versions = {}
    for number in range(40):
        parameters = {"unit_id": f"u{number}"}
        found = {
            client.infer("echo", [texts("a")], parameters=parameters).get_response()["model_version"] for _ in "ab"
        }
        assert len(found) == 1
        versions[number] = found.pop()
    assert set(versions.values()) == {"1.0.0", "2.0.0"}


def test_several_requests_at_once(client: InferenceServerClient, gateway: Served) -> None:
    with InferenceServerClient(gateway.url.removeprefix("http://"), concurrency=4) as many:
        asked = [many.async_infer("echo", [texts(f"q{n}")], model_version="2.0.0") for n in range(12)]
        answers = [each.get_result().as_numpy("answer")[0].decode() for each in asked]
    assert answers == [f"2.0.0: q{n}" for n in range(12)]


@pytest.mark.parametrize(
    ("model", "version", "tensor", "status", "said"),
    [
        ("nobody", "", texts("a"), "404", "no model family 'nobody'"),
        ("echo", "9.9.9", texts("a"), "404", "version '9.9.9' is not loaded"),
        ("echo", "", texts(" "), "422", "question: is empty"),
        ("echo", "1.0.0", texts("boom"), "500", "the model failed"),
        ("numbers", "", texts("a"), "422", "unknown input 'question'"),
    ],
)
def test_errors_are_told_as_the_protocol_says(
    client: InferenceServerClient, model: str, version: str, tensor: InferInput, status: str, said: str
) -> None:
    with pytest.raises(InferenceServerException, match=said) as caught:
        client.infer(model, [tensor], model_version=version)
    assert caught.value.status() == status


def test_a_timeout_of_the_client_is_honoured(tmp_path: Path) -> None:
    world = make_world(Settings.from_env({"WINDTUNNEL_HOME": str(tmp_path / "windtunnel")}), tmp_path)
    world.route(world.model("1.0.0", latency_ms=300))
    with served(world) as gateway, InferenceServerClient(gateway.url.removeprefix("http://")) as client:
        with pytest.raises(InferenceServerException, match="in time") as caught:
            client.infer("echo", [texts("a")], timeout=20_000)
        assert caught.value.status() == "504"
