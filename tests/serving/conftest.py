"""A real ledger, a real store, echo models, and gateways as processes on real sockets."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.release.ledger import Ledger
from include.release.routing import Role, RoutingTable, Variant
from include.serving.config import GatewayConfig
from include.serving.gateway import Gateway
from include.serving.server import GatewayServer
from include.serving.tracing import Tracing
from include.settings import PROJECT_ROOT, Settings
from include.store.database import open_database
from include.store.objects import ObjectStore, open_store
from tests.fakes.echo_family import RELEASE, echo_package
from tests.fakes.numbers_family import numbers_package

FAMILY = "echo"


@dataclass
class World:
    """An installation with echo models in its store; `route` is what a release would do."""

    settings: Settings
    store: ObjectStore
    ledger: Ledger
    folder: Path
    generations: dict[str, int] = field(default_factory=dict)

    def model(self, version: str, role: Role = Role.CHAMPION, family: str = FAMILY, **settings: Any) -> Variant:
        """A published model whose answers begin with its version."""
        folder = self.folder / f"{family}-{version}-{time.monotonic_ns()}"
        digest = echo_package(self.store, folder, family, name=version, **settings)
        return Variant(role=role, version=version, digest=digest)

    def route(self, champion: Variant, challenger: Variant | None = None, family: str = FAMILY, **fields: Any) -> int:
        """Makes this the family's routing table; returns the generation."""
        table = RoutingTable(
            champion=champion.model_copy(update={"role": Role.CHAMPION}),
            challenger=challenger.model_copy(update={"role": Role.CHALLENGER}) if challenger else None,
            **fields,
        )
        expected = self.generations.get(family, 0)
        at = datetime.now(UTC)
        self.generations[family] = self.ledger.swap_route(family, expected, table, reason="test", actor="test", at=at)
        return self.generations[family]

    def release(self) -> None:
        """Lets go what hangs in this process."""
        RELEASE.set()


def numbers_model(world: World, version: str) -> Variant:
    """A published model of the family `numbers`."""
    digest = numbers_package(world.store, world.folder / f"numbers-{version}")
    return Variant(role=Role.CHAMPION, version=version, digest=digest)


@dataclass
class RunningGateway:
    """A gateway process and a client of it."""

    process: subprocess.Popen[str]
    url: str
    client: httpx.Client

    def ask(self, question: str = "why?", **fields: Any) -> httpx.Response:
        return self.client.post("/v1/ask", json={"question": question, **fields})

    def routes(self, family: str = FAMILY) -> dict[str, Any]:
        return self.client.get("/v1/routes").json().get(family, {})

    def stats(self, **params: Any) -> dict[str, Any]:
        return self.client.get("/v1/stats", params=params).json()

    def champion(self) -> dict[str, Any]:
        return self.stats()["variants"]["champion"]

    def wait_for(self, condition: Callable[[], Any], seconds: float = 15.0) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            assert self.process.poll() is None, "the gateway died"
            assert time.monotonic() < deadline, f"did not come true; routes: {self.routes()}"
            time.sleep(0.02)

    def wait_generation(self, generation: int, family: str = FAMILY) -> None:
        self.wait_for(lambda: self.routes(family).get("generation") == generation)

    def stop(self, how: int = signal.SIGTERM) -> int:
        """Sends the signal and returns the exit status."""
        self.client.close()
        if self.process.poll() is None:
            self.process.send_signal(how)
        return self.process.wait(timeout=20)


@dataclass
class Gateways:
    """Starts gateways on an installation, and ends them."""

    settings: Settings
    folder: Path
    running: list[RunningGateway] = field(default_factory=list)

    def __call__(self, *arguments: str, headers: dict[str, str] | None = None, **environ: str) -> RunningGateway:
        command = [sys.executable, "-m", "include.serving", "--port", "0", *arguments]
        log = self.folder / f"gateway-{len(self.running)}.log"
        env = {**os.environ, **self.settings.to_env(), **environ}
        with log.open("w") as stderr:
            process = subprocess.Popen(
                command, cwd=PROJECT_ROOT, env=env, stdout=subprocess.PIPE, stderr=stderr, text=True
            )
        assert process.stdout is not None
        url = process.stdout.readline().strip().rpartition(" ")[2].replace("0.0.0.0", "127.0.0.1")
        assert url.startswith("http"), log.read_text()
        gateway = RunningGateway(process, url, httpx.Client(base_url=url, timeout=20, headers=headers))
        self.running.append(gateway)
        return gateway

    def end(self) -> None:
        for gateway in self.running:
            with suppress(ProcessLookupError):
                gateway.process.kill()
            gateway.process.wait()


def make_world(settings: Settings, folder: Path) -> World:
    engine = open_database(settings.database_url)
    return World(settings, open_store(settings.store_url), Ledger(engine), folder / "packages")


@pytest.fixture
def world(settings: Settings, tmp_path: Path) -> Iterator[World]:
    RELEASE.clear()
    yield make_world(settings, tmp_path)
    RELEASE.set()


@pytest.fixture
def start_gateway(settings: Settings, tmp_path: Path) -> Iterator[Gateways]:
    gateways = Gateways(settings, tmp_path)
    yield gateways
    gateways.end()


@dataclass
class Served:
    """A gateway that a thread of the tests' own process serves on a real socket."""

    gateway: Gateway
    server: GatewayServer
    url: str
    client: httpx.Client

    @property
    def address(self) -> tuple[str, int]:
        url = httpx.URL(self.url)
        return url.host, url.port or 0

    def ask(self, question: str = "why?", **fields: Any) -> httpx.Response:
        return self.client.post("/v1/ask", json={"question": question, **fields})

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return sum(float(line.rpartition(" ")[2]) for line in lines if line.partition(" ")[0].partition("{")[0] == name)


@contextmanager
def served(
    world: World, *, headers: dict[str, str] | None = None, tracing: Tracing | None = None, **limits: Any
) -> Iterator[Served]:
    """Serves an installation until the end of the block, when its log has been written."""
    gateway = Gateway.build(GatewayConfig(port=0, **{"poll_seconds": 0.05, **limits}), world.settings)
    gateway.tracing = tracing or gateway.tracing
    listener = socket.create_server(("127.0.0.1", 0))
    server = GatewayServer(gateway)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    thread.start()
    with httpx.Client(base_url=url, timeout=20, headers=headers) as client:
        deadline = time.monotonic() + 15
        while world.generations and not gateway.ready:
            assert time.monotonic() < deadline, gateway.watcher.failed
            time.sleep(0.01)
        yield Served(gateway, server, url, client)
    server.should_exit = True
    thread.join(timeout=15)
    assert not thread.is_alive(), "the server does not end"


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningGateway]:
    """A gateway that serves version 1.0.0 of the echo family; shared by the tests of a module."""
    folder = tmp_path_factory.mktemp("shared")
    settings = Settings.from_env({"WINDTUNNEL_HOME": str(folder / "windtunnel")})
    world = make_world(settings, folder)
    gateways = Gateways(settings, folder)
    started = gateways()
    started.wait_generation(world.route(world.model("1.0.0")))
    yield started
    gateways.end()
