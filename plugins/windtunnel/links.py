"""Links that Airflow's UI shows on a task."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import quote

from airflow.sdk import BaseOperatorLink
from airflow.sdk.configuration import conf

from plugins.windtunnel.web.mount import PREFIX

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator
    from airflow.sdk.types import TaskInstanceKey


class DataDocsLink(BaseOperatorLink):
    """From the `validate` task to what the gate found in this run."""

    name = "Data Docs"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return _page("data-docs", ti_key)


class DataQualityLink(BaseOperatorLink):
    """From the `publish` task to the quality of the data over its versions."""

    name = "Data Quality"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return _page("data-quality", ti_key)


class SweepLink(BaseOperatorLink):
    """From the `fit` task to the search that its hyperparameters come from."""

    name = "Sweep"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return _page("sweep", ti_key)


class ReleasesLink(BaseOperatorLink):
    """From a stage or the approval of a rollout to the family's releases."""

    name = "Releases"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        return f"{_base()}/releases/{quote(ti_key.dag_id, safe='')}"


def dossier_url(family: str, version: str) -> str:
    """The page of a version's dossier."""
    return f"{_base()}/dossier/release__{quote(family, safe='')}/{quote(version, safe='')}"


def _page(kind: str, ti_key: TaskInstanceKey) -> str:
    return f"{_base()}/{kind}/{quote(ti_key.dag_id, safe='')}/{quote(ti_key.run_id, safe='')}"


def _base() -> str:
    return f"{str(conf.get('api', 'base_url', fallback='') or '').rstrip('/')}{PREFIX}"
