"""The gateway keeps to its OpenAPI schema, whatever it is sent: a short fuzz, the same at every run.

CONTRIBUTING.md says how to run a long one.
"""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from include.settings import Settings
from tests.serving.conftest import Served, make_world, numbers_model, served

#: A schema cannot say that a tensor's values fit its shape, or which families are loaded.
SEMANTIC = [positive_data_acceptance]
SHORT = settings(
    max_examples=4, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
    suppress_health_check=list(HealthCheck),
)  # fmt: skip
OPERATIONS = (
    "ask", "feedback", "routes", "stats", "workers", "metrics", "server_metadata", "server_live", "server_ready",
    "repository_index", "model", "model_ready", "infer", "model_version", "model_ready_version", "infer_version",
)  # fmt: skip
WITH_INPUT = ("ask", "feedback", "stats", "repository_index", "infer", "infer_version")


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("openapi")
    world = make_world(Settings.from_env({"WINDTUNNEL_HOME": str(folder / "windtunnel")}), folder)
    world.route(world.model("1.0.0"))
    world.route(numbers_model(world, "1.0.0"), family="numbers")
    with served(world) as gateway:
        while len(gateway.gateway.watcher.tables) < 2:
            time.sleep(0.01)
        yield gateway


@pytest.fixture(scope="module")
def schema(gateway: Served) -> Any:
    return schemathesis.openapi.from_url(f"{gateway.url}/openapi.json")


def operation(schema: Any, name: str) -> APIOperation[Any, Any]:
    found: APIOperation[Any, Any] = schema.find_operation_by_id(name)
    return found


def test_all_endpoints_are_in_the_schema(schema: Any) -> None:
    assert {found.ok().definition.raw["operationId"] for found in schema.get_all_operations()} == set(OPERATIONS)


@pytest.mark.parametrize(
    ("name", "mode"),
    [(name, GenerationMode.POSITIVE) for name in OPERATIONS] + [(name, GenerationMode.NEGATIVE) for name in WITH_INPUT],
    ids=lambda value: value if isinstance(value, str) else value.value,
)
def test_an_endpoint_keeps_to_the_schema(schema: Any, name: str, mode: GenerationMode) -> None:
    """No 5xx, known statuses and media types, replies of the documented form; what does not fit is refused."""
    asked = operation(schema, name)

    @SHORT
    @given(case=asked.as_strategy(generation_mode=mode))
    def fuzz(case: Any) -> None:
        for parameter in case.path_parameters:  # most names are nobody's
            case.path_parameters[parameter] = {"family": "echo", "version": "1.0.0"}[parameter]
        case.call_and_validate(excluded_checks=SEMANTIC)

    fuzz()


def test_the_examples_of_the_schema_are_answered(gateway: Served, schema: Any) -> None:
    raw = gateway.client.get("/openapi.json").json()
    for path, name in (("/v1/ask", "ask"), ("/v2/models/{family}/infer", "infer")):
        examples = raw["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
        assert sorted(examples) == ["echo", "numbers"]
        for family, example in examples.items():
            parameters = {"family": family} if "{family}" in path else None
            case = operation(schema, name).Case(path_parameters=parameters, body=example["value"])
            assert case.call_and_validate().status_code == 200


NUMBERS = st.one_of(
    st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.booleans(), st.none(), st.text()
)
DATA = st.lists(st.one_of(NUMBERS, st.lists(NUMBERS, max_size=3)), max_size=4)
SHAPE = st.lists(st.integers(0, 4), max_size=3)
KINDS = st.sampled_from(["FP32", "BOOL", "INT64", "BYTES", "FP8"])


@st.composite
def tensors(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Almost the tensors that the family `numbers` takes."""
    rows = draw(st.integers(1, 3))
    vectors = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=2 * rows, max_size=2 * rows)
    found: list[dict[str, Any]] = [
        {"name": "vector", "shape": [rows, 2], "datatype": "FP32", "data": draw(vectors)},
        {"name": "on", "shape": [rows], "datatype": "BOOL", "data": [True] * rows},
        {"name": "n", "shape": [rows, 1], "datatype": "INT64", "data": [draw(st.integers(-9, 9)) for _ in range(rows)]},
    ]
    wrong = draw(st.sampled_from(["nothing", "data", "shape", "datatype", "missing", "twice"]))
    if wrong in {"data", "shape", "datatype"}:
        found[draw(st.integers(0, 2))][wrong] = draw({"data": DATA, "shape": SHAPE, "datatype": KINDS}[wrong])
    return {"missing": found[1:], "twice": [*found, found[0]]}.get(wrong, found)


def test_tensors_that_almost_fit_are_answered_or_refused(schema: Any) -> None:
    statuses: set[int] = set()

    @settings(SHORT, max_examples=40)
    @given(inputs=tensors(), binary=st.booleans())
    def fuzz(inputs: list[dict[str, Any]], binary: bool) -> None:
        body = {"inputs": inputs, "parameters": {"binary_data_output": binary}}
        case = operation(schema, "infer").Case(path_parameters={"family": "numbers"}, body=body)
        statuses.add(case.call_and_validate(excluded_checks=SEMANTIC).status_code)

    fuzz()
    assert statuses == {200, 422}


def test_binary_bodies_that_almost_fit_are_answered_or_refused(gateway: Served) -> None:
    statuses: set[int] = set()
    vector = struct.pack("<2f", 1.0, 2.0)

    @settings(SHORT, max_examples=40)
    @given(
        raw=st.one_of(st.just(vector), st.binary(max_size=12)),
        size=st.one_of(st.just(8), st.integers(-1, 20)),
        off=st.sampled_from([0, 0, 0, 1, -1, 99]),
    )
    def fuzz(raw: bytes, size: int, off: int) -> None:
        inputs = [
            {"name": "vector", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": size}},
            {"name": "on", "shape": [1], "datatype": "BOOL", "data": [True]},
            {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]},
        ]
        header = json.dumps({"inputs": inputs}).encode()
        lengths = {"inference-header-content-length": str(len(header) + off)}
        response = gateway.client.post("/v2/models/numbers/infer", content=header + raw, headers=lengths)
        assert response.status_code == 200 or response.json()["error"]
        statuses.add(response.status_code)

    fuzz()
    assert statuses <= {200, 400, 422} and {200, 422} <= statuses


def test_with_keys_every_endpoint_but_the_probes_asks_for_one(gateway: Served) -> None:
    """As the schema says; tests/serving/test_http.py asks a gateway that has keys."""
    raw = gateway.client.get("/openapi.json").json()
    without = {path for path, found in raw["paths"].items() for each in found.values() if each.get("security") == []}
    assert without == {"/v2/health/live", "/v2/health/ready"}
    assert httpx.get(f"{gateway.url}/nowhere").json()["error"]
