"""The pages about releases: all families, the releases of one, and the dossier of a version.

They show what the ledger says about what answers users, so they ask for the right to read the logs of the family's
release DAG, whichever DAG they were opened from.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Annotated, Any
from urllib.parse import quote

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity, DagDetails
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dag import DagModel
from fastapi import Depends, FastAPI, HTTPException, Path, status
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse

from include.dossier.html import Html, joined, link
from include.errors import UserError, WindtunnelError
from include.settings import Settings
from include.spec import family_names

RELEASE = "release__"
_DAG_ID = re.compile(r"[a-z_]+__([a-z][a-z0-9_]*)")
_VERSION = re.compile(r"[0-9a-f.]{1,64}")
_JSON = {"Cache-Control": "private, no-store", "X-Content-Type-Options": "nosniff"}

_DagId = Annotated[str, Path(max_length=250)]
_Version = Annotated[str, Path(max_length=64)]


def readable_families(user: GetUserDep) -> list[str]:
    """The families whose release DAG's logs the user may read."""
    return [family for family in family_names() if _may_read(user, f"{RELEASE}{family}")]


def add_release_pages(app: FastAPI, headers: Mapping[str, str]) -> None:
    """Adds the routes."""
    guard = Depends(requires_access_dag("GET", DagAccessEntity.TASK_LOGS))

    @app.get("/releases")
    def all_releases(families: Annotated[list[str], Depends(readable_families)]) -> HTMLResponse:
        """What serves in every family that the user may see."""
        from include.dossier.index import index, render_index

        found = _made(lambda: index(Settings.from_env(), families, at=datetime.now(UTC)))
        return HTMLResponse(render_index(found, lambda family: f"releases/{RELEASE}{family}"), headers=dict(headers))

    @app.get("/releases/{dag_id}", dependencies=[guard])
    def family_releases(dag_id: _DagId) -> Any:
        """The releases of a family; from another of its DAGs, the way to them."""
        from include.dossier.releases import releases
        from include.dossier.releases_page import render_releases

        family = _family(dag_id)
        if dag_id != f"{RELEASE}{family}":
            return RedirectResponse(f"{RELEASE}{family}")
        found = _made(lambda: releases(Settings.from_env(), family, at=datetime.now(UTC)))
        links = _dossier_links(f"../dossier/{dag_id}")
        return HTMLResponse(render_releases(found, links, _navigation("../releases", "")), headers=dict(headers))

    @app.get("/releases/{dag_id}/json", dependencies=[guard])
    def family_releases_json(dag_id: _DagId) -> JSONResponse:
        """The same for programs."""
        from include.dossier.releases import releases

        family = _released(dag_id)
        found = _made(lambda: releases(Settings.from_env(), family, at=datetime.now(UTC)))
        return JSONResponse(found, headers=_JSON)

    @app.get("/dossier/{dag_id}/{version}", dependencies=[guard])
    def dossier_page(dag_id: _DagId, version: _Version) -> HTMLResponse:
        """The dossier of a version, or of a refused candidate by the start of its digest."""
        from include.dossier.page import render

        found = _dossier(dag_id, version)
        navigation = _navigation("../../releases", f"../../releases/{quote(dag_id, safe='')}")
        return HTMLResponse(render(found, _dossier_links("."), navigation), headers=dict(headers))

    @app.get("/dossier/{dag_id}/{version}/json", dependencies=[guard])
    def dossier_json(dag_id: _DagId, version: _Version) -> JSONResponse:
        """The same for programs."""
        return JSONResponse(_dossier(dag_id, version), headers=_JSON)


def _dossier(dag_id: str, version: str) -> dict[str, Any]:
    from include.dossier.gather import dossier

    family = _released(dag_id)
    if not _VERSION.fullmatch(version):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "there is no such version")
    return _made(lambda: dossier(Settings.from_env(), family, version, at=datetime.now(UTC)))


def _made(make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gives; what it cannot find or reach is told to the reader."""
    try:
        return make()
    except UserError as error:
        raise HTTPException(status.HTTP_404_NOT_FOUND, f"{error.message} ({error.hint})") from None
    except WindtunnelError as error:
        raise HTTPException(status.HTTP_503_SERVICE_UNAVAILABLE, error.message) from None


def _family(dag_id: str) -> str:
    """The family whose DAG this is."""
    match = _DAG_ID.fullmatch(dag_id)
    if match is None or match[1] not in family_names():
        raise HTTPException(status.HTTP_404_NOT_FOUND, "this DAG belongs to no model family")
    return match[1]


def _released(dag_id: str) -> str:
    """The family of a release DAG: the rights of another DAG do not open its pages."""
    if not dag_id.startswith(RELEASE):
        raise HTTPException(status.HTTP_404_NOT_FOUND, "this is no release DAG")
    return _family(dag_id)


def _may_read(user: Any, dag_id: str) -> bool:
    return get_auth_manager().is_authorized_dag(
        method="GET",
        access_entity=DagAccessEntity.TASK_LOGS,
        details=DagDetails(id=dag_id, team_name=DagModel.get_team_name(dag_id)),
        user=user,
    )


def _dossier_links(base: str) -> Callable[[str], str]:
    return lambda version: f"{base}/{quote(version, safe='')}"


def _navigation(index: str, family: str) -> Html:
    links = [link(index, "All families")]
    if family:
        links.append(link(family, "Releases of this family"))
    return joined([*links, link("", "Reload")], " · ")
