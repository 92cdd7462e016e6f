"""Airflow's REST API, as far as the command line needs it. Everything goes through the door that people use too."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from typing import Any
from urllib.parse import quote

import httpx

from include.errors import WindtunnelError

#: States in which a DAG run or a task instance changes no more by itself.
ENDED_RUN = frozenset({"success", "failed"})
ENDED_TASK = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_ATTEMPTS = 4


class AirflowApiError(WindtunnelError):
    """Airflow refused a request or did not answer; `fields["status"]` is the HTTP status (0: no answer)."""


@dataclass(frozen=True)
class Run:
    """A DAG run."""

    dag_id: str
    run_id: str
    state: str
    start: datetime | None
    end: datetime | None

    @property
    def ended(self) -> bool:
        return self.state in ENDED_RUN


@dataclass(frozen=True)
class Task:
    """A task instance; `map_index` is -1 unless mapped. `seconds` runs on while it runs."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    start: datetime | None
    end: datetime | None

    @property
    def name(self) -> str:
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"

    def seconds(self, now: datetime) -> float | None:
        if self.start is None:
            return None
        return max(0.0, ((self.end or now) - self.start).total_seconds())


class AirflowApi:
    """A client of one Airflow.

    Args:
        url: Base URL, such as `http://127.0.0.1:8080`.
        transport: Stands in for the network in tests.
    """

    def __init__(
        self,
        url: str,
        username: str,
        password: str,
        *,
        transport: httpx.BaseTransport | None = None,
        timeout: float = 30.0,
    ) -> None:
        self.url = url.rstrip("/")
        self._login = {"username": username, "password": password}
        self._client = httpx.Client(base_url=self.url, timeout=timeout, transport=transport, trust_env=False)

    def close(self) -> None:
        self._client.close()

    # DAGs and runs --------------------------------------------------------------------------------------------------
    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Details of a DAG, its parameters included; None where Airflow does not know it."""
        return self.find(f"/dags/{quote(dag_id)}/details")

    def import_errors(self) -> list[dict[str, Any]]:
        errors: list[dict[str, Any]] = self.request("GET", "/importErrors")["import_errors"]
        return errors

    def set_paused(self, dag_id: str, paused: bool) -> None:
        self.request("PATCH", f"/dags/{quote(dag_id)}", json={"is_paused": paused})

    def form(self, dag_id: str) -> dict[str, Any]:
        """The parameters of a DAG with their defaults: what the UI's trigger form starts from."""
        dag = self.dag(dag_id)
        if dag is None:
            raise AirflowApiError(
                f"Airflow has no DAG {dag_id!r}", hint="`windtunnel validate` shows whether its spec is sound"
            )
        return {name: param.get("value") for name, param in (dag.get("params") or {}).items()}

    def trigger(self, dag_id: str, values: Mapping[str, Any], *, note: str | None = None) -> Run:
        """Starts a run as the UI's form does: with every parameter, changed by `values`.

        Raises:
            AirflowApiError: A value is not what the parameter's schema wants, or the DAG has no such parameter.
        """
        conf = self.form(dag_id)
        unknown = sorted(set(values) - set(conf))
        if unknown:
            raise AirflowApiError(
                f"{dag_id} has no parameter {unknown[0]!r}", hint=f"it has: {', '.join(sorted(conf))}"
            )
        body = {"logical_date": None, "conf": {**conf, **values}, "note": note}
        return _run(self.request("POST", f"/dags/{quote(dag_id)}/dagRuns", json=body))

    def run(self, dag_id: str, run_id: str) -> Run | None:
        """A run, None where there is none."""
        found = self.find(_run_path(dag_id, run_id))
        return _run(found) if found else None

    def runs(self, dag_id: str, limit: int = 20) -> list[Run]:
        """The newest runs first."""
        path = f"/dags/{quote(dag_id)}/dagRuns?order_by=-run_after&limit={limit}"
        return [_run(item) for item in self.request("GET", path)["dag_runs"]]

    def runs_by_event(self, dag_id: str, run_id: str) -> list[tuple[str, str]]:
        """(dag_id, run_id) of the runs that asset events of this run started."""
        path = f"/assets/events?source_dag_id={quote(dag_id)}&source_run_id={quote(run_id, safe='')}"
        try:
            events = self.request("GET", path)["asset_events"]
        except AirflowApiError as error:
            # Airflow 3.3 answers 500 while a run that an event created is queued: its answer insists on a start date.
            if error.fields.get("status") == HTTPStatus.INTERNAL_SERVER_ERROR:
                return []
            raise
        return [(item["dag_id"], item["run_id"]) for event in events for item in event["created_dagruns"]]

    # Tasks ----------------------------------------------------------------------------------------------------------
    def tasks(self, dag_id: str, run_id: str) -> list[Task]:
        """All task instances of a run, mapped ones included."""
        found: list[Task] = []
        while True:
            path = f"{_run_path(dag_id, run_id)}/taskInstances?limit=100&offset={len(found)}"
            page = self.request("GET", path)
            found += [_task(item) for item in page["task_instances"]]
            if not page["task_instances"] or len(found) >= page["total_entries"]:
                return found

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any | None:
        """A value that a task returned; None where there is none."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task_id)}/xcomEntries/{quote(key)}"
        found = self.find(f"{path}?map_index={map_index}&deserialize=false&stringify=false")
        return found["value"] if found else None

    def log(self, dag_id: str, run_id: str, task: Task) -> list[str]:
        """The lines of a task's last try."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{quote(task.task_id)}"
        answer = self.find(f"{path}/logs/{max(1, task.try_number)}?full_content=true&map_index={task.map_index}")
        return log_lines(answer["content"]) if answer else []

    # Requests -------------------------------------------------------------------------------------------------------
    def find(self, path: str) -> dict[str, Any] | None:
        """GET, None for 404."""
        try:
            found: dict[str, Any] = self.request("GET", path)
        except AirflowApiError as error:
            if error.fields["status"] == 404:
                return None
            raise
        return found

    def request(self, method: str, path: str, json: Any = None) -> Any:
        """One request to `/api/v2`; the decoded answer.

        Raises:
            AirflowApiError: The answer is not a success, or none came. Reads are tried again before that.
        """
        if "Authorization" not in self._client.headers:
            self._log_in()
        response = self._send(method, f"/api/v2{path}", json)
        if response.status_code == 401:  # the token has expired
            self._log_in()
            response = self._send(method, f"/api/v2{path}", json)
        if response.is_success:
            return response.json() if response.content else None
        raise _refused(method, path, response)

    def _log_in(self) -> None:
        response = self._send("POST", "/auth/token", self._login)
        if not response.is_success:
            raise _refused("POST", "/auth/token", response)
        self._client.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def _send(self, method: str, path: str, json: Any) -> httpx.Response:
        attempts = _ATTEMPTS if method == "GET" else 1
        for attempt in range(1, attempts + 1):
            try:
                return self._client.request(method, path, json=json)
            except httpx.TransportError as error:
                if attempt == attempts:
                    hint = "is the stack running? `windtunnel status` tells, `windtunnel up` starts it"
                    raise AirflowApiError(
                        f"Airflow does not answer: {error}", where=self.url, hint=hint, status=0
                    ) from error
                time.sleep(0.3 * attempt)
        raise AssertionError("unreachable")


