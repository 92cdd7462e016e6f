"""The pages at `/windtunnel`: shown to whom Airflow lets in, and to nobody else."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
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
from include.steps.document import make_document, run_key
from include.store.objects import open_store
from plugins.windtunnel.operators.step import LocalStepOperator
from plugins.windtunnel.web import mount
from tests.data.conftest import make_spec

DAG_ID, RUN_ID = "train__compliance_qa", "manual__2026-11-02T08:00:00+00:00"
PAGE = f"/windtunnel/data-docs/{DAG_ID}/manual__2026-11-02T08%3A00%3A00%2B00%3A00"
QUALITY = PAGE.replace("data-docs", "data-quality")


class AuthManager:
    """Knows one user, who may read the logs of one DAG."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, Any, str]] = []

    async def get_user_from_token(self, token: str) -> str:
        if token != "ada":
            raise InvalidTokenError
        return token

    def is_authorized_dag(self, *, method: str, access_entity: Any, details: Any, user: str) -> bool:
        self.asked.append((method, access_entity, details.id))
        return details.id == DAG_ID


@pytest.fixture
def airflow(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A client of an application with the pages mounted as Airflow mounts them, and the auth manager behind it."""
    manager = AuthManager()
    monkeypatch.setattr(security, "get_auth_manager", lambda: manager)
    monkeypatch.setattr(security.DagModel, "get_team_name", lambda dag_id: None)
    app = FastAPI()
    app.mount(mount.PREFIX, mount.LazyApp(mount.pages))
    client = TestClient(app, raise_server_exceptions=False)
    client.headers["Authorization"] = "Bearer ada"
    return client, manager


def store_docs(settings: Settings, page: bytes | None = b"<p>what the gate found</p>", dag_id: str = DAG_ID) -> None:
    store, run = open_store(settings.store_url), run_key(dag_id, RUN_ID)
    at = datetime(2026, 11, 2, tzinfo=UTC)
    document = make_document("validate", run, make_spec(), {}, spec_parts=("data",), code_version="t", created_at=at)
    store.put(document.document_key, document.model_dump_json().encode())
    if page is not None:
        store.put(f"{document.output}/docs/index.html", page)


def test_the_page_of_the_run_is_shown_to_whom_may_read_the_logs(airflow: Any, settings: Settings) -> None:
    client, manager = airflow
    store_docs(settings)
    answer = client.get(PAGE)
    assert (answer.status_code, answer.text) == (200, "<p>what the gate found</p>")
    assert manager.asked == [("GET", DagAccessEntity.TASK_LOGS, DAG_ID)]
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["cache-control"] == "private, no-store"


def test_the_quality_of_the_data_is_a_page_of_its_own(airflow: Any, settings: Settings) -> None:
    client, manager = airflow
    store_docs(settings)
    assert client.get(QUALITY).status_code == 404
    store, at = open_store(settings.store_url), datetime(2026, 11, 2, tzinfo=UTC)
    run, spec = run_key(DAG_ID, RUN_ID), make_spec()
    document = make_document("publish", run, spec, {}, spec_parts=("data",), code_version="t", created_at=at)
    store.put(document.document_key, document.model_dump_json().encode())
    store.put(f"{document.output}/docs/quality.html", b"<p>how good it is</p>")
    answer = client.get(QUALITY)
    assert (answer.status_code, answer.text) == (200, "<p>how good it is</p>")
    assert manager.asked[-1] == ("GET", DagAccessEntity.TASK_LOGS, DAG_ID)
    client.headers.pop("Authorization")
    assert client.get(QUALITY).status_code in (401, 403)


def test_the_search_of_a_run_is_a_page_whose_script_can_reach_nothing(airflow: Any, settings: Settings) -> None:
    client, manager = airflow
    page = PAGE.replace("data-docs", "sweep")
    assert client.get(page).status_code == 404
    store, at = open_store(settings.store_url), datetime(2026, 11, 2, tzinfo=UTC)
    run = run_key(DAG_ID, RUN_ID)
    document = make_document("sweep", run, make_spec(), {}, spec_parts=("data",), code_version="t", created_at=at)
    store.put(document.document_key, document.model_dump_json().encode())
    store.put(f"{document.output}/docs/study.html", b"<script>plots</script>")
    answer = client.get(page)
    assert (answer.status_code, answer.text) == (200, "<script>plots</script>")
    assert manager.asked[-1] == ("GET", DagAccessEntity.TASK_LOGS, DAG_ID)
    policy = answer.headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    (sandbox,) = (part for part in policy if part.startswith("sandbox"))
    assert "allow-same-origin" not in sandbox
    client.headers.pop("Authorization")
    assert client.get(page).status_code in (401, 403)


@pytest.mark.parametrize("token", [None, "Bearer mallory", "Basic YTpi"])
def test_nobody_gets_in_without_a_login(airflow: Any, settings: Settings, token: str | None) -> None:
    client, manager = airflow
    store_docs(settings)
    client.headers.pop("Authorization")
    answer = client.get(PAGE, headers={"Authorization": token} if token else {})
    assert answer.status_code in (401, 403) and "gate" not in answer.text
    assert manager.asked == []


def test_a_user_sees_no_dag_that_airflow_does_not_show(airflow: Any, settings: Settings) -> None:
    client, _ = airflow
    store_docs(settings, dag_id="train__other")
    answer = client.get(PAGE.replace(DAG_ID, "train__other"))
    assert answer.status_code == 403 and "gate" not in answer.text


@pytest.mark.parametrize("dag_id", ["..", ".", "train__compliance_qa%3A", "%2e%2e", "a%2Fb"])
def test_no_name_leads_to_the_documents_of_another_dag(airflow: Any, settings: Settings, dag_id: str) -> None:
    client, manager = airflow
    manager.is_authorized_dag = lambda **_: True
    store_docs(settings, dag_id="train__compliance_qa_")
    store_docs(settings, dag_id=".")
    assert client.get(PAGE.replace(DAG_ID, dag_id)).status_code == 404


@pytest.mark.parametrize("stored", [False, True])
def test_a_run_that_validated_nothing_has_no_page(airflow: Any, settings: Settings, stored: bool) -> None:
    client, _ = airflow
    if stored:
        store_docs(settings, page=None)
    answer = client.get(PAGE)
    assert answer.status_code == 404 and "not validated" in answer.json()["detail"]


@pytest.mark.parametrize("path", ["/docs", "/openapi.json", "/redoc", "/"])
def test_there_is_nothing_that_needs_no_login(airflow: Any, path: str) -> None:
    client, _ = airflow
    client.headers.pop("Authorization")
    assert client.get(f"/windtunnel{path}").status_code == 404


def test_every_route_asks_airflow(airflow: Any) -> None:
    app: Any = mount.pages()
    guards = {"requires_access_dag.<locals>.inner", "readable_families"}
    for route in app.routes:
        names = {dependency.call.__qualname__ for dependency in route.dependant.dependencies}
        assert names & guards, route.path


def test_the_application_is_made_once_and_only_when_asked() -> None:
    made: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        return None

    lazy = mount.LazyApp(lambda: made.append(1) or app)
    assert made == []
    for _ in range(2):
        asyncio.run(lazy({}, None, None))
    assert made == [1]


def test_the_validate_task_links_to_the_page_of_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", "https://airflow.example.org/prod/")
    with DAG(DAG_ID):
        validate = LocalStepOperator(task_id="validate", family="compliance_qa", step="validate", inputs={})
        publish = LocalStepOperator(task_id="publish", family="compliance_qa", step="publish", inputs={})
        ingest = LocalStepOperator(task_id="ingest", family="compliance_qa", step="ingest", inputs={})
        fit = LocalStepOperator(task_id="fit", family="compliance_qa", step="fit", inputs={})
    (sweep,) = fit.operator_extra_links
    assert ingest.operator_extra_links == ()
    (quality,) = publish.operator_extra_links
    (link,) = validate.operator_extra_links
    ti: Any = type("Ti", (), {"dag_id": DAG_ID, "run_id": RUN_ID})
    assert link.name == "Data Docs"
    assert link.get_link(validate, ti_key=ti) == f"https://airflow.example.org/prod{PAGE}"
    assert sweep.name == "Sweep"
    searched = PAGE.replace("data-docs", "sweep")
    assert sweep.get_link(fit, ti_key=ti) == f"https://airflow.example.org/prod{searched}"
    assert quality.name == "Data Quality"
    assert quality.get_link(publish, ti_key=ti) == f"https://airflow.example.org/prod{QUALITY}"
