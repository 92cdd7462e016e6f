"""Secrets of the laptop stack: generated once, kept in one file that only its owner can read."""

from __future__ import annotations

import base64
import os
import secrets
import string
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from include.embedded.layout import read_json, write_json
from include.errors import UserError

ADMIN = "admin"
_LETTERS = "".join(sorted(set(string.ascii_letters + string.digits) - set("0O1lI")))


@dataclass(frozen=True)
class Secrets:
    """What Airflow signs and encrypts with, and the password of its administrator.

    `repr` shows none of it.
    """

    fernet_key: str
    jwt_secret: str
    api_secret: str
    admin_password: str

    def __repr__(self) -> str:
        return "Secrets(...)"

    @classmethod
    def generate(cls) -> Secrets:
        return cls(
            fernet_key=base64.urlsafe_b64encode(os.urandom(32)).decode(),
            jwt_secret=secrets.token_urlsafe(64),
            api_secret=secrets.token_urlsafe(32),
            admin_password="".join(secrets.choice(_LETTERS) for _ in range(16)),
        )


def keep_secrets(path: Path) -> Secrets:
    """The secrets in `path`; generated where there are none yet.

    Raises:
        UserError: The file is there and does not hold the secrets: replacing them would make what Airflow encrypted
            with them unreadable, so a person must decide.
    """
    if not path.exists():
        write_json(path, asdict(Secrets.generate()), mode=0o600)
    values = read_json(path)
    names = {field.name for field in fields(Secrets)}
    if (
        not isinstance(values, dict)
        or set(values) != names
        or not all(isinstance(v, str) and v for v in values.values())
    ):
        raise UserError(
            "the file does not hold this installation's secrets any more",
            where=str(path),
            hint="restore it, or start over with `make clean`",
        )
    path.chmod(0o600)
    return Secrets(**values)