def log_lines(content: Sequence[Any]) -> list[str]:
    """Readable lines of Airflow's structured log."""
    lines, in_sources = [], False
    for item in content:
        if isinstance(item, str):
            lines.append(item)
            continue
        event = str(item.get("event", ""))
        if event.startswith("::"):
            in_sources = event.startswith("::group::Log message source")
            continue
        if in_sources:
            continue
        level = str(item.get("level", ""))
        lines.append(f"{level.upper()} {event}" if level in {"error", "warning", "critical"} else event)
        for detail in item.get("error_detail") or []:
            lines.append(f"  {detail.get('exc_type', '')}: {detail.get('exc_value', '')}")
    return [line for text in lines for line in text.splitlines()]


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/dags/{quote(dag_id)}/dagRuns/{quote(run_id, safe='')}"


def _refused(method: str, path: str, response: httpx.Response) -> AirflowApiError:
    try:
        detail = response.json().get("detail", response.text)
    except (ValueError, AttributeError):
        detail = response.text
    if isinstance(detail, list):
        detail = "; ".join(f"{'.'.join(str(part) for part in d.get('loc', []))}: {d.get('msg', d)}" for d in detail)
    return AirflowApiError(
        f"Airflow answered {response.status_code}: {detail}", where=f"{method} {path}", status=response.status_code
    )


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _run(item: Mapping[str, Any]) -> Run:
    start, end = _moment(item.get("start_date")), _moment(item.get("end_date"))
    return Run(item["dag_id"], item["dag_run_id"], item["state"], start, end)


def _task(item: Mapping[str, Any]) -> Task:
    start, end = _moment(item.get("start_date")), _moment(item.get("end_date"))
    return Task(item["task_id"], item["map_index"], item.get("state"), item.get("try_number") or 0, start, end)
