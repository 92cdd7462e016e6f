"""How each server is installed, started, asked and found ready."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.model import FAMILY, Prepared
from include.settings import PROJECT_ROOT

#: What the family's runtime imports, beside the peer itself.
_RUNTIME = ("numpy", "onnxruntime", "bm25s", "PyStemmer", "tokenizers", "pyarrow", "pydantic", "pyyaml")
_INSTALL_SECONDS = 600


class NotInstalled(Exception):
    """A peer could not be installed."""


@dataclass(frozen=True)
class Recipe:
    """A server of `prepared`'s model with one worker process per core.

    Attributes:
        command: Starts it on a port of 127.0.0.1.
        ready: Path that answers 200 when it can be asked.
        path, body: Where a question is posted, and as what.
        environ: Variables that it needs.
    """

    name: str
    command: Callable[[int], list[str]]
    ready: str
    path: str
    body: Callable[[str, int], str]
    environ: dict[str, str] = field(default_factory=dict)


def gateway(prepared: Prepared, workers: int) -> Recipe:
    """The gateway itself."""
    return Recipe(
        "gateway",
        lambda port: [sys.executable, "-m", "include.serving", "--port", str(port), "--workers", str(workers)],
        f"/v2/models/{FAMILY}/versions/{prepared.model}/ready",
        "/v1/ask",
        lambda text, number: json.dumps({"question": text, "unit_id": f"unit-{number}"}),
    )


def mlflow(prepared: Prepared, workers: int) -> Recipe:
    """`mlflow models serve`."""
    from mlflow.pyfunc import save_model

    target = prepared.settings.home / "mlflow-model"
    shutil.rmtree(target, ignore_errors=True)
    code = Path(__file__).with_name("mlflow_model.py")
    os.environ["BENCHMARK_PACKAGE"] = str(prepared.folder)  # MLflow makes the model once while it saves it
    save_model(str(target), python_model=str(code), pip_requirements=[])
    return Recipe(
        "mlflow models serve",
        lambda port: [
            "mlflow", "models", "serve", "-m", str(target), "--env-manager", "local", "-h", "127.0.0.1",
            "-p", str(port), "--workers", str(workers),
        ],
        "/ping",
        "/invocations",
        lambda text, _: json.dumps({"inputs": {"question": [text]}}),
    )  # fmt: skip


def litserve(prepared: Prepared, workers: int) -> Recipe:
    """LitServe, with as many processes for requests as for the model."""
    python = _environment(prepared, "litserve", "litserve==0.2.19")
    return Recipe(
        "LitServe",
        lambda port: [str(python), "-m", "benchmarks.peers.litserve_app", str(port), str(workers)],
        "/health",
        "/predict",
        lambda text, _: json.dumps({"question": text}),
    )


def mlserver(prepared: Prepared, workers: int) -> Recipe:
    """MLServer, the reference implementation of the Open Inference Protocol."""
    python = _environment(prepared, "mlserver", "mlserver==1.7.1", "uvloop<0.22")  # later ones end its workers
    folder = prepared.settings.home / "mlserver"
    folder.mkdir(parents=True, exist_ok=True)
    model = {"name": FAMILY, "implementation": "benchmarks.peers.mlserver_model.PackagedModel"}
    (folder / "model-settings.json").write_text(json.dumps(model))

    def command(port: int) -> list[str]:
        settings = {
            "debug": False, "host": "127.0.0.1", "http_port": port, "grpc_port": port + 1, "metrics_endpoint": None,
            "parallel_workers": workers,
        }  # fmt: skip
        (folder / "settings.json").write_text(json.dumps(settings))
        return [str(python.with_name("mlserver")), "start", str(folder)]

    def body(text: str, _: int) -> str:
        return json.dumps({"inputs": [{"name": "question", "shape": [1], "datatype": "BYTES", "data": [text]}]})

    return Recipe("MLServer", command, f"/v2/models/{FAMILY}/ready", f"/v2/models/{FAMILY}/infer", body)


def bentoml(prepared: Prepared, workers: int) -> Recipe:
    """BentoML."""
    python = _environment(prepared, "bentoml", "bentoml==1.4.39")
    return Recipe(
        "BentoML",
        lambda port: [
            str(python.with_name("bentoml")), "serve", "benchmarks.peers.bentoml_service:Service",
            "--host", "127.0.0.1", "--port", str(port),
        ],
        "/readyz",
        "/ask",
        lambda text, _: json.dumps({"question": text}),
        {"BENCHMARK_WORKERS": str(workers), "BENTOML_DO_NOT_TRACK": "True", "BENTOML_HOME": str(python.parents[2])},
    )  # fmt: skip


PEERS: Sequence[Callable[[Prepared, int], Recipe]] = (mlflow, litserve, mlserver, bentoml)


def _environment(prepared: Prepared, name: str, requirement: str, *more: str) -> Path:
    """The Python of the peer's virtual environment, made where it is not there yet.

    Raises:
        NotInstalled: There is no `uv`, or the packages cannot be installed.
    """
    folder = prepared.settings.home / "peers" / name
    python = folder / "bin" / "python"
    done = folder / f"{requirement}.installed"
    if done.exists():
        return python
    commands = [
        ["uv", "venv", "--quiet", "--clear", "--python", sys.executable, str(folder)],
        ["uv", "pip", "install", "--quiet", "--python", str(python), requirement, *more, *_RUNTIME],
    ]
    for command in commands:
        try:
            subprocess.run(command, cwd=PROJECT_ROOT, check=True, capture_output=True, timeout=_INSTALL_SECONDS)
        except (OSError, subprocess.SubprocessError) as error:
            said = getattr(error, "stderr", None) or str(error).encode()
            raise NotInstalled(f"{name}: {said.decode(errors='replace').strip()[-300:]}") from error
    done.touch()
    return python
