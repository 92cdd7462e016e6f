"""What the laptop stack consists of: commands, environments, logs and health checks of its services."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from include.embedded.airflow_env import airflow_environment, airflow_url, write_passwords
from include.embedded.credentials import Secrets
from include.embedded.database import needs_migration, use_wal
from include.embedded.layout import Layout
from include.embedded.ports import LOOPBACK, Ports
from include.embedded.prefork import Plan, Program
from include.embedded.processes import MARK
from include.settings import PROJECT_ROOT, Settings

#: No library that runs here reports home, and none looks for models outside.
QUIET = {
    "DO_NOT_TRACK": "true",
    "SCARF_ANALYTICS": "false",
    "SCARF_NO_ANALYTICS": "true",
    "ITERATIVE_DO_NOT_TRACK": "true",
    "GX_ANALYTICS_ENABLED": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}

#: Imported once by the Airflow host. Only Airflow and third parties: an edit of our own code must reach the next task.
_AIRFLOW_PRELOAD = (
    "airflow.__main__",
    "airflow.utils.db",
    "airflow.jobs.scheduler_job_runner",
    "airflow.jobs.triggerer_job_runner",
    "airflow.jobs.dag_processor_job_runner",
    "airflow.executors.local_executor",
    "airflow.dag_processing.manager",
    "airflow.dag_processing.processor",
    "airflow.cli.commands.scheduler_command",
    "airflow.cli.commands.triggerer_command",
    "airflow.cli.commands.dag_processor_command",
    "airflow.cli.commands.db_command",
    "airflow.api_fastapi.auth.tokens",
    "airflow.dag_processing.bundles.local",
    "airflow.models.renderedtifields",
    "airflow.providers.common.io.assets.file",
    "airflow.providers.standard.decorators.python",
    "airflow.providers.standard.operators.trigger_dagrun",
    "airflow.sdk.execution_time.task_runner",
    "airflow.utils.serve_logs.log_server",
)
_API_PRELOAD = ("airflow.cli.commands.api_server_command", "airflow.api_fastapi.main")
_AIRFLOW_ENTRY = "airflow.__main__:main"


@dataclass(frozen=True)
class Service:
    """One program of the stack.

    Attributes:
        title: How people know it.
        url: What people open.
        health: URL that answers 200 when the service works.
        log: Where its output goes; Airflow's components have logs of their own beside it.
    """

    name: str
    title: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    log: Path
    url: str
    health: str


def stack_settings(settings: Settings, ports: Ports) -> Settings:
    """The settings that everything in the stack works by: those of the caller, with the stack's own servers."""
    return replace(
        settings,
        mlflow_url=f"http://{LOOPBACK}:{ports.mlflow}",
        gateway_url=f"http://{LOOPBACK}:{ports.gateway}",
    )


