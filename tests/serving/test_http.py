"""The gateway's endpoints on a real socket, with friendly and hostile clients."""

from __future__ import annotations

import json
import socket
from contextlib import suppress
from typing import Any

import httpx
import pytest

from include.serving.__main__ import main
from include.settings import Settings
from tests.serving.conftest import Gateways, RunningGateway, World

INFER = "/v2/models/echo/infer"


def tensor(**changes: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "question", "shape": [1], "datatype": "BYTES", "data": ["why?"]} | changes]}


def test_ask_answers_with_who_answered(gateway: RunningGateway) -> None:
    body = gateway.ask("why?", unit_id="u1", family="echo").json()
    assert body["answer"] == "1.0.0: why?"
    assert body["citations"][0] == {"passage": "1:1", "text": "text of 1:1"}
    assert (body["family"], body["model_version"], body["variant"], body["generation"]) == (
        "echo",
        "1.0.0",
        "champion",
        1,
    )
    assert len(body["model_digest"]) == 64 and body["latency_ms"] > 0
    assert (
        gateway.client.post("/v1/ask", json={"inputs": {"question": "as inputs"}}).json()["answer"]
        == "1.0.0: as inputs"
    )


def test_open_inference_protocol(gateway: RunningGateway) -> None:
    client = gateway.client
    assert client.get("/v2").json()["name"] == "windtunnel"
    assert client.get("/v2/health/live").json() == {"live": True}
    assert client.get("/v2/health/ready").json() == {"ready": True}
    metadata = client.get("/v2/models/echo").json()
    assert metadata["versions"] == ["1.0.0"]
    assert metadata["inputs"] == [{"name": "question", "datatype": "BYTES", "shape": [-1]}]
    assert {"name": "passage_ids", "datatype": "BYTES", "shape": [-1, 2]} in metadata["outputs"]
    assert client.get("/v2/models/echo/versions/1.0.0/ready").json() == {"name": "echo", "ready": True}
    for missing in ("/v2/models/nobody", "/v2/models/echo/versions/9.9.9", "/v2/models/echo/versions/9.9.9/ready"):
        assert client.get(missing).status_code == 404

    answer = client.post(INFER, json={"id": "mine", **tensor(shape=[2, 1], data=[["a"], ["b"]])}).json()
    assert (answer["id"], answer["model_name"], answer["model_version"]) == ("mine", "echo", "1.0.0")
    outputs = {output["name"]: output for output in answer["outputs"]}
    assert outputs["answer"] == {"name": "answer", "shape": [2], "datatype": "BYTES", "data": ["1.0.0: a", "1.0.0: b"]}
    assert outputs["passage_ids"]["shape"] == [2, 2] and len(outputs["passage_ids"]["data"]) == 4
    only = client.post(INFER, json={**tensor(), "outputs": [{"name": "score"}]}).json()
    assert [output["name"] for output in only["outputs"]] == ["score"]


def test_a_request_that_names_its_version_is_no_part_of_a_comparison(gateway: RunningGateway) -> None:
    before = gateway.champion()["requests"]
    answer = gateway.client.post("/v2/models/echo/versions/1.0.0/infer", json=tensor()).json()
    assert answer["model_version"] == "1.0.0" and answer["parameters"]["variant"] == "champion"
    assert gateway.champion()["requests"] == before
    labels = 'family="echo",lane="direct",role="champion",version="1.0.0"'
    assert f"windtunnel_requests_total{{{labels}}} 1.0" in gateway.client.get("/metrics").text


def test_the_unit_of_an_inference_request_is_its_parameter_or_header(gateway: RunningGateway) -> None:
    by_parameter = gateway.client.post(INFER, json={**tensor(), "parameters": {"unit_id": "u"}})
    by_header = gateway.client.post(INFER, json=tensor(), headers={"x-unit-id": "u"})
    assert by_parameter.status_code == by_header.status_code == 200
    assert gateway.client.post(INFER, json=tensor(), headers={"x-unit-id": "u" * 300}).status_code == 422


