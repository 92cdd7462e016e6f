"""Several worker processes are one gateway: for clients, for releases, for who watches, and when some are killed."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from include.release.routing import assign
from include.serving.peers import slot_of
from tests.serving.conftest import FAMILY, Gateways, RunningGateway, World

pytestmark = pytest.mark.slow


def start(start_gateway: Gateways, workers: int = 2) -> RunningGateway:
    """A gateway all of whose workers take requests."""
    gateway = start_gateway("--workers", str(workers), "--threads", "2")
    gateway.wait_for(lambda: health(gateway)["live"] == workers)
    return gateway


def health(gateway: RunningGateway) -> dict[str, Any]:
    return gateway.client.get("/v1/workers").json()


def pids(gateway: RunningGateway) -> list[int]:
    return [worker["pid"] for worker in health(gateway)["workers"]]


def kill(gateway: RunningGateway, slot: int) -> None:
    """Kills a worker, and waits until another process has its place."""
    before = health(gateway)["workers"][slot]
    os.kill(before["pid"], signal.SIGKILL)

    def is_back() -> bool:
        now = asked_anew(gateway, "/v1/workers")["workers"][slot]
        return now["restarts"] > before["restarts"] and now["state"] == "live"

    gateway.wait_for(is_back)


def asked_anew(gateway: RunningGateway, path: str) -> dict[str, Any]:
    """Over a connection of its own: the one that is open may be that of a worker that was killed."""
    for _ in range(100):
        try:
            return httpx.get(gateway.url + path, timeout=20).json()
        except httpx.HTTPError:
            time.sleep(0.02)
    raise AssertionError("the gateway does not answer")


def asked_over(gateway: RunningGateway, connections: int, each: int, **fields: Any) -> list[dict[str, Any]]:
    """Answers from so many connections, which the workers share between them."""
    clients = [httpx.Client(base_url=gateway.url, timeout=20) for _ in range(connections)]
    answers = []
    for _ in range(each):
        for client in clients:
            response = client.post("/v1/ask", json={"question": "why?", **fields})
            assert response.status_code == 200, response.text
            answers.append(response.json())
    for client in clients:
        client.close()
    return answers


def metric(gateway: RunningGateway, name: str, **labels: str) -> float:
    text = httpx.get(gateway.url + "/metrics").text
    return sum(
        sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name == name and labels.items() <= sample.labels.items()
    )


def test_workers_share_clients_and_whichever_is_asked_answers_for_all(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0"))
    gateway = start(start_gateway)
    answers = asked_over(gateway, connections=8, each=5)
    by_worker = {slot: sum(slot_of(answer["request_id"]) == slot for answer in answers) for slot in (0, 1)}
    assert min(by_worker.values()) >= 10, by_worker
    for _ in range(6):  # over fresh connections, so both workers are asked
        shown = asked_anew(gateway, f"/v1/stats?family={FAMILY}")
        assert shown["variants"]["champion"]["requests"] == 40
        assert metric(gateway, "windtunnel_requests_total", lane="live") == 40
        assert metric(gateway, "windtunnel_latency_seconds_count", lane="live") == 40
        assert asked_anew(gateway, "/v2/health/ready") == {"ready": True}
    ids = [answer["request_id"] for answer in answers]
    for request_id in ids:  # most come to a worker that did not give the answer
        body = {"request_id": request_id, "truth": {"citations": ["1:1"]}}
        assert httpx.post(gateway.url + "/v1/feedback", json=body).json()["counted"] is True
    again = [httpx.post(gateway.url + "/v1/feedback", json={"request_id": one, "helpful": True}) for one in ids[:4]]
    assert all(response.json()["counted"] for response in again)
    champion = asked_anew(gateway, f"/v1/stats?family={FAMILY}")["variants"]["champion"]
    assert champion["labels"] == 40 and champion["quality"]["hit_at_1"] == {"mean": 1.0, "n": 40, "sd": 0.0}
    assert champion["quality"]["helpful"]["n"] == 4
    unknown = {"request_id": "0" * 30 + "01", "helpful": True}
    assert httpx.post(gateway.url + "/v1/feedback", json=unknown).status_code == 404
    unfit = {"request_id": ids[0], "truth": {}}
    assert httpx.post(gateway.url + "/v1/feedback", json=unfit).status_code == 422
    assert gateway.stop() == 0


def test_a_change_of_traffic_is_one_moment_for_all_workers(world: World, start_gateway: Gateways) -> None:
    """An answer that was asked for after an answer of generation n had come is never of a generation before n."""
    models = [
        world.model(f"{number}.0.0", load_ms=200) for number in range(1, 8)
    ]  # one worker has each before the other
    world.route(models[0])
    gateway = start(start_gateway)
    newest, lock, stop = 0, threading.Lock(), threading.Event()
    wrong: list[str] = []
    count: list[int] = []

    def client(number: int) -> None:
        nonlocal newest
        with httpx.Client(base_url=gateway.url, timeout=20) as session:
            while not stop.is_set():
                unit = f"u{number}-{len(count) % 40}"
                least = newest
                response = session.post("/v1/ask", json={"question": "why?", "unit_id": unit})
                answer = response.json()
                route = world.ledger.route(FAMILY, answer["generation"])
                if response.status_code != 200 or answer["generation"] < least or route is None:
                    wrong.append(f"asked at {least}: {response.text}")
                elif assign(route.table, unit).version != answer["model_version"]:
                    wrong.append(f"{unit}: {response.text}")
                with lock:
                    newest = max(newest, answer["generation"])
                count.append(1)

    with ThreadPoolExecutor(6) as pool:
        for number in range(6):
            pool.submit(client, number)
        for step in range(6):
            old, new = models[step], models[step + 1]
            split = {"challenger": new, "challenger_share": 0.5, "rollout": f"r{step}"}
            gateway.wait_generation(world.route(old, **split) if step % 2 else world.route(new))
        stop.set()
    assert not wrong, wrong[:3]
    assert newest == 7 and len(count) > 100


def test_a_killed_worker_is_replaced_and_no_count_is_lost(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0"))
    gateway = start(start_gateway)
    asked_over(gateway, connections=4, each=5)
    for slot in (0, 1, 0):
        kill(gateway, slot)
        assert asked_anew(gateway, f"/v1/stats?family={FAMILY}")["variants"]["champion"]["requests"] >= 20
        asked_over(gateway, connections=4, each=5)
    shown = asked_anew(gateway, f"/v1/stats?family={FAMILY}")["variants"]["champion"]
    assert (shown["requests"], shown["errors"]) == (80, 0)
    assert metric(gateway, "windtunnel_requests_total", lane="live") == 80
    assert metric(gateway, "windtunnel_worker_restarts_total") == 3
    assert gateway.stop() == 0


def test_a_stage_goes_on_after_the_whole_gateway_was_killed(world: World, start_gateway: Gateways) -> None:
    generation = world.route(world.model("1.0.0"), world.model("2.0.0"), challenger_share=0.5, rollout="r1")
    gateway = start(start_gateway)
    answers = [answer for n in range(20) for answer in asked_over(gateway, 2, 1, unit_id=f"u{n}")]
    for answer in answers[:10]:
        body = {"request_id": answer["request_id"], "truth": {"citations": ["1:1"]}}
        assert httpx.post(gateway.url + "/v1/feedback", json=body).status_code == 200
    before = asked_anew(gateway, f"/v1/stats?family={FAMILY}")
    time.sleep(2.5)  # more than the interval at which counts are written
    running = pids(gateway)
    assert gateway.stop(signal.SIGKILL) == -signal.SIGKILL
    wait_until(lambda: not any(alive(pid) for pid in running))  # workers do not outlive their supervisor
    again = start(start_gateway)
    assert counts(asked_anew(again, f"/v1/stats?family={FAMILY}&generation={generation}")) == counts(before)
    asked_over(again, connections=2, each=5)
    assert sum(one["requests"] for one in counts(again.stats()).values()) == 50
    assert again.stop() == 0  # a clean stop loses nothing at all
    third = start(start_gateway)
    assert sum(one["requests"] for one in counts(third.stats()).values()) == 50


def test_requests_that_a_model_takes_its_process_down_with_are_errors_of_the_model(
    world: World, start_gateway: Gateways
) -> None:
    world.route(world.model("1.0.0"), world.model("2.0.0", die_on="boom"), challenger_share=1.0, rollout="r1")
    gateway = start(start_gateway)
    asked_over(gateway, connections=2, each=3)
    for number in range(3):
        with pytest.raises(httpx.HTTPError):
            httpx.post(gateway.url + "/v1/ask", json={"question": "boom"}, timeout=20)
        gateway.wait_for(lambda: asked_anew(gateway, "/v1/workers")["live"] == 2)
        gateway.wait_for(lambda: challenger(gateway)["errors"] == number + 1)
    assert challenger(gateway)["requests"] == 9
    gateway.client.close()


def test_a_package_that_kills_the_process_it_is_loaded_into_takes_nothing_down(
    world: World, start_gateway: Gateways
) -> None:
    good = world.model("1.0.0")
    world.route(good)
    gateway = start(start_gateway)
    bad = world.route(world.model("2.0.0", die_on_load=True))
    gateway.wait_for(lambda: (asked_anew(gateway, "/v1/routes")[FAMILY]["failed"] or {}).get("generation") == bad)
    for _ in range(20):
        assert httpx.post(gateway.url + "/v1/ask", json={"question": "q"}).json()["model_version"] == "1.0.0"
    assert sum(worker["restarts"] for worker in asked_anew(gateway, "/v1/workers")["workers"]) == 1
    back = world.route(good)
    gateway.wait_for(lambda: asked_anew(gateway, "/v1/routes")[FAMILY]["generation"] == back)
    assert asked_anew(gateway, "/v1/routes")[FAMILY]["failed"] is None
    gateway.client.close()


def challenger(gateway: RunningGateway) -> dict[str, Any]:
    return asked_anew(gateway, f"/v1/stats?family={FAMILY}")["variants"]["challenger"]


def counts(shown: dict[str, Any]) -> dict[str, Any]:
    kept = ("requests", "labels", "quality")
    return {name: {key: one[key] for key in kept} for name, one in shown["variants"].items()}


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = 15.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "did not come true"
        time.sleep(0.02)
