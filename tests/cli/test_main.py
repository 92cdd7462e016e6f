"""The command line: quick to start, clear when it is used wrongly, no traceback for what users do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

from include.cli import main as module
from include.cli.main import build_parser, main
from include.errors import DataError, UserError, WindtunnelError
from tests.cli.conftest import Result

Windtunnel = Callable[..., Result]


def test_the_command_starts_without_heavy_libraries() -> None:
    code = (
        "import sys; from include.cli.main import build_parser; build_parser();"
        "heavy = {'rich', 'httpx', 'sqlalchemy', 'pydantic', 'yaml', 'torch', 'mlflow', 'pandas', 'airflow'};"
        "print(sorted(heavy & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"


def test_the_installed_command_speaks() -> None:
    result = subprocess.run([sys.executable, "-m", "include.cli.main", "--help"], capture_output=True, text=True)
    assert result.returncode == 0 and "validate" in result.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("fly",),
        ("ledger", "--limit", "0"),
        ("ledger", "--limit", "many"),
        ("train", "--seed", "-1"),
        ("quarantine",),
        ("ask",),
    ],
)
def test_wrong_usage_is_refused(windtunnel: Windtunnel, arguments: tuple[str, ...]) -> None:
    result = windtunnel(*arguments)
    assert result.code == 2
    assert "usage:" in result.err


@pytest.mark.parametrize(("error", "code"), [(UserError, 2), (DataError, 2), (WindtunnelError, 1)])
def test_the_kind_of_error_decides_the_exit_status(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: type[WindtunnelError], code: int
) -> None:
    class Module:
        @staticmethod
        def status(arguments: object, out: object) -> int:
            raise error("it was wrong", where="here:3", hint="do that", tail="last line")

    monkeypatch.setattr(module.importlib, "import_module", lambda name: Module)
    assert main(["status"]) == code
    shown = capsys.readouterr().err
    assert "here:3: it was wrong" in shown and "what to do: do that" in shown and "| last line" in shown
    assert main(["status", "--json"]) == code
    assert '"message": "it was wrong"' in capsys.readouterr().err


def test_every_command_names_code_that_exists() -> None:
    import importlib

    commands = [
        ["up"], ["down"], ["airflow"], ["demo"], ["status"], ["validate"], ["train"], ["versions"], ["ledger"],
        ["ask", "f", "q"], ["quarantine", "list"], ["quarantine", "show", "f", "d"],
        ["quarantine", "release", "f", "d", "--reason", "w", "--by", "b"], ["data", "versions"],
    ]  # fmt: skip
    for command in commands:
        name, _, function = build_parser().parse_args(command).run.partition(":")
        assert callable(getattr(importlib.import_module(name), function)), command


def test_every_command_offers_json() -> None:
    for command in (["status"], ["validate"], ["versions"], ["ledger"], ["ask", "f", "q"], ["up"], ["train"], ["demo"]):
        assert build_parser().parse_args([*command, "--json"]).json
