"""A gateway among slow, greedy and broken neighbours: nobody takes it away from the others."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from include.serving.keys import Client
from include.serving.predictions import read_predictions
from tests.serving.conftest import Gateways, World, numbers_model, served

KEY, OTHER = "a-long-enough-secret-key", "another-secret-of-a-client"
ASK = b'POST /v1/ask HTTP/1.1\r\nhost: x\r\ncontent-length: 19\r\n\r\n{"question":"why?"}'


def connect(address: tuple[str, int]) -> socket.socket:
    return socket.create_connection(address, timeout=10)


def said(connection: socket.socket) -> bytes:
    """Everything that comes until the gateway hangs up."""
    parts: list[bytes] = []
    with suppress(ConnectionResetError):
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def test_slow_clients_are_cut_off_and_hold_up_nobody(world: World) -> None:
    world.route(world.model("1.0.0"))
    with served(world, read_seconds=0.3, max_text=1_000_000) as gateway:
        head, body, reader = (connect(gateway.address) for _ in range(3))
        head.sendall(ASK[:40])
        body.sendall(ASK[:-5])
        question = b'{"question":"%s"}' % (b"w" * 900_000)
        reader.settimeout(0.3)
        with suppress(OSError):  # it asks for long answers until the gateway stops reading, and takes none of them
            for _ in range(50):
                reader.sendall(b"POST /v1/ask HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(question))
                reader.sendall(question)
        assert gateway.ask().status_code == 200
        assert b" 408 " in said(body) and said(head) == b""
        deadline = time.monotonic() + 10
        while len(gateway.server.server_state.connections) > 1:  # the one that asks here
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert gateway.gateway.admission.under_way == 0
        for connection in (head, body, reader):
            connection.close()


def test_a_head_without_end_is_refused(world: World) -> None:
    with served(world) as gateway, connect(gateway.address) as connection:
        connection.sendall(b"GET /v2 HTTP/1.1\r\n")
        with suppress(OSError):
            for number in range(4000):
                connection.sendall(b"x-header-%d: %s\r\n" % (number, b"w" * 100))
        assert b" 431 " in said(connection) or gateway.client.get("/v2").status_code == 200
        assert len(gateway.server.server_state.connections) <= 1
        assert gateway.client.get("/v2").status_code == 200


def test_the_rest_of_a_body_that_was_not_wanted_is_no_head(world: World) -> None:
    """A refusal does not wait for the body; what then comes of it must not be taken for a next request's head."""
    with served(world) as gateway, connect(gateway.address) as connection:
        connection.sendall(b"POST /nowhere HTTP/1.1\r\nhost: x\r\ncontent-length: 300000\r\n\r\n")
        connection.sendall(b"w" * 300_000 + b"GET /v2 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        answers = said(connection)
    assert answers.count(b"HTTP/1.1 ") == 2 and b" 404 " in answers and b'"windtunnel"' in answers


def test_connections_beyond_the_bound_are_told_so(world: World) -> None:
    world.route(world.model("1.0.0"))
    with served(world, max_connections=4) as gateway:
        assert gateway.ask().status_code == 200
        idle = [connect(gateway.address) for _ in range(3)]
        with connect(gateway.address) as refused:
            answer = said(refused)
        assert b" 503 " in answer and json.loads(answer.rpartition(b"\r\n\r\n")[2])["error"]
        assert gateway.ask().status_code == 200
        for connection in idle:
            connection.close()


def test_a_family_whose_model_hangs_takes_no_other_down(world: World) -> None:
    """Its own requests fail, first by time and then at once; the other family does not notice."""
    world.route(world.model("1.0.0"))
    world.route(world.model("1.0.0", family="stuck", hang_on="hang"), family="stuck")
    with served(world, threads=1, max_batch=1, answer_seconds=0.2) as gateway, ThreadPoolExecutor(16) as clients:
        while len(gateway.gateway.watcher.tables) < 2:
            time.sleep(0.01)

        def ask(number: int) -> tuple[bool, int]:
            family = "echo" if number % 2 else "stuck"
            return family == "echo", gateway.ask("hang", family=family).status_code

        statuses = list(clients.map(ask, range(60)))
        assert {status for is_echo, status in statuses if is_echo} == {200}
        assert {status for is_echo, status in statuses if not is_echo} <= {503, 504}
        responses = [gateway.ask("hang", family="stuck")]
        while responses[-1].status_code == 504 and len(responses) < 10:  # until nothing of it is left to hang
            responses.append(gateway.ask("hang", family="stuck"))
        response = responses[-1]
        assert response.status_code == 503 and response.headers["retry-after"] and response.json()["request_id"]
        assert gateway.client.get("/v2/models/stuck/ready").status_code == 503
        assert gateway.client.get("/v2/models/echo/ready").status_code == 200
        assert gateway.client.get("/v2/health/ready").status_code == 200
        counted = gateway.client.get("/v1/stats", params={"family": "stuck"}).json()["variants"]["champion"]
        assert (
            counted["errors"] == counted["requests"] == 30 + len(responses)
        )  # the refusals too: they are the model's fault
        assert gateway.metric("windtunnel_model_stuck") == 1.0
        world.release()


def test_more_than_a_slow_model_can_answer_is_turned_away_and_the_rest_is_answered_in_time(world: World) -> None:
    world.route(world.model("1.0.0", latency_ms=50))
    limits = {"threads": 1, "max_batch": 1, "max_wait_seconds": 0.3, "answer_seconds": 5.0}
    with served(world, **limits) as gateway, ThreadPoolExecutor(40) as clients:
        gateway.ask()
        responses = list(clients.map(lambda _: gateway.ask(), range(80)))
        statuses = [response.status_code for response in responses]
        assert set(statuses) == {200, 503} and statuses.count(200) >= 6
        assert all(int(found.headers["retry-after"]) >= 1 for found in responses if found.status_code == 503)
        assert gateway.metric("windtunnel_turned_away_total") == statuses.count(503)
        assert gateway.client.get("/v1/stats").json()["variants"]["champion"]["errors"] == 0


def test_one_client_over_its_limit_gets_429_and_the_others_do_not(world: World) -> None:
    world.route(world.model("1.0.0", latency_ms=1))
    clients = (
        Client("shop", (hashlib.sha256(KEY.encode()).digest(),), rate=0.5),
        Client("bank", (hashlib.sha256(OTHER.encode()).digest(),)),
    )
    with served(world, clients=clients, headers={"x-api-key": KEY}) as gateway:
        assert gateway.ask().status_code == 200
        refused = gateway.ask()
        assert refused.status_code == 429 and refused.headers["retry-after"] == "2" and refused.json()["error"]
        for _ in range(3):
            assert gateway.client.post("/v1/ask", json={"question": "a"}, headers={"x-api-key": OTHER}).is_success
        assert gateway.client.get("/v1/routes").status_code == 200  # looking is not limited
        assert 'windtunnel_client_refused_total{client="shop"} 1.0' in gateway.client.get("/metrics").text


def test_large_bodies_do_not_hold_up_small_ones(world: World) -> None:
    world.route(world.model("1.0.0"))
    with served(world, max_text=1_000_000) as gateway, ThreadPoolExecutor(4) as clients:
        large = "why? " * 100_000
        answers = [clients.submit(gateway.ask, large) for _ in range(6)]
        assert gateway.ask().status_code == 200
        assert {answer.result().status_code for answer in answers} == {200}
        response = gateway.client.post("/v1/ask", content=b'{"inputs": {"question": [' + b'"a",' * 70_000 + b'"a"]}}')
        assert response.status_code == 422 and "65536" in response.text


def test_feedback_that_a_family_takes_long_to_label_holds_up_no_question(world: World) -> None:
    world.route(world.model("1.0.0"))
    with served(world, answer_seconds=0.3) as gateway, ThreadPoolExecutor(8) as clients:
        ids = [gateway.ask().json()["request_id"] for _ in range(4)]
        truth = {"citations": ["1:1"], "hang": True}
        given = [
            clients.submit(gateway.client.post, "/v1/feedback", json={"request_id": each, "truth": truth})
            for each in ids
        ]
        assert gateway.ask().status_code == 200
        assert {answer.result().status_code for answer in given} == {504}
        assert gateway.ask().status_code == 200
        world.release()


def test_a_challenger_that_hangs_over_its_labels_holds_up_nobody(world: World) -> None:
    """The truth may be faster than the shadow: then the challenger's own code labels its answer when it comes."""
    world.route(world.model("1.0.0"), world.model("2.0.0", latency_ms=200, hang_label=True), shadow=True)
    with served(world, answer_seconds=1.0) as gateway:
        request_id = gateway.ask().json()["request_id"]
        truth = {"request_id": request_id, "truth": {"citations": ["1:1"]}}
        assert gateway.client.post("/v1/feedback", json=truth).json()["counted"] is True
        deadline = time.monotonic() + 10
        while gateway.gateway.labelling.under_way == 0:
            assert time.monotonic() < deadline
            assert gateway.ask().status_code == 200
        assert gateway.ask().status_code == 200
        world.release()


def test_told_to_stop_it_is_not_ready_first_and_answers_until_the_end(world: World) -> None:
    world.route(world.model("1.0.0", latency_ms=200))
    with served(world, drain_seconds=0.5) as gateway, ThreadPoolExecutor(4) as clients:
        under_way = clients.submit(gateway.ask, "before")
        time.sleep(0.05)
        gateway.server.handle_exit(signal.SIGTERM, None)
        ready = gateway.client.get("/v2/health/ready")
        assert ready.status_code == 503 and ready.json() == {"ready": False}
        assert ready.headers["connection"] == "close"
        assert gateway.client.get("/v2/health/live").status_code == 200
        assert gateway.ask("meanwhile").status_code == 200
        assert under_way.result().status_code == 200
        deadline = time.monotonic() + 10
        while True:
            late = _tried(gateway.client, "late")
            if late is None:
                break
            assert late == 200 and time.monotonic() < deadline
    assert gateway.gateway.log.pending == 0 and gateway.gateway.log.written >= 2


@pytest.mark.slow
def test_a_balancer_that_looks_at_readiness_loses_no_request_when_a_gateway_goes(
    world: World, start_gateway: Gateways
) -> None:
    """Several workers, SIGTERM under load: whoever stops asking once the gateway is not ready sees no failure."""
    world.route(world.model("1.0.0", latency_ms=5))
    gateway = start_gateway("--workers", "2", WINDTUNNEL_GATEWAY_DRAIN_SECONDS="2")
    gateway.wait_generation(1)
    told = threading.Event()
    statuses: list[int] = []
    readiness: list[int] = []

    def balance() -> None:
        while True:
            readiness.append(httpx.get(f"{gateway.url}/v2/health/ready").status_code)
            if readiness[-1] != 200:
                return
            for _ in range(5):
                statuses.append(httpx.post(f"{gateway.url}/v1/ask", json={"question": "why?"}).status_code)
            told.set()

    with ThreadPoolExecutor(4) as clients:
        asking = [clients.submit(balance) for _ in range(4)]
        told.wait(20)
        gateway.process.send_signal(signal.SIGTERM)
        for each in asking:
            each.result()
    assert set(statuses) == {200} and readiness.count(503) == 4
    assert gateway.process.wait(timeout=30) == 0
    now = datetime.now(UTC)
    rows = list(read_predictions(world.store, "echo", now - timedelta(hours=1), now + timedelta(hours=1)))
    assert len(rows) == len({row["request_id"] for row in rows}) == len(statuses)


def test_vectors_of_several_lengths_at_once_each_get_their_own_sum(world: World) -> None:
    """Batches are of one form, whatever comes in between; no request meets another's values."""
    world.route(numbers_model(world, "1.0.0"), family="numbers")
    with served(world, threads=1) as gateway, ThreadPoolExecutor(12) as clients:

        def total(number: int) -> tuple[float, float]:
            length = 1 + number % 4
            vector = {"name": "vector", "shape": [1, length], "datatype": "FP32", "data": [number] * length}
            flag = {"name": "on", "shape": [1], "datatype": "BOOL", "data": [True]}
            count = {"name": "n", "shape": [1], "datatype": "INT64", "data": [1]}
            answer = gateway.client.post("/v2/models/numbers/infer", json={"inputs": [vector, flag, count]}).json()
            return answer["outputs"][0]["data"][0], number * length + 1.0

        assert all(told == right for told, right in clients.map(total, range(120)))


def _tried(client: httpx.Client, question: str) -> Any:
    try:
        return client.post("/v1/ask", json={"question": question}).status_code
    except httpx.TransportError:
        return None


@pytest.mark.parametrize("header", ["abc", "a/b:c-1._=+"])
def test_a_request_id_comes_back_as_it_was_sent(world: World, header: str) -> None:
    world.route(world.model("1.0.0"))
    with served(world) as gateway:
        answer = gateway.client.post("/v1/ask", json={"question": "a"}, headers={"x-request-id": header})
        assert answer.headers["x-request-id"] == header
        assert answer.json()["request_id"] != header  # whoever knows that one may label the answer
        own = gateway.ask()
        assert own.headers["x-request-id"] == own.json()["request_id"]
        strange = gateway.client.get("/v2", headers={"x-request-id": "<script>"})
        assert "script" not in strange.headers["x-request-id"]
