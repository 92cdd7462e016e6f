"""The gateway as its users see it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from include.errors import UserError, WindtunnelError


class GatewayError(WindtunnelError):
    """The gateway does not answer, or answered with an error."""


def get(url: str, path: str, timeout: float = 5.0) -> Any:
    """The JSON under `path`. Raises `GatewayError`."""
    return _request("GET", url, path, None, timeout)


def ask(
    url: str, family: str, inputs: Mapping[str, Any], unit: str | None = None, timeout: float = 30.0
) -> dict[str, Any]:
    """The gateway's answer.

    Raises:
        GatewayError: It does not answer.
        UserError: It refuses the question.
    """
    body = {"family": family, "inputs": dict(inputs), **({"unit_id": unit} if unit else {})}
    answer: dict[str, Any] = _request("POST", url, "/v1/ask", body, timeout)
    return answer


def inputs(url: str, family: str) -> dict[str, str]:
    """The inputs that the family's model declares: name -> datatype.

    Raises:
        GatewayError: The gateway does not answer.
        UserError: Nothing serves for the family.
    """
    try:
        found = get(url, f"/v2/models/{family}")["inputs"]
    except UserError as error:
        if error.fields.get("status") != 404:
            raise
        hint = f"windtunnel train {family} --release"
        raise UserError(f"nothing serves for {family}", where=url, hint=hint) from error
    return {str(item["name"]): str(item["datatype"]) for item in found}


def _request(method: str, url: str, path: str, body: Any, timeout: float) -> Any:
    import httpx

    from include.serving.keys import own_key

    key = own_key(os.environ)
    headers = {"authorization": f"Bearer {key}"} if key else {}
    try:
        response = httpx.request(method, url + path, json=body, headers=headers, timeout=timeout, trust_env=False)
    except httpx.HTTPError as error:
        raise GatewayError(
            f"the gateway does not answer: {error}",
            where=url,
            hint="`windtunnel status` tells, `windtunnel up` starts it",
        ) from error
    if response.is_success:
        return response.json()
    try:
        record = response.json()
        message, hint = str(record.get("error", response.text)), str(record.get("hint", ""))
    except (ValueError, AttributeError):
        message, hint = response.text, ""
    kind = UserError if response.status_code < 500 and response.status_code != 429 else GatewayError
    said = f"the gateway answered {response.status_code}: {message}"
    raise kind(said, where=f"{method} {path}", hint=hint, status=response.status_code)
