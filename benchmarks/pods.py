"""Many training pods, deferred on one triggerer: what it costs to wait for them, and to tell what they print.

Needs a cluster (KUBECONFIG) whose node this machine is, with an image that has `sh`. The pods are real and do next to
nothing: each prints a line every two seconds. Their tasks are real deferred tasks of a real Airflow; the peer is the
same Airflow with the provider's own trigger, told to read the logs every ten seconds. Then a few pods print as fast as
they can: what Airflow holds must not grow with that.
"""

from __future__ import annotations

import json
import os
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Figure, summarise
from benchmarks.plain_airflow import PlainAirflow
from include.pods.manifest import PodRequest, over, pod_manifest
from include.spec.resources import ResourcesSpec

IMAGE = os.environ.get("WINDTUNNEL_BENCH_IMAGE", "localhost/debian-python:1")
_QUIET = "while :; do echo still training; sleep 2; done"
_LOUD = "i=0; while [ $i -lt {lines} ]; do i=$((i+1)); echo $i {text}; done; sleep 3600"
_LINE = "x" * 200
_SECONDS = 900.0

DAG = """
from airflow.providers.cncf.kubernetes.triggers.pod import KubernetesPodTrigger
from airflow.sdk import DAG, BaseOperator
from datetime import UTC, datetime

from benchmarks.pods_trigger import Keeps


class Waits(BaseOperator):
    template_fields = ("pod",)

    def __init__(self, *, pod, **kwargs):
        super().__init__(**kwargs)
        self.pod = pod

    def execute(self, context):
        namespace, who = context["params"]["namespace"], context["params"]["who"]
        if who == "own":
            trigger = Keeps([self.pod], namespace, "kubernetes_default", 3600, None, 1)
        else:
            trigger = KubernetesPodTrigger(
                self.pod, namespace, datetime.now(UTC), "base", "kubernetes_default", logging_interval=10,
                on_kill_action="keep_pod",
            )
        self.defer(trigger=trigger, method_name="done")

    def done(self, context, event):
        return event["status"]


params = dict.fromkeys(("who", "namespace", "prefix"), "")
with DAG("waits", schedule=None, params=params, max_active_tasks=1000) as dag:
    Waits.partial(task_id="wait").expand(pod=[f"{{{{ params.prefix }}}}-{n}" for n in range(COUNT)])
"""


@dataclass(frozen=True)
class Cost:
    """What the triggerer used over a while: share of a core, and resident memory of its processes (MiB)."""

    cores: float
    mib: float


def run(quick: bool) -> list[Figure]:
    """Processor and memory of a triggerer with 100 deferred pods (20 with `quick`), beside the provider's trigger."""
    count, windows, seconds, megabytes = (20, 1, 15.0, 5) if quick else (100, 3, 20.0, 100)
    with tempfile.TemporaryDirectory() as folder, _pods() as pods:
        quiet, loud = f"quiet-{uuid.uuid4().hex[:6]}", f"loud-{uuid.uuid4().hex[:6]}"
        dags = Path(folder) / "dags"
        dags.mkdir()
        (dags / "waits.py").write_text(DAG.replace("COUNT", str(count)))
        (dags / "few.py").write_text(DAG.replace("COUNT", "4").replace('"waits"', '"few"'))
        pods.start(quiet, count, _QUIET)
        with PlainAirflow(Path(folder) / "home", dags, pods.environment) as airflow:
            pods.wait(quiet, count)
            (idle,) = _costs(airflow, 1, seconds)
            own = _turn(airflow, "own", pods.namespace, quiet, count, windows, seconds)
            peer = _turn(airflow, "provider", pods.namespace, quiet, count, windows, seconds)
            grown = _growth(airflow, pods, quiet, loud, megabytes)
    pods_note = f"{count} pods on one triggerer, a line every 2 s from each; without pods it holds {idle.mib:.0f} MiB"
    name, peer_name = "pods", "the provider's trigger"
    return [
        summarise(
            name, f"share of a core that the triggerer takes for {count} pods", [c.cores - idle.cores for c in own],
            unit="cores", peer=peer_name, peer_values=[c.cores - idle.cores for c in peer], note=pods_note,
        ),
        summarise(
            name, f"memory that the triggerer takes for {count} pods", [c.mib - idle.mib for c in own],
            unit="MiB", peer=peer_name, peer_values=[c.mib - idle.mib for c in peer], note=pods_note,
        ),
        summarise(
            name, f"memory that the triggerer grows by while 4 pods print {megabytes} MB each", [grown], unit="MiB",
        ),
    ]  # fmt: skip


