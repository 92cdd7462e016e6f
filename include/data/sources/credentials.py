"""Credentials of sources: from Airflow connections in the environment, never from a spec.

`AIRFLOW_CONN_<ID>` holds a connection as a URI or as JSON, in Airflow's own forms. Under Airflow the operator puts it
there for the step's process; elsewhere whoever starts the step does. What was read here never leaves: the objects do
not print their secrets, and `scrub` takes them out of the words of others.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from include.errors import UserError, WindtunnelError
from include.spec.sources import connection_variable

HIDDEN = "***"
_MIN_SECRET = 4  # shorter ones would blank out half of every message
_PUBLIC_EXTRA = frozenset({"region_name", "endpoint_url", "host", "sslmode", "timeout", "verify"})


class SourceError(WindtunnelError):
    """A source cannot be reached or broke off; trying again may help."""


@dataclass(frozen=True)
class Credentials:
    """A connection's parts; empty where there is none. Printing one shows no secret."""

    kind: str = ""
    host: str = ""
    port: int | None = None
    schema: str = ""
    login: str = field(default="", repr=False)
    password: str = field(default="", repr=False)
    extra: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def scrub(self, text: str) -> str:
        """`text` without any of the secrets."""
        hidden = [self.password, *_texts(self.extra)]
        if self.password:  # a login alone is a name; with a password it may be an access key
            hidden.append(self.login)
        for secret in sorted({word for word in hidden if len(word) >= _MIN_SECRET}, key=len, reverse=True):
            text = text.replace(secret, HIDDEN)
        return text


def find_credentials(connection: str | None, environ: Mapping[str, str] | None = None) -> Credentials:
    """The credentials of a connection; empty ones where no connection is named.

    Raises:
        UserError: It is not in the environment, or cannot be read.
    """
    if connection is None:
        return Credentials()
    name = connection_variable(connection)
    value = (os.environ if environ is None else environ).get(name)
    if not value:
        hint = f"set {name} (URI or JSON), or make the connection in Airflow: its runs bring it along"
        raise UserError(f"there is no connection {connection!r}", where=name, hint=hint)
    try:
        return _from_json(json.loads(value)) if value.lstrip().startswith("{") else _from_uri(value)
    except (ValueError, TypeError, AttributeError):  # their words may hold the secret
        hint = "use Airflow's form: type://login:password@host:port/schema?key=value, or JSON"
        raise UserError(f"the connection {connection!r} cannot be read", where=name, hint=hint) from None


def _from_uri(value: str) -> Credentials:
    parts = urlsplit(value)
    if not parts.scheme:
        raise ValueError("no type")
    extra: dict[str, Any] = dict(parse_qsl(parts.query, keep_blank_values=True))
    if "__extra__" in extra:
        extra = _extra(extra["__extra__"])
    return Credentials(
        kind=parts.scheme,
        host=unquote(parts.hostname or ""),
        port=parts.port,
        schema=unquote(parts.path.lstrip("/")),
        login=unquote(parts.username or ""),
        password=unquote(parts.password or ""),
        extra=extra,
    )


def _from_json(value: Mapping[str, Any]) -> Credentials:
    port = value.get("port")
    return Credentials(
        kind=str(value.get("conn_type") or ""),
        host=str(value.get("host") or ""),
        port=int(port) if port not in (None, "") else None,
        schema=str(value.get("schema") or ""),
        login=str(value.get("login") or ""),
        password=str(value.get("password") or ""),
        extra=_extra(value.get("extra")),
    )


def _extra(value: Any) -> dict[str, Any]:
    found = json.loads(value) if isinstance(value, str) and value.strip() else value or {}
    if not isinstance(found, dict):
        raise TypeError("extra")
    return found


def _texts(extra: Mapping[str, Any]) -> list[str]:
    """Texts of `extra` that may be secrets, those inside of it included."""
    found: list[str] = []
    for name, value in extra.items():
        if isinstance(value, Mapping):
            found += _texts(value)
        elif isinstance(value, str) and name not in _PUBLIC_EXTRA:
            found.append(value)
    return found
