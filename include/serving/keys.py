"""Who may ask: API keys, known to the gateway by their hashes alone.

A *client* is whoever holds a key: a name that logs and metrics may show, and limits of its own. Keys are random and
long, so that a plain SHA-256 is as good as a slow hash: there is no list of likely keys to try.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from include.errors import UserError, clip

KEY_VARIABLE = "WINDTUNNEL_GATEWAY_API_KEY"
KEY_FILE_VARIABLE = "WINDTUNNEL_GATEWAY_API_KEY_FILE"
CLIENTS_VARIABLE = "WINDTUNNEL_GATEWAY_CLIENTS"
_MIN_KEY = 16
_OWN = "windtunnel"  # the name of the one client whose key is given by itself: the platform's


@dataclass(frozen=True)
class Client:
    """Whoever holds one of these keys.

    Attributes:
        digests: SHA-256 of its keys; two while one takes the other's place.
        rate: Requests per second that it may make, None for the gateway's `client_rate`.
        under_way: Requests that it may have under way, None for the gateway's `client_under_way`.
    """

    name: str
    digests: tuple[bytes, ...] = field(default=(), repr=False)
    rate: float | None = None
    under_way: int | None = None


class _Entry(BaseModel):
    """A client in the clients' file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    sha256: Annotated[list[Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]], Field(min_length=1)]
    rate: Annotated[float | int, Field(gt=0)] | None = None
    under_way: Annotated[int, Field(gt=0)] | None = None


_FILE = TypeAdapter(dict[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")], _Entry])


def read_clients(environ: Mapping[str, str]) -> tuple[Client, ...]:
    """The clients that the environment names; none means that no key is asked for.

    Raises:
        UserError: A key is too short to be one, or a file cannot be read or says something else than clients.
    """
    clients: list[Client] = []
    if key := environ.get(KEY_VARIABLE):
        clients.append(_client_of(key, KEY_VARIABLE))
    if path := environ.get(KEY_FILE_VARIABLE):
        clients.append(_client_of(_read(path, KEY_FILE_VARIABLE).strip(), KEY_FILE_VARIABLE))
    if path := environ.get(CLIENTS_VARIABLE):
        clients += _clients_in(path)
    return tuple(clients)


def own_key(environ: Mapping[str, str]) -> str | None:
    """The platform's own key, for those parts of it that ask a gateway; None where there is none.

    Raises:
        UserError: The file that should hold it cannot be read.
    """
    if key := environ.get(KEY_VARIABLE):
        return key
    path = environ.get(KEY_FILE_VARIABLE)
    return _read(path, KEY_FILE_VARIABLE).strip() or None if path else None


def _client_of(key: str, where: str) -> Client:
    if len(key) < _MIN_KEY or not key.isascii():
        raise UserError(
            f"the API key must be at least {_MIN_KEY} ASCII characters", where=where, hint="try `openssl rand -hex 24`"
        )
    return Client(_OWN, (digest_of(key.encode()),))


def _clients_in(path: str) -> list[Client]:
    try:
        entries = _FILE.validate_python(yaml.safe_load(_read(path, CLIENTS_VARIABLE)))
    except yaml.YAMLError as error:
        raise UserError(f"not YAML: {clip(error, 200)}", where=path, hint="see the README's passage on keys") from None
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise UserError(
            f"{place}: {first['msg']}", where=path, hint="a client is `name: {sha256: [hash, ...], rate, under_way}`"
        ) from None
    return [
        Client(name, tuple(map(bytes.fromhex, entry.sha256)), entry.rate, entry.under_way)
        for name, entry in entries.items()
    ]


def _read(path: str, variable: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"cannot read {path}: {reason}", where=variable, hint="check the path and its rights") from None


def digest_of(key: bytes) -> bytes:
    """What is kept of a key."""
    return hashlib.sha256(key).digest()


def find_client(clients: Sequence[Client], headers: Sequence[tuple[bytes, bytes]]) -> Client | None:
    """The client whose key is in `Authorization: Bearer KEY` or `X-API-Key: KEY`, in a time that tells nothing."""
    found: Client | None = None
    for name, value in headers:
        if name == b"authorization" and value[:7].lower() == b"bearer ":
            given = value[7:]
        elif name == b"x-api-key":
            given = value
        else:
            continue
        digest = digest_of(given)
        for client in clients:
            for known in client.digests:
                if hmac.compare_digest(digest, known):
                    found = client
    return found
