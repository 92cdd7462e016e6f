"""Set-up: speaks when it cannot go on, hands pip's configuration to uv, falls back to pip."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from include.embedded import install as module
from include.embedded.install import SetupError, check_python, install, make_venv, parse_configuration, uv_environment


@pytest.mark.parametrize("version", [(3, 8), (3, 10), (3, 12), (4, 0)])
def test_another_python_is_refused_with_advice(version: tuple[int, int]) -> None:
    with pytest.raises(SetupError, match="make PYTHON="):
        check_python(version)


def test_pips_configuration_is_read_and_the_environment_wins() -> None:
    lines = [
        ":env:.find-links='/env/wheels'",
        "global.cert='/etc/ssl/x.crt'",
        "global.extra-index-url='file:///a/simple file:///b/simple'",
        "global.find-links='/global/wheels'",
        "global.timeout='60'",
    ]
    found = parse_configuration(lines)
    assert found == {
        "cert": "/etc/ssl/x.crt",
        "extra-index-url": "file:///a/simple file:///b/simple",
        "find-links": "/env/wheels",
    }
    environment = uv_environment({"UV_FIND_LINKS": "/mine"}, found)
    assert environment["UV_FIND_LINKS"] == "/mine"
    assert environment["UV_INDEX"] == "file:///a/simple file:///b/simple"
    assert environment["SSL_CERT_FILE"] == "/etc/ssl/x.crt"
    assert "UV_DEFAULT_INDEX" not in environment


def test_a_failed_venv_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "call", lambda *a, **k: 1)
    with pytest.raises(SetupError, match=r"python3\.11-venv"):
        make_venv(tmp_path / "venv")


class Calls:
    """Stands in for `subprocess.call`: programs whose name is in `failing` fail."""

    def __init__(self, venv: Path, failing: set[str]) -> None:
        self.venv, self.failing, self.commands = venv, failing, []  # type: ignore[var-annotated]

    def __call__(self, command: list[str], **_: object) -> int:
        name = "uv" if command[0].endswith("/uv") else ("get-uv" if command[-1] == "uv" else "pip")
        self.commands.append(name)
        if name == "get-uv" and name not in self.failing:
            (self.venv / "bin").mkdir(parents=True, exist_ok=True)
            (self.venv / "bin" / "uv").touch()
        return int(name in self.failing)


@pytest.mark.parametrize(
    ("failing", "expected"),
    [(set(), ["get-uv", "uv"]), ({"get-uv"}, ["get-uv", "pip"]), ({"uv"}, ["get-uv", "uv", "pip"])],
)
def test_uv_first_and_pip_where_uv_cannot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: set[str], expected: list[str]
) -> None:
    calls = Calls(tmp_path, failing)
    monkeypatch.setattr(module.subprocess, "call", calls)
    monkeypatch.setattr(module, "pip_configuration", lambda python: {})
    install(tmp_path)
    assert calls.commands == expected


def test_a_failed_installation_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module.subprocess, "call", Calls(tmp_path, {"get-uv", "pip"}))
    with pytest.raises(SetupError, match="what to do"):
        install(tmp_path)


def test_it_runs_without_anything_installed(tmp_path: Path) -> None:
    """-S leaves site-packages out: only the standard library may be imported before the environment exists."""
    code = "import include.embedded.install as i; print(i.main.__name__)"
    result = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True)
    assert result.stdout == "main\n", result.stderr
