"""The pages as a FastAPI application.

Airflow mounts it beside its own API and does not guard it: every route here names the right that it needs, with the
dependencies that Airflow's own routes use.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import requires_access_dag
from fastapi import Depends, FastAPI, HTTPException, Path, status
from fastapi.responses import HTMLResponse

from include.settings import Settings
from include.steps.document import run_key
from include.store.objects import ObjectNotFound, open_store
from plugins.windtunnel.web.releases import add_release_pages

_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'self'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "private, no-store",
}
#: Optuna's plots draw themselves. Their script runs in an origin of its own: it can read nothing of Airflow's.
_PLOTS = {
    **_HEADERS,
    "Content-Security-Policy": "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
    "img-src data: blob:; sandbox allow-scripts allow-downloads; frame-ancestors 'self'",
}
_DAG_ID = re.compile(r"[A-Za-z0-9_.-]+")


@dataclass(frozen=True)
class _Page:
    """A page that a step of a run left in the store, at `/<path>/<DAG>/<run>`.

    Attributes:
        step, file: Which step left it, and its name among the step's documents.
        missing: What is said where there is none.
    """

    path: str
    step: str
    file: str
    missing: str
    headers: Mapping[str, str] = field(default_factory=lambda: _HEADERS)


_PAGES = (
    _Page("data-docs", "validate", "index.html", "this run has not validated anything"),
    _Page("data-quality", "publish", "quality.html", "this run has not published anything"),
    _Page("sweep", "sweep", "study.html", "this run has not finished a search", _PLOTS),
)


def make_app() -> FastAPI:
    """The application, without documentation pages of its own: they would be open to everybody."""
    app = FastAPI(title="Windtunnel", docs_url=None, redoc_url=None, openapi_url=None)
    for page in _PAGES:
        _add(app, page)
    add_release_pages(app, _HEADERS)
    return app


def _add(app: FastAPI, page: _Page) -> None:
    """Shows the page to whoever may read the logs of the run's DAG."""

    @app.get(
        f"/{page.path}/{{dag_id}}/{{run_id}}",
        dependencies=[Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))],
    )
    def show(
        dag_id: Annotated[str, Path(max_length=250)], run_id: Annotated[str, Path(max_length=250)]
    ) -> HTMLResponse:
        return HTMLResponse(_stored(page, dag_id, run_id), headers=dict(page.headers))


def _stored(page: _Page, dag_id: str, run_id: str) -> bytes:
    if not _DAG_ID.fullmatch(dag_id) or not dag_id.strip("."):  # another name could lead to another DAG's documents
        raise _missing("there is no such DAG")
    store = open_store(Settings.from_env().store_url)
    try:
        # Only this field: a server of another release than the workers must show the page as well.
        output = json.loads(store.get(f"runs/{run_key(dag_id, run_id)}/{page.step}-0.json"))["output"]
        return store.get(f"{output}/docs/{page.file}")
    except ObjectNotFound:
        raise _missing(page.missing) from None


def _missing(what: str) -> HTTPException:
    return HTTPException(status.HTTP_404_NOT_FOUND, what)
