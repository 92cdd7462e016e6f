"""The gateway's log: one object a line, the ids of a request from all sides, and nothing of what was asked."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from include.serving.config import GatewayConfig
from include.serving.keys import Client, digest_of
from include.serving.logs import JsonLines, ServingLog, formatter
from include.serving.peers import gateway_of
from tests.serving.conftest import Served, World, served

KEY = "a-long-enough-secret-key"
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"x-request-id": "from-outside", "traceparent": f"00-{TRACE}-00f067aa0ba902b7-01", "x-api-key": KEY}


class Lines(logging.Handler):
    """Keeps what a gateway would write."""

    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(JsonLines())
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if not record.name.startswith("httpx"):  # the tests' own client
            self.texts.append(self.format(record))

    @property
    def requests(self) -> list[dict[str, Any]]:
        return [line for line in map(json.loads, self.texts) if line["logger"] == "windtunnel.request"]


@pytest.fixture
def lines() -> Iterator[Lines]:
    handler, root = Lines(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(logging.INFO)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


def ask_all(gateway: Served) -> None:
    for question in ("a secret question", "a secret boom", ""):
        gateway.client.post("/v1/ask?key=of-a-query", json={"question": question}, headers=HEADERS)
    gateway.client.get("/v2/health/live")


def clients() -> tuple[Client, ...]:
    return (Client("shop", (digest_of(KEY.encode()),)),)


def test_a_line_tells_who_asked_what_answered_and_how_long_it_took(world: World, lines: Lines) -> None:
    world.route(world.model("1.0.0", fail_on="boom"))
    with served(world, clients=clients(), log_requests="all", headers=HEADERS) as gateway:
        ask_all(gateway)
    answered, failed, refused, probe = lines.requests
    assert (answered["level"], answered["message"]) == ("info", "POST /v1/ask 200")
    assert (answered["client"], answered["model"], answered["path"]) == ("shop", "echo@1.0.0", "/v1/ask")
    assert (answered["client_request_id"], answered["trace_id"]) == ("from-outside", TRACE)
    assert gateway_of(answered["request_id"]) and answered["ms"] > 0
    assert (failed["level"], failed["status"], refused["status"]) == ("warning", 500, 422)
    assert probe["path"] == "/v2/health/live"
    for secret in ("secret", KEY, "of-a-query", digest_of(KEY.encode()).hex()):
        assert secret not in "".join(lines.texts)


def test_by_default_only_what_failed_is_told(world: World, lines: Lines) -> None:
    world.route(world.model("1.0.0", fail_on="boom"))
    with served(world) as gateway:
        ask_all(gateway)
    assert [line["status"] for line in lines.requests] == [500]


def test_payloads_are_quoted_where_that_is_asked_for(world: World, lines: Lines) -> None:
    world.route(world.model("1.0.0"))
    with served(world, log_requests="all", log_payloads=True) as gateway:
        gateway.ask("a long one " * 1000)
        gateway.client.post("/v1/ask", content=b"\xff")
    quoted = [line["payload"] for line in lines.requests if "payload" in line]
    assert quoted[0].startswith('{"question":"a long one') and len(quoted[0]) == 2000 and len(quoted) == 2


def test_an_error_is_one_line_with_its_traceback() -> None:
    try:
        raise ValueError("broken\nin two")
    except ValueError:
        record = logging.getLogger("x").makeRecord("x", 40, "f", 1, "it %s", ("failed",), __import__("sys").exc_info())
    text = JsonLines().format(record)
    line = json.loads(text)
    assert "\n" not in text and line["message"] == "it failed" and "ValueError: broken" in line["error"]
    assert isinstance(formatter(GatewayConfig(log_format="text")), logging.Formatter)
    assert "it failed" in formatter(GatewayConfig(log_format="text")).format(record)


def test_a_log_that_nobody_collects_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever reads the other end of stderr may stand still; the lines beyond the bound are dropped and counted."""
    monkeypatch.setattr("include.serving.logs._QUEUE", 10)
    go_on = threading.Event()

    class Stuck(JsonLines):
        def format(self, record: logging.LogRecord) -> str:
            go_on.wait(20)
            return super().format(record)

    monkeypatch.setattr("include.serving.logs.formatter", lambda _: Stuck())
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        log = ServingLog(GatewayConfig())
        for number in range(100):
            logging.getLogger("x").info("line %d", number)
        assert 85 <= log.dropped <= 90
        go_on.set()
        log.close()
    finally:
        root.handlers[:] = before
        root.setLevel(level)
    written = [json.loads(line)["message"] for line in capsys.readouterr().err.splitlines()]
    assert written[:2] == ["line 0", "line 1"] and written[-1].endswith("lines of this log found no room")
