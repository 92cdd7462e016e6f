"""The secret that pseudonyms are made with. It comes from the environment and reaches no spec, log or manifest."""

from __future__ import annotations

import hashlib
import hmac
import os

from include.errors import UserError

VARIABLE = "WINDTUNNEL_PSEUDONYM_KEY"
MIN_LENGTH = 16


class PseudonymKey:
    """Makes pseudonyms: HMAC-SHA-256 of a value under the key.

    Raises:
        UserError: The environment has no key, or one that can be guessed.
    """

    def __init__(self, secret: str | None = None) -> None:
        secret = os.environ.get(VARIABLE, "") if secret is None else secret
        if len(secret) < MIN_LENGTH:
            raise UserError(
                "there is no key for pseudonyms" if not secret else "the key for pseudonyms is too short",
                where=VARIABLE,
                hint=f"set it to a secret of at least {MIN_LENGTH} characters and keep it: another key makes others",
            )
        self._secret = secret.encode()

    def pseudonym(self, value: object, digits: int = 32) -> str:
        """The pseudonym of a value, as hex digits."""
        return hmac.new(self._secret, str(value).encode("utf-8", "surrogatepass"), hashlib.sha256).hexdigest()[:digits]

    @property
    def check(self) -> str:
        """Tells keys apart without giving them away: part of what says that two versions were made alike."""
        return self.pseudonym("windtunnel: which key is it?", 8)

    def __repr__(self) -> str:
        return f"PseudonymKey({self.check})"
