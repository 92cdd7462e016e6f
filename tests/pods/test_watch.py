"""Watching a pod through an API that is slow, away or forbidding: a real client, and a server with a script."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from kubernetes_asyncio.client import ApiClient, Configuration

from include.pods import watch as watch_module
from include.pods.contract import PodError
from include.pods.watch import PodEnd, PodWatch, Watched
from tests.failures.pods import pod, terminated, waiting

RUNNING = pod(phase="Running", state={"running": {"startedAt": "2026-11-21T16:00:00Z"}})
DONE = pod(phase="Succeeded", state=terminated(0, "Completed"))
FAILED = pod(phase="Failed", state=terminated(1))
PENDING = pod(phase="Pending")


def line(number: int) -> bytes:
    return f"2026-11-21T16:00:{number:02d}.5Z line {number}\n".encode()


class Server:
    """Gives the next of `looks` for the pod (an int is a status) and of `logs` for its log; the last for ever."""

    def __init__(self, looks: list[Any], logs: list[bytes]) -> None:
        self.looks, self.logs = list(looks), list(logs)
        self.asked: list[dict[str, str]] = []

    async def pod(self, request: web.Request) -> web.StreamResponse:
        look = self.looks.pop(0) if len(self.looks) > 1 else self.looks[0]
        if isinstance(look, int):
            return web.json_response({"message": "as the script says"}, status=look)
        return web.json_response(look)

    async def log(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(self.logs.pop(0) if len(self.logs) > 1 else self.logs[0])
        return response


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_PENDING_POLL", "_POLL", "_AWAY_POLL", "_PACE_SECONDS"):
        monkeypatch.setattr(watch_module, name, 0.01)


def watched(
    looks: list[Any],
    logs: list[bytes] | None = None,
    *,
    pending_seconds: float = 60,
    deadline: float | None = None,
    check: Callable[[Server], None] = lambda server: None,
) -> tuple[Watched, list[str]]:
    """How the watch ends, and what it tells."""
    told: list[str] = []

    async def run() -> Watched:
        server = Server(looks, logs or [b""])
        app = web.Application()
        app.router.add_get("/api/v1/namespaces/ml/pods/x", server.pod)
        app.router.add_get("/api/v1/namespaces/ml/pods/x/log", server.log)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = runner.addresses[0][1]

        @asynccontextmanager
        async def connect() -> AsyncIterator[Any]:
            async with ApiClient(Configuration(host=f"http://127.0.0.1:{port}")) as client:
                yield client

        try:
            watch = PodWatch(connect, "x", "ml", tell=told.append, pending_seconds=pending_seconds, deadline=deadline)
            found = await asyncio.wait_for(watch.run(), 60)
        finally:
            await runner.cleanup()
        check(server)
        return found

    return asyncio.run(run()), told


def test_a_pods_log_is_told_to_its_end() -> None:
    end, told = watched([PENDING, RUNNING, DONE], [line(1) + line(2)])
    assert end.end is PodEnd.SUCCEEDED and end.pod == DONE
    assert told == ["line 1", "line 2"] and end.tail == told


def test_of_a_log_that_breaks_off_no_line_is_lost_or_told_twice() -> None:
    def check(server: Server) -> None:
        assert "tailLines" in server.asked[0] and "sinceSeconds" in server.asked[-1]

    logs = [line(1) + line(2)[:-3], line(1) + line(2), line(1) + line(2) + line(3)]
    looks = [*[RUNNING] * 40, FAILED]
    end, told = watched(looks, [logs[1], logs[1], logs[2]], check=check)
    assert end.end is PodEnd.FAILED and told == ["line 1", "line 2", "line 3"]


@pytest.mark.parametrize("status", [500, 503, 429, 401])
def test_an_api_that_is_away_is_waited_for_and_said_once(status: int) -> None:
    end, told = watched([RUNNING, status, status, status, DONE], [line(1)])
    assert end.end is PodEnd.SUCCEEDED
    said = [text for text in told if "Kubernetes API is" in text]
    assert len(said) == 2 and "away" in said[0] and said[1] == "the Kubernetes API is back"
    assert [text for text in told if text not in said] == ["line 1"]


def test_an_api_that_forbids_is_an_error_with_advice() -> None:
    with pytest.raises(PodError, match="refuses to show the pod x \\(403\\)"):
        watched([403])


def test_a_deleted_pod_is_gone_and_what_was_seen_last_is_kept() -> None:
    end, _ = watched([RUNNING, RUNNING, 404])
    assert end.end is PodEnd.GONE and end.pod == RUNNING
    assert watched([404])[0] == Watched(PodEnd.GONE, None, [])


def test_a_deletion_that_nobody_confirms_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_GONE_SECONDS", 0.05)
    ending = pod(phase="Running", state={"running": {}}, deleted=True)
    ending["metadata"]["deletionGracePeriodSeconds"] = 0
    assert watched([ending])[0].end is PodEnd.GONE


def test_a_pod_that_finds_no_place_is_given_up() -> None:
    assert watched([PENDING], pending_seconds=0.1)[0].end is PodEnd.PENDING
    assert watched([*[PENDING] * 3, RUNNING, DONE], pending_seconds=60)[0].end is PodEnd.SUCCEEDED


def test_an_image_that_is_not_there_is_given_up_sooner(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch_module, "_STUCK_SECONDS", 0.1)
    stuck = pod(phase="Pending", state=waiting("ImagePullBackOff", "not found"))
    assert watched([stuck], pending_seconds=3600)[0].end is PodEnd.PENDING


@pytest.mark.parametrize("look", [RUNNING, PENDING, 503])
def test_the_time_limit_holds_whatever_the_pod_and_the_api_do(look: Any) -> None:
    assert watched([look], deadline=time.time() + 0.2)[0].end is PodEnd.TIMEOUT


def test_a_container_beside_the_step_does_not_keep_it() -> None:
    proxied = pod(phase="Running", state=terminated(0, "Completed"))
    proxied["status"]["containerStatuses"].append({"name": "proxy", "state": {"running": {}}})
    assert watched([RUNNING, proxied])[0].end is PodEnd.SUCCEEDED
