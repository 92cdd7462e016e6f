"""airflow_settings.yaml: read strictly, applied idempotently, against a stand-in for Airflow's API."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.embedded.airflow_api import AirflowApi, AirflowApiError
from include.embedded.airflow_settings import SETTINGS_FILE, SettingsError, apply_settings, read_settings

GOOD = """
airflow:
  connections:
    - {conn_id: a, conn_type: http, conn_host: h, conn_port: 80, conn_extra: {b: 1}}
    - {conn_id: b, conn_uri: "postgresql://user:p%40ss@host:5432/db?sslmode=require"}
    - {conn_id: , conn_type: , conn_host: }
  pools:
    - {pool_name: data, pool_slot: 2, pool_description: d}
  variables:
    - {variable_name: text, variable_value: hello}
    - {variable_name: number, variable_value: 3}
    - {variable_name: tree, variable_value: {a: [1, 2]}}
"""


class FakeAirflow(httpx.MockTransport):
    """Keeps connections, pools and variables as Airflow's API does; hides passwords."""

    def __init__(self) -> None:
        super().__init__(self.answer)
        self.kept: dict[str, dict[str, dict[str, Any]]] = {"connections": {}, "pools": {}, "variables": {}}
        self.writes: list[str] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(201, json={"access_token": "t"})
        assert request.headers["Authorization"] == "Bearer t"
        _, _, _, kind, *rest = request.url.path.split("/")
        name_field = {"connections": "connection_id", "pools": "name", "variables": "key"}[kind]
        kept = self.kept[kind]
        if request.method == "GET":
            found = kept.get(rest[0])
            shown = {**found, **({"password": "***"} if found.get("password") else {})} if found else None
            return httpx.Response(200, json=shown) if shown else httpx.Response(404, json={"detail": "no"})
        body = json.loads(request.content)
        self.writes.append(f"{request.method} {kind} {rest[0] if rest else body[name_field]}")
        if kind == "pools" and request.method == "PATCH":
            body["name"] = body.pop("pool")
        kept[body[name_field]] = body
        return httpx.Response(200, json=body)


@pytest.fixture
def airflow() -> FakeAirflow:
    return FakeAirflow()


@pytest.fixture
def api(airflow: FakeAirflow) -> AirflowApi:
    return AirflowApi("http://airflow", "admin", "x", transport=airflow)


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "airflow_settings.yaml"
    path.write_text(text)
    return path


def test_the_projects_own_file_has_the_pools_of_the_dags() -> None:
    pools = {pool.pool_name: pool.pool_slot for pool in read_settings(SETTINGS_FILE).pools}
    assert pools == {"data": 2, "training": 2, "release": 4}


def test_everything_is_applied_once(tmp_path: Path, api: AirflowApi, airflow: FakeAirflow) -> None:
    settings = read_settings(written(tmp_path, GOOD))
    assert len(apply_settings(api, settings)) == 6
    assert airflow.kept["connections"]["b"]["password"] == "p@ss"
    assert airflow.kept["connections"]["b"]["schema"] == "db"
    assert json.loads(airflow.kept["variables"]["tree"]["value"]) == {"a": [1, 2]}
    airflow.writes.clear()
    assert apply_settings(api, settings) == []
    assert airflow.writes == ["PATCH connections b"], "only what holds a password, which Airflow does not show"


def test_what_differs_is_changed_and_what_is_not_named_is_left(
    tmp_path: Path, api: AirflowApi, airflow: FakeAirflow
) -> None:
    airflow.kept["pools"] = {
        "data": {"name": "data", "slots": 9, "description": "d"},
        "mine": {"name": "mine", "slots": 1},
    }
    changed = apply_settings(api, read_settings(written(tmp_path, GOOD)))
    assert "pool data changed" in changed
    assert airflow.kept["pools"]["data"]["slots"] == 2
    assert airflow.kept["pools"]["mine"]["slots"] == 1


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("airflow: {pools: [{pool_name: p, pool_slot: many}]}", r"airflow\.pools\[0\] \(p\)\.pool_slot"),
        ("airflow: {pools: [{pool_name: p}]}", r"airflow\.pools\[0\] \(p\)\.pool_slot"),
        ("airflow: {pools: [{pool_name: p, pool_slot: 1, color: red}]}", r"\(p\)\.color: unknown key"),
        ("airflow: {pools: {pool_name: p}}", r"airflow\.pools: must be a list"),
        ("airflow: {pools: [3]}", r"airflow\.pools\[0\]: must be a mapping"),
        (
            "airflow: {pools: [{pool_name: p, pool_slot: 1}, {pool_name: p, pool_slot: 2}]}",
            r"\[1\] \(p\)\.pool_name: is there twice",
        ),
        ("airflow: {connections: [{conn_id: a b, conn_type: http}]}", r"\(a b\)\.conn_id"),
        ("airflow: {connections: [{conn_id: a}]}", r"give conn_type or conn_uri"),
        ("airflow: {connections: [{conn_id: a, conn_uri: 'nonsense'}]}", r"conn_uri must look like"),
        ("airflow: {connections: [{conn_id: a, conn_uri: 'http://h:notaport/'}]}", r"\(a\)"),
        ("airflow: {connections: [{conn_id: a, conn_type: x, conn_port: 70000}]}", r"\(a\)\.conn_port"),
        ("airflow: {variables: [{variable_value: 3}]}", r"airflow\.variables\[0\]\.variable_name"),
        ("airflow: {secrets: []}", "must hold"),
        ("pools: []", "must hold"),
        ("[1, 2]", "must hold"),
        ("airflow: [", "not YAML"),
    ],
)
def test_a_wrong_entry_is_named(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(SettingsError, match=told) as caught:
        read_settings(written(tmp_path, text))
    assert caught.value.where.endswith("airflow_settings.yaml")


@pytest.mark.parametrize("text", ["", "airflow:", "airflow: {pools: , connections: , variables: }"])
def test_a_file_that_asks_for_nothing_is_fine(tmp_path: Path, api: AirflowApi, text: str) -> None:
    assert apply_settings(api, read_settings(written(tmp_path, text))) == []


def test_no_file_is_fine(tmp_path: Path) -> None:
    assert read_settings(tmp_path / "none.yaml").pools == ()


def test_a_refusal_of_airflow_is_told(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/auth/token":
            return httpx.Response(401, json={"detail": "wrong password"})
        return httpx.Response(500)

    api = AirflowApi("http://airflow", "admin", "x", transport=httpx.MockTransport(refuse))
    with pytest.raises(AirflowApiError, match="wrong password"):
        apply_settings(api, read_settings(written(tmp_path, GOOD)))