def stack_environment(settings: Settings, ports: Ports, base: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment of every process of the stack: `base` (this process's own) with the stack's settings over it."""
    inherited = dict(os.environ if base is None else base)
    scripts = str(Path(sys.executable).parent)
    return {
        **inherited,
        **QUIET,
        **stack_settings(settings, ports).to_env(),
        "PYTHONPATH": str(PROJECT_ROOT),
        "PYTHONUNBUFFERED": "1",
        "PATH": os.pathsep.join([scripts, inherited.get("PATH", os.defpath)]),
        "OBJC_DISABLE_INITIALIZE_FORK_SAFETY": "YES",  # macOS ends forks of processes that used its frameworks
    }


def build_services(settings: Settings, ports: Ports, secrets: Secrets) -> list[Service]:
    """The stack's services, most urgent first. Writes the files that they start from."""
    layout = Layout(settings.home)
    environment = {**stack_environment(settings, ports), MARK: str(settings.home)}
    return [
        _airflow(layout, ports, secrets, environment),
        _gateway(layout, ports, environment),
        _mlflow(layout, ports, environment),
    ]


def airflow_shell_environment(settings: Settings, ports: Ports, secrets: Secrets) -> dict[str, str]:
    """What the `airflow` command needs to work on the stack's Airflow."""
    return {
        **stack_environment(settings, ports),
        **airflow_environment(Layout(settings.home), ports, secrets),
    }


def _airflow(layout: Layout, ports: Ports, secrets: Secrets, environment: Mapping[str, str]) -> Service:
    write_passwords(layout, secrets)
    database = layout.airflow / "airflow.db"
    migrate = needs_migration(database, layout.airflow / "migrated.json")
    use_wal(database)
    programs = [
        _component(layout, "api-server", "--apps", "all", preload=_API_PRELOAD),
        _component(layout, "scheduler"),
        _component(layout, "dag-processor"),
        _component(layout, "triggerer"),
    ]
    plan = Plan(
        preload=_AIRFLOW_PRELOAD,
        first=_component(layout, "db", "migrate") if migrate else None,
        programs=tuple(programs),
        state=layout.run / "airflow.json",
    )
    path = layout.run / "airflow.plan.json"
    path.write_text(plan.model_dump_json(indent=1), encoding="utf-8")
    url = airflow_url(ports)
    return Service(
        name="airflow",
        title="Airflow",
        command=(sys.executable, "-m", "include.embedded.prefork", str(path)),
        environment={**environment, **airflow_environment(layout, ports, secrets)},
        log=layout.log("airflow"),
        url=url,
        health=f"{url}/api/v2/monitor/health",
    )


def _component(layout: Layout, *arguments: str, preload: tuple[str, ...] = ()) -> Program:
    name = "migrate" if arguments[0] == "db" else arguments[0]
    return Program(
        name=name,
        entry=_AIRFLOW_ENTRY,
        argv=("airflow", *arguments),
        log=layout.log(f"airflow-{name}"),
        preload=preload,
    )


def _gateway(layout: Layout, ports: Ports, environment: Mapping[str, str]) -> Service:
    url = f"http://{LOOPBACK}:{ports.gateway}"
    return Service(
        name="gateway",
        title="Gateway",
        command=(sys.executable, "-m", "include.serving", "--host", LOOPBACK, "--port", str(ports.gateway)),
        environment=environment,
        log=layout.log("gateway"),
        url=url,
        health=f"{url}/v2/health/live",
    )


def _mlflow(layout: Layout, ports: Ports, environment: Mapping[str, str]) -> Service:
    """MLflow's server app, run as `mlflow server` runs it.

    `mlflow server` itself imports MLflow twice (7 s of CPU): once to read its options, then in the process that serves.
    The variables are how it hands its options to that second process.
    """
    url = f"http://{LOOPBACK}:{ports.mlflow}"
    options = {
        "_MLFLOW_SERVER_FILE_STORE": f"sqlite:///{layout.databases / 'mlflow.db'}",
        "_MLFLOW_SERVER_REGISTRY_STORE": f"sqlite:///{layout.databases / 'mlflow.db'}",
        "_MLFLOW_SERVER_ARTIFACT_ROOT": "mlflow-artifacts:/",
        "_MLFLOW_SERVER_SERVE_ARTIFACTS": "true",
        "_MLFLOW_SERVER_ARTIFACT_DESTINATION": (layout.home / "mlflow").as_uri(),
        "_MLFLOW_SGI_NAME": "uvicorn",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    arguments = ("--host", LOOPBACK, "--port", str(ports.mlflow), "--workers", "1", "--log-level", "warning")
    return Service(
        name="mlflow",
        title="MLflow",
        command=(sys.executable, "-m", "uvicorn", *arguments, "mlflow.server.fastapi_app:app"),
        environment={**environment, **options},
        log=layout.log("mlflow"),
        url=url,
        # the first request that needs the database creates it
        health=f"{url}/api/2.0/mlflow/experiments/get-by-name?experiment_name=Default",
    )
