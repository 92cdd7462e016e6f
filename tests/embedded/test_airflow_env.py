"""The services' configuration: options that exist, no secret in files that others can read, nothing that calls home."""

from __future__ import annotations

import json
import stat
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

from include.embedded.airflow_env import airflow_environment, write_passwords
from include.embedded.credentials import Secrets
from include.embedded.layout import Layout
from include.embedded.ports import Ports
from include.embedded.services import QUIET, build_services, stack_environment
from include.settings import PROJECT_ROOT, Settings


@pytest.fixture
def layout(settings: Settings) -> Layout:
    made = Layout(settings.home)
    made.make()
    return made


def known_options() -> set[str]:
    spec = find_spec("airflow")
    assert spec and spec.origin
    document = yaml.safe_load((Path(spec.origin).parent / "config_templates" / "config.yml").read_text())
    return {f"AIRFLOW__{s}__{o}".upper() for s, section in document.items() for o in section["options"]}


def test_every_option_is_one_that_this_airflow_knows(layout: Layout) -> None:
    names = {name for name in airflow_environment(layout, Ports(), Secrets.generate()) if name.startswith("AIRFLOW__")}
    assert names - known_options() == set()


def test_the_chosen_ports_reach_every_option(layout: Layout) -> None:
    environment = airflow_environment(
        layout, Ports(airflow=1234, worker_logs=1235, trigger_logs=1236), Secrets.generate()
    )
    assert environment["AIRFLOW__API__PORT"] == "1234"
    assert environment["AIRFLOW__API__BASE_URL"] == "http://127.0.0.1:1234"
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://127.0.0.1:1234/execution/"
    assert environment["AIRFLOW__LOGGING__WORKER_LOG_SERVER_PORT"] == "1235"
    assert environment["AIRFLOW__LOGGING__TRIGGER_LOG_SERVER_PORT"] == "1236"


def test_airflow_reads_the_checkouts_dags_and_listens_on_loopback_only(layout: Layout) -> None:
    environment = airflow_environment(layout, Ports(), Secrets.generate())
    bundle = json.loads(environment["AIRFLOW__DAG_PROCESSOR__DAG_BUNDLE_CONFIG_LIST"])[0]
    assert bundle["kwargs"]["path"] == str(PROJECT_ROOT / "dags")
    assert environment["AIRFLOW__API__HOST"] == "127.0.0.1"


def test_the_password_file_is_private(layout: Layout) -> None:
    secrets = Secrets.generate()
    write_passwords(layout, secrets)
    path = layout.airflow / "passwords.json"
    assert json.loads(path.read_text()) == {"admin": secrets.admin_password}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_no_secret_lies_in_the_files_of_the_start(settings: Settings, layout: Layout) -> None:
    secrets = Secrets.generate()
    build_services(settings, Ports(), secrets)
    for path in layout.run.rglob("*"):
        if path.is_file():
            assert not any(value in path.read_text() for value in vars(secrets).values()), path


def test_the_stacks_own_values_win_over_the_callers(settings: Settings) -> None:
    environment = stack_environment(
        settings, Ports(gateway=4321), {"MLFLOW_TRACKING_URI": "http://elsewhere", "PATH": "/x"}
    )
    assert environment["WINDTUNNEL_GATEWAY_URL"] == "http://127.0.0.1:4321"
    assert environment["MLFLOW_TRACKING_URI"] == "http://127.0.0.1:5000"
    assert environment["PATH"].endswith(":/x")
    assert all(environment[name] == value for name, value in QUIET.items())


def test_a_start_migrates_only_when_it_has_to(settings: Settings, layout: Layout) -> None:
    import sqlite3

    from include.embedded.database import remember_migration

    database, memory = layout.airflow / "airflow.db", layout.airflow / "migrated.json"

    def first_program() -> object:
        build_services(settings, Ports(), Secrets.generate())
        return json.loads((layout.run / "airflow.plan.json").read_text())["first"]

    assert first_program(), "there is no database yet"
    with sqlite3.connect(database) as connection:
        connection.execute("create table alembic_version (version_num text)")
        connection.execute("insert into alembic_version values ('abc')")
        assert connection.execute("pragma journal_mode").fetchone() == ("wal",)
    assert first_program(), "nobody has said that this revision is the right one"
    remember_migration(database, memory)
    assert first_program() is None
    memory.write_text(json.dumps({**json.loads(memory.read_text()), "airflow": "2.0.0"}))
    assert first_program(), "another Airflow wrote it"


def test_mlflows_variables_are_the_ones_it_reads(settings: Settings, layout: Layout) -> None:
    spec = find_spec("mlflow")
    assert spec and spec.origin
    constants: dict[str, str] = {}
    exec((Path(spec.origin).parent / "server" / "constants.py").read_text(), constants)  # importing it costs 10 s
    service = next(s for s in build_services(settings, Ports(), Secrets.generate()) if s.name == "mlflow")
    names = ("BACKEND_STORE_URI", "REGISTRY_STORE_URI", "ARTIFACT_ROOT", "SERVE_ARTIFACTS", "ARTIFACTS_DESTINATION")
    assert {constants[f"{name}_ENV_VAR"] for name in names} <= set(service.environment)
