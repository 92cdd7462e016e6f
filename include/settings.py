"""Where this installation keeps its things, read once from the environment.

The embedded default needs no setting at all: everything lies under `.windtunnel/` in the checkout. Production sets the
same names to S3 and PostgreSQL URLs; no other code asks which of the two it is.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from include.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parent.parent
POD_RUNNERS = frozenset({"local", "kubernetes"})


@dataclass(frozen=True)
class Settings:
    """Resolved settings.

    Attributes:
        home: Folder for everything that the embedded default writes.
        store_url: Root of the object store: `file:///...` or `s3://bucket/prefix`.
        database_url: SQLAlchemy URL of the ledger and catalogue.
        optuna_url: SQLAlchemy URL of the Optuna studies.
        mlflow_url: MLflow tracking URI.
        gateway_url: Base URL of the serving gateway.
        pod_runner: `local` (supervised process) or `kubernetes` (a pod each).
        profile: Name of the profile of the family specs that runs use unless told otherwise.
        pod_template: YAML file with what the site's Kubernetes pods have in common (`include.pods.manifest`).
        serving_spec: YAML file that says where models are served (`include.spec.serving`); empty: by the gateway at
            `gateway_url`, which somebody else keeps running.
        spot_nodes: `label=value` of the Kubernetes nodes that may be taken away.
        local_limits: Local pods are held to `cpu` and `memory` of the family's resources, as in a cluster.
        warm_minutes: How long the process that starts local pods warm stays without work; 0: each starts from nothing.
    """

    home: Path
    store_url: str
    database_url: str
    optuna_url: str
    mlflow_url: str
    gateway_url: str
    pod_runner: str
    profile: str
    pod_template: str = ""
    serving_spec: str = ""
    spot_nodes: str = ""
    local_limits: bool = False
    warm_minutes: float = 10.0

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from `WINDTUNNEL_*` and `MLFLOW_TRACKING_URI`, with the embedded defaults.

        Raises:
            UserError: A variable has a value that Windtunnel does not know.
        """
        env = os.environ if environ is None else environ
        home = Path(env.get("WINDTUNNEL_HOME") or PROJECT_ROOT / ".windtunnel").resolve()
        runner = env.get("WINDTUNNEL_POD_RUNNER") or "local"
        if runner not in POD_RUNNERS:
            raise UserError(
                f"unknown pod runner {runner!r}",
                where="WINDTUNNEL_POD_RUNNER",
                hint=f"set it to one of {', '.join(sorted(POD_RUNNERS))}",
            )
        return cls(
            home=home,
            store_url=env.get("WINDTUNNEL_STORE_URL") or (home / "store").as_uri(),
            database_url=env.get("WINDTUNNEL_DATABASE_URL") or f"sqlite:///{home / 'db' / 'ledger.db'}",
            optuna_url=env.get("WINDTUNNEL_OPTUNA_URL") or f"sqlite:///{home / 'db' / 'optuna.db'}",
            mlflow_url=env.get("MLFLOW_TRACKING_URI") or f"sqlite:///{home / 'db' / 'mlflow.db'}",
            gateway_url=(env.get("WINDTUNNEL_GATEWAY_URL") or "http://127.0.0.1:8900").rstrip("/"),
            pod_runner=runner,
            profile=env.get("WINDTUNNEL_PROFILE") or "default",
            pod_template=env.get("WINDTUNNEL_POD_TEMPLATE") or "",
            serving_spec=env.get("WINDTUNNEL_SERVING_SPEC") or "",
            spot_nodes=env.get("WINDTUNNEL_SPOT_NODES") or "",
            local_limits=_switch("WINDTUNNEL_LOCAL_LIMITS", env.get("WINDTUNNEL_LOCAL_LIMITS") or "off"),
            warm_minutes=_minutes("WINDTUNNEL_WARM_MINUTES", env.get("WINDTUNNEL_WARM_MINUTES") or "10"),
        )

    def to_env(self) -> dict[str, str]:
        """The variables that make another process see these same settings."""
        return {
            "WINDTUNNEL_HOME": str(self.home),
            "WINDTUNNEL_STORE_URL": self.store_url,
            "WINDTUNNEL_DATABASE_URL": self.database_url,
            "WINDTUNNEL_OPTUNA_URL": self.optuna_url,
            "MLFLOW_TRACKING_URI": self.mlflow_url,
            "WINDTUNNEL_GATEWAY_URL": self.gateway_url,
            "WINDTUNNEL_POD_RUNNER": self.pod_runner,
            "WINDTUNNEL_PROFILE": self.profile,
            "WINDTUNNEL_POD_TEMPLATE": self.pod_template,
            "WINDTUNNEL_SERVING_SPEC": self.serving_spec,
            "WINDTUNNEL_SPOT_NODES": self.spot_nodes,
            "WINDTUNNEL_LOCAL_LIMITS": "on" if self.local_limits else "off",
            "WINDTUNNEL_WARM_MINUTES": f"{self.warm_minutes:g}",
        }


def _switch(name: str, text: str) -> bool:
    if text not in ("on", "off"):
        raise UserError(f"unknown value {text!r}", where=name, hint="set it to on or off")
    return text == "on"


def _minutes(name: str, text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 <= minutes < 1e6:
        raise UserError(f"{text!r} is no number of minutes", where=name, hint="set it to 0 or more")
    return minutes
