"""Connections, pools and variables from `airflow_settings.yaml` (Astro's format), applied to the running Airflow.

Applied at every start, through the REST API, and only where something differs: what the file names is made to be as the
file says, what it does not name is left alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from include.embedded.airflow_api import AirflowApi
from include.errors import UserError
from include.settings import PROJECT_ROOT

SETTINGS_FILE = PROJECT_ROOT / "airflow_settings.yaml"


class SettingsError(UserError):
    """`airflow_settings.yaml` cannot be used; `fields["problems"]` lists `entry`, `field` and `message`."""


class _Entry(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Connection(_Entry):
    """One entry under `connections`: either `conn_uri`, or its parts."""

    conn_id: Annotated[str, Field(pattern=r"^[\w.-]+$", max_length=200)]
    conn_type: str | None = None
    conn_host: str | None = None
    conn_schema: str | None = None
    conn_login: str | None = None
    conn_password: str | None = None
    conn_port: Annotated[int, Field(ge=1, le=65535)] | None = None
    conn_uri: str | None = None
    conn_extra: dict[str, Any] | str | None = None

    @model_validator(mode="after")
    def _one_form(self) -> Connection:
        if self.conn_uri:
            if not _from_uri(self.conn_uri)["conn_type"]:
                raise ValueError("conn_uri must look like type://login:password@host:port/schema")
        elif not self.conn_type:
            raise ValueError("give conn_type or conn_uri")
        return self

    def body(self) -> dict[str, Any]:
        """As Airflow's API wants it."""
        values: dict[str, Any] = {
            "conn_type": self.conn_type,
            "host": self.conn_host,
            "schema": self.conn_schema,
            "login": self.conn_login,
            "password": self.conn_password,
            "port": self.conn_port,
            "extra": self.conn_extra if isinstance(self.conn_extra, str | None) else json.dumps(self.conn_extra),
        }
        if self.conn_uri:
            values = {**values, **_from_uri(self.conn_uri)}
        return {"connection_id": self.conn_id, **values}


class Pool(_Entry):
    """One entry under `pools`."""

    pool_name: Annotated[str, Field(min_length=1, max_length=256)]
    pool_slot: Annotated[int, Field(ge=-1)]
    pool_description: str | None = None

    def body(self) -> dict[str, Any]:
        return {"name": self.pool_name, "slots": self.pool_slot, "description": self.pool_description or ""}


class Variable(_Entry):
    """One entry under `variables`."""

    variable_name: Annotated[str, Field(min_length=1, max_length=250)]
    variable_value: Any = None

    def body(self) -> dict[str, Any]:
        """Airflow keeps text: other values become their JSON."""
        value = self.variable_value if isinstance(self.variable_value, str) else json.dumps(self.variable_value)
        return {"key": self.variable_name, "value": value}


_KINDS: Mapping[str, tuple[type[_Entry], str]] = {
    "connections": (Connection, "conn_id"),
    "pools": (Pool, "pool_name"),
    "variables": (Variable, "variable_name"),
}


class AirflowSettings(BaseModel):
    """What the file asks for."""

    model_config = ConfigDict(frozen=True)

    connections: tuple[Connection, ...] = ()
    pools: tuple[Pool, ...] = ()
    variables: tuple[Variable, ...] = ()


def read_settings(path: Path = SETTINGS_FILE) -> AirflowSettings:
    """The file's entries; nothing where there is no file. Entries without a name are Astro's empty templates.

    Raises:
        SettingsError: The file is not YAML or an entry is wrong; every problem is listed with its entry.
    """
    if not path.exists():
        return AirflowSettings()
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"not YAML: {error}", where=str(path), hint="mend the file and start again") from error
    root = (document.get("airflow") or {}) if isinstance(document, dict) else None
    if not isinstance(root, dict) or set(document) - {"airflow"} or set(root) - set(_KINDS):
        raise _wrong(path, [("(file)", "", f"must hold `airflow:` with {', '.join(_KINDS)} and nothing else")])
    problems: list[tuple[str, str, str]] = []
    found: dict[str, list[_Entry]] = {}
    for kind, (model, name_field) in _KINDS.items():
        found[kind] = _entries(root.get(kind) or [], kind, model, name_field, problems)
    if problems:
        raise _wrong(path, problems)
    return AirflowSettings.model_validate(found)


def apply_settings(api: AirflowApi, wanted: AirflowSettings) -> list[str]:
    """Makes Airflow's connections, pools and variables as `wanted`; returns what was changed, in words."""
    changed: list[str] = []
    for pool in wanted.pools:
        _put(api, "pools", pool.pool_name, pool.body(), changed, rename={"name": "pool"})
    for variable in wanted.variables:
        _put(api, "variables", variable.variable_name, variable.body(), changed)
    for connection in wanted.connections:
        _put(api, "connections", connection.conn_id, connection.body(), changed)
    return changed


def _put(
    api: AirflowApi,
    kind: str,
    name: str,
    body: dict[str, Any],
    changed: list[str],
    rename: Mapping[str, str] | None = None,
) -> None:
    """Creates the entry, or changes it where it differs. Airflow hides passwords: one is written every time."""
    path = f"/{kind}/{quote(name, safe='')}"
    current = api.find(path)
    if current is None:
        api.request("POST", f"/{kind}", json=body)
        changed.append(f"{kind[:-1]} {name} added")
        return
    same = _same(current, body)
    if same and not body.get("password"):
        return
    api.request("PATCH", path, json={(rename or {}).get(key, key): value for key, value in body.items()})
    if not same:
        changed.append(f"{kind[:-1]} {name} changed")


def _same(current: Mapping[str, Any], body: Mapping[str, Any]) -> bool:
    return all((current.get(key) or None) == (value or None) for key, value in body.items() if key != "password")


def _entries(
    values: Any, kind: str, model: type[_Entry], name_field: str, problems: list[tuple[str, str, str]]
) -> list[_Entry]:
    if not isinstance(values, list):
        problems.append((f"airflow.{kind}", "", "must be a list"))
        return []
    entries: list[_Entry] = []
    names: set[str] = set()
    for index, value in enumerate(values):
        label = f"airflow.{kind}[{index}]"
        if not isinstance(value, dict):
            problems.append((label, "", "must be a mapping"))
            continue
        if all(item in (None, "") for item in value.values()):
            continue
        name = value.get(name_field)
        label = f"{label} ({name})" if name else label
        if name in names:
            problems.append((label, name_field, "is there twice"))
        names.add(str(name))
        try:
            given = {key: item for key, item in value.items() if item is not None}
            entries.append(model.model_validate(given))
        except ValidationError as error:
            for item in error.errors(include_url=False):
                message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"]
                problems.append((label, ".".join(str(part) for part in item["loc"]), message))
    return entries


def _wrong(path: Path, problems: list[tuple[str, str, str]]) -> SettingsError:
    lines = "\n".join(f"  {entry}{f'.{field}' if field else ''}: {message}" for entry, field, message in problems[:8])
    return SettingsError(
        f"{len(problems)} problem{'s' if len(problems) != 1 else ''}\n{lines}",
        where=str(path),
        hint="mend the entries above and start again",
        problems=[{"entry": entry, "field": field, "message": message} for entry, field, message in problems],
    )


def _from_uri(uri: str) -> dict[str, Any]:
    parts = urlsplit(uri)
    extra = dict(parse_qsl(parts.query))
    return {
        "conn_type": parts.scheme,
        "host": parts.hostname,
        "schema": unquote(parts.path.lstrip("/")) or None,
        "login": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "port": parts.port,
        "extra": json.dumps(extra) if extra else None,
    }
