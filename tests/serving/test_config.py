"""Who may reach a gateway, and by which limits it works."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from include.errors import UserError
from include.serving.config import OPEN_VARIABLE, GatewayConfig, is_loopback
from include.serving.keys import CLIENTS_VARIABLE, KEY_FILE_VARIABLE, KEY_VARIABLE, find_client, own_key

KEY = "0123456789abcdef"
OTHER = "fedcba9876543210"


def sha256(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_on_loopback_no_key_is_needed(host: str) -> None:
    assert is_loopback(host)
    assert GatewayConfig.from_env(host, 0, environ={}).clients == ()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "gateway.example", ""])
def test_beyond_it_a_key_or_an_explicit_word_is_needed(host: str) -> None:
    with pytest.raises(UserError, match="without an API key") as caught:
        GatewayConfig.from_env(host, 0, environ={})
    assert KEY_VARIABLE in caught.value.hint
    assert len(GatewayConfig.from_env(host, 0, environ={KEY_VARIABLE: KEY}).clients) == 1
    assert GatewayConfig.from_env(host, 0, environ={OPEN_VARIABLE: "1"}).host == host
    assert GatewayConfig.from_env(host, 0, allow_open=True, environ={}).host == host


@pytest.mark.parametrize("key", ["short", "ü" * 20])
def test_a_key_that_is_none_is_refused(key: str, tmp_path: Path) -> None:
    for environ in ({KEY_VARIABLE: key}, {KEY_FILE_VARIABLE: str(tmp_path / "key")}):
        (tmp_path / "key").write_text(key)
        with pytest.raises(UserError, match="16 ASCII characters") as caught:
            GatewayConfig.from_env("127.0.0.1", 0, environ=environ)
        assert key not in str(caught.value)


def test_keys_come_from_the_environment_a_secret_file_and_a_file_of_hashes(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    (tmp_path / "clients.yaml").write_text(f"shop: {{sha256: [{sha256(OTHER)}, {sha256(OTHER + OTHER)}], rate: 5}}")
    environ = {KEY_FILE_VARIABLE: str(tmp_path / "key"), CLIENTS_VARIABLE: str(tmp_path / "clients.yaml")}
    config = GatewayConfig.from_env("0.0.0.0", 0, environ=environ)
    own, shop = config.clients
    assert (own.name, shop.name, shop.rate, shop.under_way) == ("windtunnel", "shop", 5, None)
    assert find_client(config.clients, [(b"x-api-key", KEY.encode())]) == own
    for key in (OTHER, OTHER + OTHER):  # the second takes the first's place one day
        assert find_client(config.clients, [(b"authorization", f"bearer {key}".encode())]) == shop
    assert own_key(environ) == KEY and own_key({KEY_VARIABLE: OTHER, **environ}) == OTHER and own_key({}) is None
    for headers in ([], [(b"x-api-key", b"")], [(b"x-api-key", shop.digests[0])], [(b"authorization", KEY.encode())]):
        assert find_client(config.clients, headers) is None
    shown = repr(config)
    assert KEY not in shown and sha256(OTHER) not in shown and repr(shop.digests[0]) not in shown


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("shop: {sha256: [abc]}", "shop.sha256.0"),
        ("shop: {}", "shop.sha256"),
        (f"shop: {{sha256: [{sha256(KEY)}], quota: 3}}", "shop.quota"),
        (f"shop: {{sha256: [{sha256(KEY)}], rate: 0}}", "shop.rate"),
        (f"SHOP!: {{sha256: [{sha256(KEY)}]}}", "SHOP!"),
        ("- shop", "dict"),
        ("{", "not YAML"),
    ],
)
def test_a_file_of_clients_that_says_something_else_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "clients.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=said.replace("!", "!")) as caught:
        GatewayConfig.from_env("127.0.0.1", 0, environ={CLIENTS_VARIABLE: str(path)})
    assert caught.value.where == str(path)


def test_a_file_of_keys_that_is_not_there_is_told(tmp_path: Path) -> None:
    for variable in (CLIENTS_VARIABLE, KEY_FILE_VARIABLE):
        with pytest.raises(UserError, match="cannot read") as caught:
            GatewayConfig.from_env("127.0.0.1", 0, environ={variable: str(tmp_path / "none")})
        assert caught.value.where == variable


def test_limits_come_from_the_environment() -> None:
    environ = {
        "WINDTUNNEL_GATEWAY_MAX_WAITING": "64",
        "WINDTUNNEL_GATEWAY_CLIENT_RATE": "2.5",
        "WINDTUNNEL_GATEWAY_DRAIN_SECONDS": "0",
        "WINDTUNNEL_GATEWAY_PORT": "tcp://10.0.0.1:8900",  # Kubernetes says so of a service with this name
        "WINDTUNNEL_GATEWAY_URL": "http://elsewhere",
        "WINDTUNNEL_GATEWAY_MAX_BODY": "",
    }
    config = GatewayConfig.from_env("127.0.0.1", 7, environ=environ)
    assert (config.max_waiting, config.client_rate, config.drain_seconds, config.port) == (64, 2.5, 0.0, 7)
    assert config.max_body == GatewayConfig.max_body


@pytest.mark.parametrize(
    ("name", "value"),
    [("MAX_BODY", "1.5"), ("MAX_BODY", "0"), ("MAX_BODY", "-1"), ("ANSWER_SECONDS", "nan"), ("CLIENT_RATE", "many")],
)
def test_a_limit_that_is_none_is_refused(name: str, value: str) -> None:
    with pytest.raises(UserError, match="number above 0") as caught:
        GatewayConfig.from_env("127.0.0.1", 0, environ={f"WINDTUNNEL_GATEWAY_{name}": value})
    assert caught.value.where.endswith(name)