def test_feedback_labels_the_answer_once(gateway: RunningGateway) -> None:
    before = gateway.champion()
    request_id = gateway.ask().json()["request_id"]
    right = {"request_id": request_id, "truth": {"citations": ["1:1"]}}
    given = gateway.client.post("/v1/feedback", json=right).json()
    assert given == {"request_id": request_id, "labels": {"hit_at_1": 1.0}, "counted": True}
    assert gateway.client.post("/v1/feedback", json=right).json()["counted"] is False
    rows = gateway.client.post(INFER, json=tensor(shape=[2], data=["a", "b"])).json()
    second = f"{rows['parameters']['request_id']}.1"
    assert gateway.client.post("/v1/feedback", json={"request_id": second, "helpful": False}).json()["counted"] is True
    after = gateway.champion()
    assert after["requests"] - before["requests"] == 2
    assert after["labels"] - before["labels"] == 1
    assert after["quality"]["hit_at_1"]["mean"] == 1.0
    assert after["quality"]["helpful"] == {"mean": 0.0, "n": 1, "sd": None}


@pytest.mark.slow
def test_a_failing_model_is_an_error_of_the_variant_and_a_refusal_is_not(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0", fail_on="boom", refuse_on="rubbish"))
    gateway = start_gateway()
    gateway.wait_generation(1)
    failed = gateway.ask("boom")
    assert failed.status_code == 500 and failed.json()["request_id"] and "echo broke" not in failed.text
    refused = gateway.ask("rubbish")
    assert refused.status_code == 422 and "does not like" in refused.json()["error"]
    champion = gateway.champion()
    assert (champion["requests"], champion["errors"]) == (1, 1)
    assert gateway.ask("fine").status_code == 200


HOSTILE: list[tuple[str, str, bytes, int]] = [
    ("not JSON", "/v1/ask", b"question=why", 400),
    ("empty", "/v1/ask", b"", 400),
    ("cut short", "/v1/ask", b'{"question": "wh', 400),
    ("not UTF-8", "/v1/ask", b'{"question": "\xff\xfe"}', 400),
    ("lone surrogate", "/v1/ask", b'{"question": "\\ud800"}', 400),
    ("NaN", "/v1/ask", b'{"inputs": {"question": NaN}}', 400),
    ("nested too deep", "/v1/ask", b'{"inputs": ' + b"[" * 5000 + b"]" * 5000 + b"}", 400),
    ("a list", "/v1/ask", b"[1, 2]", 422),
    ("null", "/v1/ask", b"null", 422),
    ("no question", "/v1/ask", b"{}", 422),
    ("question is a number", "/v1/ask", b'{"question": 7}', 422),
    ("question is null", "/v1/ask", b'{"question": null}', 422),
    ("question is a list", "/v1/ask", b'{"question": ["why?"]}', 422),
    ("question is blank", "/v1/ask", b'{"question": " \\n\\u0000 "}', 200),
    ("question is white", "/v1/ask", b'{"question": " \\n "}', 422),
    ("question is long", "/v1/ask", json.dumps({"question": "w" * 20_000}).encode(), 422),
    ("both forms", "/v1/ask", b'{"question": "a", "inputs": {"question": "b"}}', 422),
    ("unknown key", "/v1/ask", b'{"question": "why?", "unitid": "u"}', 422),
    ("unknown input", "/v1/ask", b'{"inputs": {"question": "a", "other": 1}}', 422),
    ("missing input", "/v1/ask", b'{"inputs": {}}', 422),
    ("input is an object", "/v1/ask", b'{"inputs": {"question": {"a": 1}}}', 422),
    ("unit is a number", "/v1/ask", b'{"question": "why?", "unit_id": 7}', 422),
    ("unit is empty", "/v1/ask", b'{"question": "why?", "unit_id": ""}', 422),
    ("unknown family", "/v1/ask", b'{"question": "why?", "family": "nobody"}', 404),
    ("large", "/v1/ask", b'{"question": "' + b"w" * (1 << 20) + b'"}', 413),
    ("no request id", "/v1/feedback", b'{"truth": {}}', 422),
    ("nothing to say", "/v1/feedback", b'{"request_id": "x"}', 422),
    ("helpful is text", "/v1/feedback", b'{"request_id": "x", "helpful": "yes"}', 422),
    ("truth is a list", "/v1/feedback", b'{"request_id": "x", "truth": []}', 422),
    ("unknown id", "/v1/feedback", b'{"request_id": "x", "helpful": true}', 404),
    ("huge number", INFER, b'{"inputs": [], "id": 1' + b"0" * 5000 + b"}", 400),
    ("no inputs", INFER, b'{"inputs": []}', 422),
    ("inputs is an object", INFER, b'{"inputs": {"question": "a"}}', 422),
    ("wrong name", INFER, json.dumps(tensor(name="other")).encode(), 422),
    ("wrong datatype", INFER, json.dumps(tensor(datatype="FP32")).encode(), 422),
    ("number as text", INFER, json.dumps(tensor(data=[1])).encode(), 422),
    ("shape too large", INFER, json.dumps(tensor(shape=[3])).encode(), 422),
    ("shape too small", INFER, json.dumps(tensor(data=["a", "b"])).encode(), 422),
    ("no shape", INFER, json.dumps(tensor(shape=[])).encode(), 422),
    ("no rows", INFER, json.dumps(tensor(shape=[0], data=[])).encode(), 422),
    ("negative shape", INFER, json.dumps(tensor(shape=[-1])).encode(), 422),
    ("fractional shape", INFER, json.dumps(tensor(shape=[1.5])).encode(), 422),
    ("endless shape", INFER, json.dumps(tensor(shape=[10**30])).encode(), 422),
    ("many dimensions", INFER, json.dumps(tensor(shape=[1] * 9)).encode(), 422),
    ("too many rows", INFER, json.dumps(tensor(shape=[300], data=["a"] * 300)).encode(), 422),
    ("twice", INFER, json.dumps({"inputs": tensor()["inputs"] * 2}).encode(), 422),
    ("unknown output", INFER, json.dumps({**tensor(), "outputs": [{"name": "other"}]}).encode(), 422),
    ("unit parameter is a list", INFER, json.dumps({**tensor(), "parameters": {"unit_id": []}}).encode(), 422),
    ("unknown version", "/v2/models/echo/versions/9/infer", json.dumps(tensor()).encode(), 404),
    ("unknown model", "/v2/models/nobody/infer", json.dumps(tensor()).encode(), 404),
]  # fmt: skip


def test_hostile_bodies_get_a_sentence_and_never_a_5xx(gateway: RunningGateway) -> None:
    wrong: list[str] = []
    for name, path, body, status in HOSTILE:
        response = gateway.client.post(path, content=body)
        said = response.json().get("error") if response.status_code != 200 else "answered"
        if response.status_code != status or not said or len(response.content) > 2000:
            wrong.append(f"{name}: {response.status_code} instead of {status}: {response.text[:300]}")
    assert not wrong, "\n".join(wrong)
    assert gateway.ask("still there?").status_code == 200
    assert gateway.champion()["errors"] == 0


def test_truth_that_the_family_does_not_understand_is_refused(gateway: RunningGateway) -> None:
    labels = gateway.champion()["labels"]
    request_id = gateway.ask().json()["request_id"]
    for truth in ({}, {"citations": 7}, {"citations": None}):
        response = gateway.client.post("/v1/feedback", json={"request_id": request_id, "truth": truth})
        assert response.status_code == 422 and "does not fit" in response.json()["error"]
    assert gateway.champion()["labels"] == labels


def test_hostile_requests_besides_the_body(gateway: RunningGateway) -> None:
    client = gateway.client
    assert client.get("/v1/ask").status_code == 405
    assert client.delete("/v1/routes").status_code == 405
    assert client.get("/../../etc/passwd").status_code == 404
    assert client.get("/v1/stats?generation=x").status_code == 422
    assert client.get("/v1/stats?generation=99").status_code == 404
    assert client.get("/v1/stats?family=nobody").status_code == 404
    gzip = client.post("/v1/ask", content=b"\x1f\x8b", headers={"content-encoding": "gzip"})
    assert gzip.status_code == 415
    binary = client.post(INFER, content=b"{}", headers={"inference-header-content-length": "3"})
    assert binary.status_code == 400
    for answer in (gzip, binary, client.get("/v1/ask"), client.get("/nowhere")):
        assert answer.json()["error"]


def test_an_endless_body_is_cut_off(gateway: RunningGateway) -> None:
    def endless() -> Any:
        for _ in range(64):
            yield b"w" * 65536

    with suppress(httpx.TransportError):  # the gateway may hang up before the client has sent all: as good
        assert gateway.client.post("/v1/ask", content=endless()).status_code == 413
    assert gateway.ask().status_code == 200


def test_clients_that_go_away_do_no_harm(gateway: RunningGateway) -> None:
    address = (httpx.URL(gateway.url).host, httpx.URL(gateway.url).port or 0)
    for message in (b"POST /v1/ask HTTP/1.1\r\ncontent-length: 500\r\n\r\n{", b"rubbish\r\n\r\n", b"\0" * 100):
        with socket.create_connection(address) as connection:
            connection.sendall(message)
    assert gateway.ask().status_code == 200


@pytest.mark.slow
def test_without_a_route_there_is_a_503_with_retry_after(start_gateway: Gateways, world: World) -> None:
    gateway = start_gateway()
    response = gateway.ask()
    assert response.status_code == 503 and int(response.headers["retry-after"]) > 0
    assert "no model serves yet" in response.json()["error"]
    assert gateway.client.get("/v2/health/ready").status_code == 503
    assert gateway.client.get("/v2/health/live").status_code == 200
    assert gateway.client.get("/v1/routes").json() == {}
    gateway.wait_generation(world.route(world.model("1.0.0")))
    assert gateway.ask().status_code == 200


@pytest.mark.slow
def test_several_families_must_be_named(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0"))
    world.route(world.model("2.0.0", family="other"), family="other")
    gateway = start_gateway()
    gateway.wait_for(lambda: len(gateway.client.get("/v1/routes").json()) == 2)
    response = gateway.ask()
    assert response.status_code == 422 and "echo, other" in response.json()["error"]
    assert gateway.ask(family="other").json()["model_version"] == "2.0.0"


@pytest.mark.slow
def test_with_a_key_only_who_has_it_is_answered(world: World, start_gateway: Gateways) -> None:
    key = "a-long-enough-secret-key"
    world.route(world.model("1.0.0"))
    gateway = start_gateway("--host", "0.0.0.0", WINDTUNNEL_GATEWAY_API_KEY=key, headers={"x-api-key": key})
    gateway.wait_generation(1)
    assert gateway.ask().status_code == 200
    stranger = httpx.Client(base_url=gateway.url)
    assert stranger.get("/v2/health/ready").status_code == 200
    for headers in ({}, {"authorization": "Bearer wrong"}, {"x-api-key": ""}, {"authorization": f"Basic {key}"}):
        response = stranger.post("/v1/ask", json={"question": "why?"}, headers=headers)
        assert response.status_code == 401 and "why" not in response.text
    assert stranger.get("/v1/routes").status_code == 401
    assert stranger.get("/v1/routes", headers={"authorization": f"Bearer {key}"}).status_code == 200


def test_prometheus_metrics_agree_with_the_counts(gateway: RunningGateway) -> None:
    for _ in range(3):
        gateway.ask()
    requests = float(gateway.champion()["requests"])
    lines = gateway.client.get("/metrics").text.splitlines()
    labels = 'family="echo",lane="live",role="champion",version="1.0.0"'
    assert f"windtunnel_requests_total{{{labels}}} {requests}" in lines
    assert f"windtunnel_latency_seconds_count{{{labels}}} {requests}" in lines
    live = [line for line in lines if line.startswith("windtunnel_latency_seconds_bucket") and 'lane="live"' in line]
    buckets = [line for line in live if 'le="+Inf"' in line]
    assert sum(float(line.split()[-1]) for line in buckets) == requests
    assert 'windtunnel_route_generation{family="echo"} 1.0' in lines
    assert "windtunnel_ledger_up 1.0" in lines


@pytest.mark.parametrize("taken", ["taken", "99999"])
def test_a_port_that_cannot_be_had_is_said_in_a_sentence(
    taken: str, settings: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = str(other.getsockname()[1]) if taken == "taken" else taken
        assert main(["--port", port]) == 2
    assert "cannot listen on 127.0.0.1" in capsys.readouterr().err


def test_numbers_that_a_model_says_of_itself_are_averaged_without_a_label(
    world: World, start_gateway: Gateways
) -> None:
    challenger = world.model("2.0.0", confidence=float("nan"))
    generation = world.route(world.model("1.0.0", confidence=0.75), challenger, challenger_share=0.5, rollout="r")
    gateway = start_gateway("--workers", "2")
    gateway.wait_generation(generation)
    for number in range(40):
        assert gateway.ask("why?", unit_id=f"u{number}").status_code == 200
    variants = gateway.stats()["variants"]
    champion = variants["champion"]
    assert champion["quality"] == {"confidence": {"mean": 0.75, "n": champion["requests"], "sd": 0.0}}
    assert (champion["labels"], variants["challenger"]["quality"]) == (0, {})
    assert variants["challenger"]["requests"] + champion["requests"] == 40
