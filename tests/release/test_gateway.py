"""What the engine asks the gateway, over a real socket."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from include.release.gateway import GatewayError, stats, wait_for_generation
from include.release.rollback import all_to
from include.release.routing import Role, Variant
from include.settings import Settings
from include.targets import asking


@dataclass
class Answers:
    """What the server says next, and what it was asked."""

    bodies: list[Any] = field(default_factory=list)
    status: int = 200
    asked: list[str] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)

    def next(self) -> Any:
        return self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]


@pytest.fixture
def server(settings: Settings) -> Iterator[tuple[Settings, Answers]]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers.asked.append(self.path)
            answers.keys.append(self.headers.get("Authorization"))
            body = answers.next()
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(answers.status)
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None: ...

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, daemon=True).start()
    yield replace(settings, gateway_url=f"http://127.0.0.1:{http.server_port}"), answers
    http.shutdown()
    http.server_close()


Server = tuple[Settings, Answers]


def routes(generation: int | None, failed: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"tiny": {"generation": generation, "failed": failed}}


def test_it_waits_until_the_generation_serves(server: Server) -> None:
    settings, answers = server
    answers.bodies = [{}, routes(None), routes(4), routes(5)]
    wait_for_generation(settings, "tiny", 5, timeout=10)
    assert len(answers.asked) == 4


def test_a_newer_generation_is_as_good(server: Server) -> None:
    settings, answers = server
    answers.bodies = [routes(7)]
    assert wait_for_generation(settings, "tiny", 5, timeout=1) < 1


def test_a_model_that_does_not_load_is_told_at_once(server: Server) -> None:
    settings, answers = server
    answers.bodies = [routes(4, {"generation": 5, "error": "PackageError: model.onnx was altered"})]
    with pytest.raises(GatewayError, match="altered"):
        wait_for_generation(settings, "tiny", 5, timeout=60)


def test_the_failure_of_an_older_generation_does_not_matter(server: Server) -> None:
    settings, answers = server
    answers.bodies = [routes(3, {"generation": 4, "error": "old"}), routes(5)]
    wait_for_generation(settings, "tiny", 5, timeout=10)


def test_a_gateway_of_another_ledger_is_not_believed(server: Server) -> None:
    settings, answers = server
    ours, theirs = (all_to(Variant(role=Role.CHAMPION, version="1.0.0", digest=name * 64)) for name in "ab")
    answers.bodies = [{"tiny": {"generation": 5, "table": theirs.model_dump(mode="json"), "failed": None}}]
    with pytest.raises(GatewayError, match="another routing table"):
        wait_for_generation(settings, "tiny", 5, table=ours, timeout=5)
    assert wait_for_generation(settings, "tiny", 5, table=theirs, timeout=5) < 5
    assert wait_for_generation(settings, "tiny", 4, table=ours, timeout=5) < 5  # a newer one is nobody's business


def test_waiting_is_bounded_and_says_what_was_seen_last(server: Server) -> None:
    settings, answers = server
    answers.bodies = [routes(4)]
    ticks = iter(range(100))
    with pytest.raises(GatewayError, match="serves generation 4"):
        asking.wait_for_generation(
            lambda: [settings.gateway_url], "tiny", 5, timeout=10, clock=lambda: next(ticks), sleep=lambda _: None
        )


def test_a_gateway_that_is_away_is_told(settings: Settings) -> None:
    nowhere = replace(settings, gateway_url="http://127.0.0.1:9")
    with pytest.raises(GatewayError, match="cannot be asked"):
        stats(nowhere, "tiny", 1)
    with pytest.raises(GatewayError, match="did not take over"):
        wait_for_generation(nowhere, "tiny", 1, timeout=0.1)


@pytest.mark.parametrize(("status", "body"), [(404, {"error": "not loaded"}), (500, b"boom"), (200, b"<html>")])
def test_an_answer_that_is_none_is_an_error(server: Server, status: int, body: Any) -> None:
    settings, answers = server
    answers.status, answers.bodies = status, [body]
    with pytest.raises(GatewayError):
        stats(settings, "tiny", 1)


def test_the_key_is_sent_where_there_is_one(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    settings, answers = server
    answers.bodies = [{"variants": {}}]
    stats(settings, "tiny", 3)
    monkeypatch.setenv("WINDTUNNEL_GATEWAY_API_KEY", "k" * 20)
    stats(settings, "tiny", 3)
    assert answers.keys == [None, f"Bearer {'k' * 20}"]
    assert answers.asked[0] == "/v1/stats?family=tiny&generation=3"
