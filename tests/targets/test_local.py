"""The local gateway as a serving target."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from include.errors import UserError
from include.settings import Settings
from include.targets.contract import TargetError
from include.targets.local import LocalTarget
from tests.serving.conftest import Gateways, make_world
from tests.targets.conformance import Bench, TargetConformance

pytestmark = pytest.mark.slow


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("local")
    environ = {
        "WINDTUNNEL_HOME": str(folder / "windtunnel"),
        "WINDTUNNEL_GATEWAY_URL": f"http://127.0.0.1:{free_port()}",
    }
    settings = Settings.from_env(environ)

    def addresses() -> dict[str, float]:
        try:
            httpx.get(f"{settings.gateway_url}/v2/health/live")
        except httpx.HTTPError:
            return {}
        return {settings.gateway_url: 1.0}

    made = Bench(lambda: LocalTarget(settings), make_world(settings, folder), 1, 1, addresses, environ)
    yield made
    made.target.undeploy()


class TestLocalTarget(TargetConformance):
    """See `TargetConformance`."""


def test_a_gateway_that_somebody_else_runs_is_used_and_left_alone(settings: Settings, start_gateway: Gateways) -> None:
    target = LocalTarget(replace(settings, gateway_url=start_gateway().url))
    assert target.deploy().changed == ()
    with pytest.raises(UserError, match="not started by `deploy`"):
        target.undeploy()
    assert target.status().wanted == 1


def test_a_gateway_that_cannot_start_says_why(settings: Settings) -> None:
    elsewhere = replace(settings, gateway_url="http://192.0.2.1:8900")
    with pytest.raises(UserError, match="only one on this machine"):
        LocalTarget(elsewhere).deploy()
    with socket.socket() as taken:  # by a program that answers nothing
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        target = LocalTarget(replace(settings, gateway_url=f"http://127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(TargetError, match=r"ended: .*already in use") as told:
            target.deploy()
        assert "another port" in told.value.fields["tail"]
        status = target.status()
    assert status.phase.value == "degraded" and "another port" in status.why[0]
