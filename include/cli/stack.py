"""`windtunnel up`, `down` and `airflow`."""

from __future__ import annotations

import argparse
import os
import time
from dataclasses import replace
from pathlib import Path

from include.cli.output import Output
from include.embedded.airflow_api import AirflowApi
from include.embedded.airflow_settings import apply_settings, read_settings
from include.embedded.credentials import ADMIN, keep_secrets
from include.embedded.services import airflow_shell_environment
from include.embedded.stack import Health, Stack, StackView
from include.errors import UserError
from include.settings import Settings


def up(arguments: argparse.Namespace, out: Output) -> int:
    """Starts the stack and shows how to reach it."""
    settings = Settings.from_env()
    if arguments.profile:
        settings = replace(settings, profile=arguments.profile)
    stack, began = Stack(settings), time.monotonic()
    wanted = read_settings()
    started = stack.start()
    if not started:
        out.line("the stack runs already")
    view = stack.wait(progress=ProgressLines(out))
    api = client(view, stack)
    for change in apply_settings(api, wanted):
        out.line(f"  {change}")
    if out.as_json:
        out.document({**describe(view, stack), "started": started, "seconds": round(time.monotonic() - began, 1)})
        return 0
    out.line(f"ready after {time.monotonic() - began:.1f} s")
    show_addresses(view, stack, out)
    out.line("stop it with `make down` or `windtunnel down`")
    return 0


def down(arguments: argparse.Namespace, out: Output) -> int:
    """Stops the stack."""
    began = time.monotonic()
    stopped = Stack(Settings.from_env()).stop()
    if out.as_json:
        out.document({"stopped": stopped, "seconds": round(time.monotonic() - began, 1)})
    else:
        out.line(f"stopped in {time.monotonic() - began:.1f} s" if stopped else "the stack was not running")
    return 0


def airflow(arguments: argparse.Namespace, out: Output) -> int:
    """Becomes Airflow's own command, in the stack's environment."""
    import sys

    settings = Settings.from_env()
    stack = Stack(settings)
    view = stack.view()
    if view is None:
        raise UserError("the stack does not run", where=str(settings.home), hint="start it with `windtunnel up`")
    environment = airflow_shell_environment(settings, view.ports, keep_secrets(stack.layout.secrets))
    rest = [part for index, part in enumerate(arguments.rest) if index or part != "--"]
    program = str(Path(sys.executable).parent / "airflow")
    os.execve(program, ["airflow", *rest], environment)


def client(view: StackView, stack: Stack) -> AirflowApi:
    """A client of the stack's Airflow."""
    return AirflowApi(view.services["airflow"].url, ADMIN, keep_secrets(stack.layout.secrets).admin_password)


def describe(view: StackView, stack: Stack) -> dict[str, object]:
    """Addresses and login, for programs."""
    return {
        "urls": {name: service.url for name, service in view.services.items()},
        "profile": view.profile,
        "user": ADMIN,
        "password": keep_secrets(stack.layout.secrets).admin_password,
        "ports": vars(view.ports),
        "replaced_ports": {name: list(pair) for name, pair in view.ports.replaced().items()},
    }


def show_addresses(view: StackView, stack: Stack, out: Output) -> None:
    """Addresses and login, for people."""
    password = keep_secrets(stack.layout.secrets).admin_password
    notes = {"airflow": f"user {ADMIN}, password {password}", "gateway": "POST /v1/ask", "mlflow": "no login"}
    rows = [(service.title, service.url, notes.get(name, "")) for name, service in view.services.items()]
    out.table(["", "address", ""], rows)
    for name, (usual, chosen) in view.ports.replaced().items():
        out.line(f"port {usual} ({name.replace('_', ' ')}) was taken: {chosen} is used", style="yellow")


class ProgressLines:
    """One line when a service works."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._shown: set[str] = set()

    def __call__(self, name: str, health: Health, seconds: float) -> None:
        if health is Health.HEALTHY and name not in self._shown:
            self._shown.add(name)
            self._out.line(f"  {name} works after {seconds:.1f} s")
