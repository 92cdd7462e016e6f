"""The real Airflow, MLflow and gateway: up, settings applied, one component killed, down, up again."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from include.cli.stack import client
from include.embedded.airflow_settings import apply_settings, read_settings
from include.embedded.layout import read_json
from include.embedded.processes import leftovers
from include.embedded.stack import Stack
from include.settings import Settings
from tests.embedded.conftest import is_running, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def stack(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    made = Stack(settings)
    yield made
    made.stop()


def programs(stack: Stack) -> dict[str, int]:
    record = read_json(stack.layout.run / "airflow.json")
    return {name: program["pid"] for name, program in record["programs"].items()} if record else {}


def test_the_whole_system(stack: Stack) -> None:
    assert stack.start()
    view = stack.wait(timeout=300)
    api = client(view, stack)
    settings = read_settings()
    assert any("pool training" in change for change in apply_settings(api, settings))
    assert apply_settings(api, settings) == []
    assert api.import_errors() == []
    assert httpx.get(f"{view.services['gateway'].url}/v2/health/live").is_success
    assert httpx.get(f"{view.services['mlflow'].url}/version").is_success
    assert httpx.get(f"{view.services['airflow'].url}/api/v2/dags").status_code == 401, "nobody gets in without a login"
    docs = f"{view.services['airflow'].url}/windtunnel/data-docs/train__compliance_qa/manual__1"
    assert httpx.get(docs).status_code == 401, "our own pages neither"

    time.sleep(21)  # a component that dies sooner counts as one that never came up
    before = programs(stack)
    os.kill(before["triggerer"], signal.SIGKILL)
    wait_for(lambda: programs(stack)["triggerer"] not in (None, before["triggerer"]), 30)
    assert {name: pid for name, pid in programs(stack).items() if name != "triggerer"} == {
        name: pid for name, pid in before.items() if name != "triggerer"
    }

    running, began = programs(stack), time.monotonic()
    assert stack.stop()
    assert time.monotonic() - began < 30
    assert not any(is_running(pid) for pid in running.values())
    assert leftovers(stack.layout.home) == []

    assert stack.start()
    again = stack.wait(timeout=300)
    assert again.ports == view.ports
    assert apply_settings(client(again, stack), settings) == [], "the database, the login and the keys are the same"