def _turn(
    airflow: PlainAirflow, who: str, namespace: str, prefix: str, count: int, windows: int, seconds: float
) -> list[Cost]:
    """One run of the DAG: deferred, measured, and failed by hand; its pods stay for the next."""
    run = _defer(airflow, "waits", who, namespace, prefix, count)
    time.sleep(15)  # the logs so far are told
    costs = _costs(airflow, windows, seconds)
    airflow.kill("triggerer")  # the next turn has one that has seen nothing
    airflow.api.request("PATCH", f"/dags/waits/dagRuns/{run}", {"state": "failed"})
    airflow.start("triggerer")
    return costs


def _defer(airflow: PlainAirflow, dag: str, who: str, namespace: str, prefix: str, count: int) -> str:
    airflow.until(lambda: airflow.api.dag(dag), _SECONDS, "DAG")
    airflow.api.set_paused(dag, False)
    run = airflow.api.trigger(dag, {"who": who, "namespace": namespace, "prefix": prefix})

    def all_deferred() -> bool:
        states = [task.state for task in airflow.api.tasks(dag, run.run_id)]
        if {"failed", "success"} & set(states):
            raise RuntimeError(f"a task of {dag} ended: {states}")
        return states.count("deferred") == count

    airflow.until(all_deferred, _SECONDS, f"{count} deferred tasks")
    return run.run_id


def _growth(airflow: PlainAirflow, pods: _Pods, quiet: str, loud: str, megabytes: int) -> float:
    """How much the triggerer's peak exceeds what it held before (MiB), while pods print that much each."""
    _defer(airflow, "few", "own", pods.namespace, quiet, 4)  # it has what it needs for any pod
    before = _costs(airflow, 1, 10.0)[0].mib
    pods.start(loud, 4, _LOUD.format(lines=megabytes * 1_000_000 // (len(_LINE) + 8), text=_LINE))
    pods.wait(loud, 4)
    _defer(airflow, "few", "own", pods.namespace, loud, 4)
    peak, end = before, time.monotonic() + 60 + megabytes
    while time.monotonic() < end:
        peak = max(peak, _memory(airflow))
        time.sleep(0.5)
    return peak - before


def _costs(airflow: PlainAirflow, windows: int, seconds: float) -> list[Cost]:
    """Of so many windows of time."""
    costs = []
    for _ in range(windows):
        processes = airflow.processes("triggerer")
        before, began, held = _cpu(processes), time.monotonic(), []
        while time.monotonic() - began < seconds:
            held.append(_memory(airflow))
            time.sleep(1)
        costs.append(Cost((_cpu(processes) - before) / (time.monotonic() - began), sum(held) / len(held)))
    return costs


def _cpu(processes: list[psutil.Process]) -> float:
    return sum(sum(process.cpu_times()[:2]) for process in processes if process.is_running())


def _memory(airflow: PlainAirflow) -> float:
    return sum(process.memory_info().rss for process in airflow.processes("triggerer") if process.is_running()) / 2**20


class _Pods:
    """Pods in a namespace of their own."""

    def __init__(self) -> None:
        from kubernetes import client, config

        config.load_kube_config()
        self.namespace = f"windtunnel-bench-{uuid.uuid4().hex[:6]}"
        self._core: Any = client.CoreV1Api()
        self.environment = {
            "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(
                {"conn_type": "kubernetes", "extra": {"kube_config_path": os.environ["KUBECONFIG"]}}
            ),
            "AIRFLOW__CORE__PARALLELISM": "8",
            "AIRFLOW__TRIGGERER__CAPACITY": "1000",
        }
        self._core.create_namespace({"metadata": {"name": self.namespace}})
        self._core.create_namespaced_service_account(self.namespace, {"metadata": {"name": "windtunnel"}})
        time.sleep(3)  # its token

    def start(self, prefix: str, count: int, script: str) -> None:
        tiny = ResourcesSpec(
            cpu="1m", memory="16Mi", ephemeral_storage="1Gi", shared_memory=None, grace_seconds=1,
            namespace=self.namespace, image=IMAGE, image_pull_policy="Never",
        )  # fmt: skip
        for number in range(count):
            made = pod_manifest(tiny, PodRequest(f"{prefix}-{number}", ["-c", script]))
            template = {"spec": {"containers": [{"name": "base", "command": ["sh"], "envFrom": None}]}}
            self._core.create_namespaced_pod(self.namespace, over(made, template))

    def wait(self, prefix: str, count: int) -> None:
        deadline = time.monotonic() + _SECONDS
        while True:
            pods = self._core.list_namespaced_pod(self.namespace, field_selector="status.phase=Running").items
            if sum(pod.metadata.name.startswith(f"{prefix}-") for pod in pods) == count:
                return
            if time.monotonic() > deadline:
                raise TimeoutError(f"{count} pods do not run")
            time.sleep(1)

    def remove(self) -> None:
        self._core.delete_collection_namespaced_pod(self.namespace, grace_period_seconds=0)
        self._core.delete_namespace(self.namespace)


@contextmanager
def _pods() -> Iterator[_Pods]:
    made = _Pods()
    try:
        yield made
    finally:
        made.remove()
