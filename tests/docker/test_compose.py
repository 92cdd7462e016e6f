"""compose.yaml and its example of .env agree with each other and with the code; no secret stands in either."""

from __future__ import annotations

import importlib.util
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml

from include.serving.config import GatewayConfig
from include.serving.keys import KEY_VARIABLE
from include.settings import Settings

DOCKER = Path(__file__).resolve().parents[2] / "docker"
TEXT = (DOCKER / "compose.yaml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
EXAMPLE = dict(
    line.split("=", 1) for line in (DOCKER / "compose" / "env.example").read_text().splitlines() if "=" in line[:40]
    and not line.startswith("#")
)  # fmt: skip


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == EXAMPLE.keys()


def test_a_secret_must_be_given_and_the_example_gives_none() -> None:
    needed = set(re.findall(r"\$\{(\w+):\?", TEXT))
    assert {name for name in needed if EXAMPLE[name]} == set()
    assert {name for name, value in EXAMPLE.items() if not value} == needed


def test_what_is_given_is_what_the_code_reads() -> None:
    given = {**SERVICES["scheduler"]["environment"]}
    known = Settings.from_env({}).to_env().keys() | {KEY_VARIABLE}
    assert {name for name in given if name.startswith("WINDTUNNEL_")} <= known
    filled = {name: re.sub(r"\$\{[^}]*\}", "x" * 20, str(value)) for name, value in given.items()}
    settings = Settings.from_env(filled)
    assert settings.store_url.startswith("s3://") and settings.database_url.startswith("postgresql+psycopg2://")
    assert GatewayConfig.from_env("0.0.0.0", 8900, environ=filled).clients


def test_services_are_asked_for_where_they_listen() -> None:
    environment = SERVICES["scheduler"]["environment"]
    assert environment["WINDTUNNEL_GATEWAY_URL"] == "http://gateway:8900" and "8900" in SERVICES["gateway"]["ports"][0]
    assert environment["MLFLOW_TRACKING_URI"] == "http://mlflow:5000" and "--port=5000" in SERVICES["mlflow"]["command"]
    assert environment["AWS_ENDPOINT_URL"] == "http://store:8333" and "-s3.port=8333" in SERVICES["store"]["command"]
    assert environment["AIRFLOW__CORE__EXECUTION_API_SERVER_URL"] == "http://api-server:8080/execution/"
    assert any(host.startswith("mlflow:5000") for host in SERVICES["mlflow"]["command"][-1].split("=")[1].split(","))
    made = (DOCKER / "compose" / "databases.sql").read_text()
    asked = set(re.findall(r"@postgres/(\w+)", TEXT))
    assert asked == set(re.findall(r"CREATE DATABASE (\w+);", made)) | {
        SERVICES["postgres"]["environment"]["POSTGRES_DB"]
    }


def test_everything_that_runs_on_is_checked_restarted_and_published_to_this_host_alone() -> None:
    for name, service in SERVICES.items():
        if name == "prepare":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped" and service["healthcheck"]["test"], name
        assert all(port.startswith("${BIND_ADDRESS:-127.0.0.1}:") for port in service.get("ports", ())), name
        for other, how in service.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other == "prepare" else "service_healthy"
            assert how == {"condition": wanted}, f"{name} needs {other}"


def test_our_images_are_read_only_and_may_do_nothing_special() -> None:
    for name, service in SERVICES.items():
        if "windtunnel" in service["image"]:
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
        else:
            assert re.search(r":\d+\.\d+", service["image"]), f"the image of {name} is pinned"


def test_docker_compose_reads_it(tmp_path: Path) -> None:
    command = shutil.which("docker-compose")
    if command is None:
        pytest.skip("docker-compose is not installed")
    text = (
        TEXT
        if "v2" in subprocess.check_output([command, "version"], text=True)
        else TEXT.replace("name: ", "x-name: ", 1)
    )
    (tmp_path / "compose.yaml").write_text(text)
    (tmp_path / ".env").write_text("".join(f"{name}={value or 'x' * 20}\n" for name, value in EXAMPLE.items()))
    done = subprocess.run(
        [command, "-f", str(tmp_path / "compose.yaml"), "--env-file", str(tmp_path / ".env"), "config"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert yaml.safe_load(done.stdout)["services"].keys() == SERVICES.keys()


def test_preparing_twice_makes_buckets_and_pools_once(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Against a real S3 server; Airflow's own commands are noted and not run."""
    spec = importlib.util.spec_from_file_location("prepare", DOCKER / "compose" / "prepare.py")
    assert spec and spec.loader
    prepare = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(prepare)
    root = DOCKER.parent
    monkeypatch.setattr(prepare, "Path", lambda text: Path(str(text).replace("/opt/windtunnel", str(root))))
    monkeypatch.setenv(
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_PASSWORDS_FILE", str(tmp_path / "airflow" / "passwords.json")
    )
    monkeypatch.setenv("AIRFLOW_ADMIN_PASSWORD", "from-the-file")
    called: list[list[str]] = []

    def run(command: list[str], check: bool) -> None:
        called.append(command)
        if command[1] == "pools":
            assert json.loads(Path(command[3]).read_text())["training"]["slots"] == 2

    monkeypatch.setattr(prepare.subprocess, "run", run)
    for _ in range(2):
        prepare.main()
    assert [command[1:3] for command in called] == [["db", "migrate"], ["pools", "import"]] * 2
    assert {bucket["Name"] for bucket in boto3.client("s3").list_buckets()["Buckets"]} >= set(prepare.BUCKETS)
    passwords = tmp_path / "airflow" / "passwords.json"
    assert json.loads(passwords.read_text()) == {"admin": "from-the-file"} and passwords.stat().st_mode & 0o077 == 0
