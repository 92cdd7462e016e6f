"""The pages about releases: what serves and why, for whoever may read the logs of the release DAG."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("airflow.api_fastapi")

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api import security
from airflow.sdk import DAG
from fastapi import FastAPI
from jwt import InvalidTokenError
from starlette.testclient import TestClient

from include.settings import Settings
from plugins.windtunnel.operators.stage import StageOperator
from plugins.windtunnel.web import mount, releases
from tests.dossier.conftest import refused, say, stopped
from tests.dossier.test_page import HOSTILE, check
from tests.release.conftest import Tunnel, make_tunnel

PAGE = "/windtunnel/releases/release__tiny"
DOSSIER = "/windtunnel/dossier/release__tiny"


class AuthManager:
    """Knows one user, who may read the logs of some DAGs."""

    def __init__(self) -> None:
        self.allowed = {"release__tiny", "train__tiny"}
        self.asked: list[tuple[str, Any, str]] = []

    async def get_user_from_token(self, token: str) -> str:
        if token != "ada":
            raise InvalidTokenError
        return token

    def is_authorized_dag(self, *, method: str, access_entity: Any, details: Any, user: str) -> bool:
        self.asked.append((method, access_entity, details.id))
        return details.id in self.allowed


@pytest.fixture
def tunnel(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tunnel:
    return make_tunnel(settings, tmp_path / "models", monkeypatch)


@pytest.fixture
def airflow(monkeypatch: pytest.MonkeyPatch, tunnel: Tunnel) -> Any:
    """A client of the pages, and the auth manager behind them."""
    manager = AuthManager()
    for module in (security, releases):
        monkeypatch.setattr(module, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)
    monkeypatch.setattr(releases, "family_names", lambda: ["other", "tiny"])
    app = FastAPI()
    app.mount(mount.PREFIX, mount.LazyApp(mount.pages))
    client = TestClient(app, raise_server_exceptions=False)
    client.headers["Authorization"] = "Bearer ada"
    return client, manager


def in_canary(tunnel: Tunnel) -> str:
    version: str = tunnel.register()["model_version"]
    rollout = tunnel.begin(version)["rollout"]
    tunnel.pass_stage(rollout, "shadow")
    tunnel.enter(rollout, "canary")
    return version


def test_what_serves_and_the_rollout_under_way(airflow: Any, tunnel: Tunnel) -> None:
    client, manager = airflow
    version = in_canary(tunnel)
    say(tunnel, "pause", HOSTILE)
    answer = client.get(PAGE)
    page = check(answer.text)
    assert answer.status_code == 200
    assert ("aria-label", f"0.1.0 95%, {version} 5%") in page.attributes
    for said in (
        "Rollout under way",
        "Stage canary",
        "errors: 0 of 400 requests",
        "paused",
        "rollout abort tiny",
        HOSTILE,
    ):
        assert said in page.said, said
    assert ("href", f"../dossier/release__tiny/{version}") in page.attributes
    assert manager.asked == [("GET", DagAccessEntity.TASK_LOGS, "release__tiny")]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert "script-src" not in answer.headers["content-security-policy"]


def test_a_gateway_that_is_away_leaves_the_page(airflow: Any, tunnel: Tunnel) -> None:
    client, _ = airflow
    in_canary(tunnel)
    tunnel.gateway.away = "the gateway cannot be asked"
    assert "cannot be told: the gateway cannot be asked" in check(client.get(PAGE).text).said


def test_every_version_has_its_line_and_its_dossier(airflow: Any, tunnel: Tunnel) -> None:
    client, _ = airflow
    shipped, bad, digest = tunnel.fly(), stopped(tunnel), refused(tunnel)
    page = check(client.get(PAGE).text)
    for said in ("the champion, answers 100% of the traffic", "rolled back in canary", "None is under way."):
        assert said in page.said, said
    links = [value for name, value in page.attributes if name == "href" and "dossier" in str(value)]
    assert {str(one).rpartition("/")[2] for one in links} == {shipped, bad, "0.1.0", digest[:12]}
    for one in set(links):
        assert client.get(PAGE.rpartition("/")[0] + "/" + str(one)).status_code == 200
    shown = client.get(f"{PAGE}/json").json()
    assert [row["version"] for row in shown["versions"]] == [bad, "0.1.0", shipped]
    assert shown["now"]["variants"][0]["version"] == shipped and shown["rollback_to"] == "0.1.0"


def test_the_dossier_is_a_page_and_a_document(airflow: Any, tunnel: Tunnel) -> None:
    client, manager = airflow
    version = tunnel.fly()
    page = check(client.get(f"{DOSSIER}/{version}").text)
    assert "100% of the traffic" in page.said
    assert ("href", "../../releases/release__tiny") in page.attributes
    found = client.get(f"{DOSSIER}/{version}/json")
    assert found.json()["subject"]["version"] == version
    assert found.headers["cache-control"] == "private, no-store"
    assert {asked[2] for asked in manager.asked} == {"release__tiny"}


@pytest.mark.parametrize("path", [PAGE, f"{PAGE}/json", f"{DOSSIER}/0.1.0", f"{DOSSIER}/0.1.0/json"])
def test_nobody_sees_what_airflow_does_not_show(airflow: Any, tunnel: Tunnel, path: str) -> None:
    client, manager = airflow
    tunnel.fly()
    assert client.get(path).status_code == 200
    manager.allowed = {"train__tiny"}
    assert client.get(path).status_code == 403
    assert client.get(path.replace("release__tiny", "train__tiny"), follow_redirects=True).status_code in (403, 404)
    client.headers.pop("Authorization")
    assert client.get(path).status_code in (401, 403)
    assert client.get("/windtunnel/releases").status_code in (401, 403)


def test_other_dags_of_the_family_lead_to_its_releases(airflow: Any, tunnel: Tunnel) -> None:
    client, _ = airflow
    answer = client.get(PAGE.replace("release__", "train__"), follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (307, "release__tiny")
    assert "Nothing serves yet." in client.get(PAGE.replace("release__", "train__")).text


def test_all_families_are_those_that_the_user_may_see(airflow: Any, tunnel: Tunnel) -> None:
    client, manager = airflow
    version = in_canary(tunnel)
    page = check(client.get("/windtunnel/releases").text)
    assert f"0.1.0 95%, {version} 5%" in page.said and "release__other" not in str(page.attributes)
    assert ("href", "releases/release__tiny") in page.attributes
    manager.allowed = set()
    assert "no family whose releases you may see" in client.get("/windtunnel/releases").text


@pytest.mark.parametrize(
    "path",
    [
        f"{DOSSIER}/9.9.9", f"{DOSSIER}/..", f"{DOSSIER}/<script>", f"{DOSSIER}/9.9.9/json",
        PAGE.replace("tiny", "unknown"), PAGE.replace("release__tiny", "other_dag"),
    ],
)  # fmt: skip
def test_what_there_is_none_of_is_not_found(airflow: Any, tunnel: Tunnel, path: str) -> None:
    client, manager = airflow
    manager.is_authorized_dag = lambda **_: True
    tunnel.fly()
    answer = client.get(path)
    assert answer.status_code == 404 and "<script>" not in answer.text


def test_a_stage_links_to_the_releases(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/prod/")
    with DAG("release__tiny"):
        stage = StageOperator(task_id="canary", family="tiny", stage="canary", rollout={})
    (link,) = stage.operator_extra_links
    ti: Any = type("Ti", (), {"dag_id": "release__tiny", "run_id": "r"})
    assert link.get_link(stage, ti_key=ti) == f"https://airflow.example.org/prod{PAGE}"
