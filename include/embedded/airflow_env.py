"""Airflow's configuration for the laptop stack, as environment variables and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from include.embedded.credentials import ADMIN, Secrets
from include.embedded.layout import Layout, write_json
from include.embedded.ports import LOOPBACK, Ports
from include.settings import PROJECT_ROOT

#: SQLite waits this long for another writer (seconds); Airflow's components write at the same time.
_BUSY_SECONDS = 60


def airflow_url(ports: Ports) -> str:
    """Base URL of Airflow's UI and REST API."""
    return f"http://{LOOPBACK}:{ports.airflow}"


def airflow_environment(layout: Layout, ports: Ports, secrets: Secrets) -> dict[str, str]:
    """`AIRFLOW_HOME` and `AIRFLOW__SECTION__OPTION` variables of all components."""
    database = f"sqlite:///{quote(str(layout.airflow / 'airflow.db'))}?timeout={_BUSY_SECONDS}"
    bundle = {
        "name": "dags-folder",
        "classpath": "airflow.dag_processing.bundles.local.LocalDagBundle",
        "kwargs": {"path": str(PROJECT_ROOT / "dags")},
    }
    options: Mapping[tuple[str, str], object] = {
        ("core", "dags_folder"): PROJECT_ROOT / "dags",
        ("core", "plugins_folder"): PROJECT_ROOT / "plugins",
        ("core", "load_examples"): False,
        ("core", "executor"): "plugins.windtunnel.executor.LocalExecutor",
        ("core", "parallelism"): 5,
        ("core", "fernet_key"): secrets.fernet_key,
        ("core", "hostname_callable"): "include.embedded.host.loopback",
        ("core", "auth_manager"): "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
        ("core", "simple_auth_manager_users"): f"{ADMIN}:admin",
        ("core", "simple_auth_manager_passwords_file"): layout.airflow / "passwords.json",
        ("core", "execution_api_server_url"): f"{airflow_url(ports)}/execution/",
        ("core", "mp_start_method"): "fork",
        ("database", "sql_alchemy_conn"): database,
        ("database", "check_migrations"): False,  # done once, before any component starts
        ("api", "base_url"): airflow_url(ports),
        ("api", "host"): LOOPBACK,
        ("api", "port"): ports.airflow,
        ("api", "workers"): 1,
        ("api", "worker_timeout"): 10,  # also how long a stop waits for open connections
        ("api", "secret_key"): secrets.api_secret,
        ("api_auth", "jwt_secret"): secrets.jwt_secret,
        ("logging", "base_log_folder"): layout.airflow / "logs",
        ("logging", "worker_log_server_port"): ports.worker_logs,
        ("logging", "trigger_log_server_port"): ports.trigger_logs,
        ("logging", "colored_console_log"): False,
        # Latency of a small machine with a few tasks, not throughput of a cluster.
        ("scheduler", "scheduler_idle_sleep_time"): 0.1,
        ("scheduler", "scheduler_health_check_threshold"): 20,
        ("scheduler", "orphaned_tasks_check_interval"): 20,
        ("scheduler", "task_instance_heartbeat_timeout"): 60,
        ("scheduler", "task_instance_heartbeat_timeout_detection_interval"): 5,
        ("triggerer", "triggerer_health_check_threshold"): 20,
        ("dag_processor", "dag_bundle_config_list"): json.dumps([bundle]),
        ("dag_processor", "refresh_interval"): 20,
        ("dag_processor", "min_file_process_interval"): 60,
        ("dag_processor", "parsing_processes"): 2,
        ("dag_processor", "print_stats_interval"): 0,
        ("workers", "execution_api_timeout"): 30,  # training may hold all cores for a while
    }
    return {
        "AIRFLOW_HOME": str(layout.airflow),
        "AIRFLOW_CONFIG": str(layout.airflow / "airflow.cfg"),
        **{f"AIRFLOW__{section}__{option}".upper(): str(value) for (section, option), value in options.items()},
    }


def write_passwords(layout: Layout, secrets: Secrets) -> None:
    """The file in which Airflow's simple auth manager looks up its users' passwords."""
    write_json(layout.airflow / "passwords.json", {ADMIN: secrets.admin_password}, mode=0o600)
