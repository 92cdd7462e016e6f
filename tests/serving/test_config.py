"""Who may reach a gateway."""

from __future__ import annotations

import pytest

from include.errors import UserError
from include.serving.config import KEY_VARIABLE, OPEN_VARIABLE, GatewayConfig, is_loopback

KEY = "0123456789abcdef"


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    assert is_loopback(host)
    assert GatewayConfig.from_env(host, 0, environ={}).api_key is None


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "gateway.example", ""])
def test_beyond_it_a_key_or_an_explicit_word_is_needed(host: str) -> None:
    with pytest.raises(UserError, match="without an API key") as caught:
        GatewayConfig.from_env(host, 0, environ={})
    assert KEY_VARIABLE in caught.value.hint
    assert GatewayConfig.from_env(host, 0, environ={KEY_VARIABLE: KEY}).api_key == KEY
    assert GatewayConfig.from_env(host, 0, environ={OPEN_VARIABLE: "1"}).host == host
    assert GatewayConfig.from_env(host, 0, allow_open=True, environ={}).host == host


@pytest.mark.parametrize("key", ["short", "ü" * 20])
def test_a_key_that_is_none_is_refused(key: str) -> None:
    with pytest.raises(UserError, match="16 ASCII characters"):
        GatewayConfig.from_env("127.0.0.1", 0, environ={KEY_VARIABLE: key})
