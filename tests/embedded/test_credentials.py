"""Secrets: made once, private, never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from include.embedded.credentials import Secrets, keep_secrets
from include.errors import UserError


def test_secrets_are_made_once_and_only_their_owner_can_read_them(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    first = keep_secrets(path)
    assert keep_secrets(path) == first
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    Fernet(first.fernet_key.encode())  # raises unless it is a Fernet key


def test_two_installations_have_different_secrets() -> None:
    assert set(vars(Secrets.generate()).values()).isdisjoint(vars(Secrets.generate()).values())


def test_a_file_that_others_could_read_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "secrets.json"
    keep_secrets(path)
    path.chmod(0o644)
    keep_secrets(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "{}", '{"fernet_key": 1}', '["a"]', "\x00\xff"])
def test_a_damaged_file_is_told_and_not_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "secrets.json"
    path.write_text(text)
    with pytest.raises(UserError, match="secrets"):
        keep_secrets(path)
    assert path.read_text() == text


def test_the_text_form_shows_nothing() -> None:
    secrets = Secrets.generate()
    assert not any(value in f"{secrets!r} {secrets}" for value in vars(secrets).values())
