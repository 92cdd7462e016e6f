"""A real cluster with real pods; object store and database are real servers on this machine."""

from __future__ import annotations

import asyncio
import importlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
import yaml

pytest.importorskip("airflow.providers.cncf.kubernetes")

from airflow.sdk import DAG
from airflow.sdk.exceptions import TaskDeferred

from include.failures.records import FailureRecord, read_failures
from include.settings import Settings
from include.spec import load_family
from include.spec.models import FamilySpec
from include.store.objects import ObjectStore, open_store
from plugins.windtunnel.operators import kubernetes_step
from plugins.windtunnel.operators import step as step_module
from plugins.windtunnel.operators.kubernetes_step import KubernetesStepOperator
from tests.kubernetes.cluster import NoCluster, Site, host_address, kubeconfig
from tests.kubernetes.fake_node import FakeNode
from tests.plugins.test_runs import DEFAULTS
from tests.servers.postgres import postgres_on
from tests.servers.s3 import s3_environment, s3_on

HERE = Path(__file__).parent
BUCKET = "windtunnel-kubernetes"
SECONDS = 180
SMALL = {
    "cpu": "100m",
    "memory": "256Mi",
    "ephemeral_storage": "100Mi",
    "shared_memory": "16Mi",
    "grace_seconds": 5,
    "pending_minutes": 3,
}
Made = tuple[KubernetesStepOperator, dict[str, Any]]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in Path(item.path).parents:
            item.add_marker(pytest.mark.kubernetes)


@pytest.fixture(scope="session")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A namespace of the session's own; skips where there is no cluster that can be used."""
    try:
        config, host = kubeconfig(), host_address()
    except NoCluster as reason:
        pytest.skip(str(reason))
    with s3_on(host) as endpoint, postgres_on(host, clients="0.0.0.0/0") as postgres:
        environment = {
            **s3_environment(endpoint),
            "WINDTUNNEL_STORE_URL": f"s3://{BUCKET}/store",
            "WINDTUNNEL_DATABASE_URL": postgres.url(postgres.create()),
            "WINDTUNNEL_OPTUNA_URL": postgres.url(postgres.create()),
            "MLFLOW_TRACKING_URI": postgres.url(postgres.create()),
        }
        boto3.client(
            "s3", endpoint_url=endpoint, region_name="us-east-1", aws_access_key_id="test", aws_secret_access_key="test"
        ).create_bucket(Bucket=BUCKET)
        made = Site(config, host, environment)
        try:
            made.make()
            made.probe(tmp_path_factory.mktemp("probe"))
            yield made
        except NoCluster as reason:
            pytest.skip(str(reason))
        finally:
            made.remove()


@pytest.fixture
def code(tmp_path: Path) -> Path:
    """A folder whose packages pods can import."""
    folder = tmp_path / "code"
    folder.mkdir(mode=0o755)
    return folder


def environment_on(site: Site, folder: Path, code: Path) -> dict[str, str]:
    """The environment of an Airflow that runs steps on the cluster; its pods import from `code`, too."""
    connection = {"conn_type": "kubernetes", "extra": {"kube_config_path": site.config}}
    return {
        **site.environment,
        "WINDTUNNEL_POD_RUNNER": "kubernetes",
        "WINDTUNNEL_POD_TEMPLATE": str(site.template(folder, code)),
        "AIRFLOW_CONN_KUBERNETES_DEFAULT": json.dumps(connection),
    }


@pytest.fixture
def on_cluster(site: Site, settings: Settings, tmp_path: Path, code: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is such an Airflow."""
    for name, value in environment_on(site, tmp_path, code).items():
        monkeypatch.setenv(name, value)


class Steps:
    """Makes operators for a `fit` that does what its inputs say, and does what Airflow would do with them."""

    def __init__(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        self.site = site
        self.store: ObjectStore = open_store(Settings.from_env().store_url)
        self._patch = monkeypatch
        self.told: list[str] = []

    def make(
        self, how: str, *, resources: dict[str, Any] | None = None, run: str = "", nodes: int = 1, **inputs: Any
    ) -> Made:
        spec = load_family("compliance_qa").model_dump(mode="json")
        spec["resources"] = SMALL | (resources or {})
        spec["retry"] = {"pause_seconds": 0}
        spec["trainer"]["nodes"] = nodes
        parsed = FamilySpec.model_validate(spec)
        for module in (kubernetes_step, step_module):
            self._patch.setattr(module, "run_any_spec", lambda context, family: parsed)
        run_id = run or f"manual__{uuid.uuid4().hex[:8]}"
        with DAG("train__x") as dag:
            operator = KubernetesStepOperator(
                task_id="fit", family="compliance_qa", step="fit", inputs={"how": how, "id": run_id, **inputs}
            )
        dag_run = SimpleNamespace(run_type="manual", dag_id="train__x", run_id=run_id, triggering_user_name=None)
        ti = SimpleNamespace(
            dag_id="train__x",
            task_id="fit",
            run_id=run_id,
            map_index=-1,
            try_number=1,
            start_date=datetime.now(UTC),
        )
        return operator, {"dag_run": dag_run, "params": DEFAULTS, "ti": ti, "run_id": run_id, "dag": dag}

    def again(self, made: Made) -> Made:
        """The same task as another process of Airflow has it, such as for its next try."""
        operator, context = made
        with DAG("train__x"):
            other = KubernetesStepOperator(
                task_id="fit", family="compliance_qa", step="fit", inputs=dict(operator.inputs)
            )
        return other, context

    def play(self, node: str, **script: Any) -> dict[str, Any]:
        """Has the fake node play the pods; what a task must ask for to get there."""
        path = Path(Settings.from_env().pod_template)
        template = yaml.safe_load(path.read_text())
        template["metadata"]["annotations"] = {"fakenode/play": json.dumps(script)}
        path.write_text(yaml.safe_dump(template))
        return {"node_selector": {"fakenode": node}, "tolerations": [{"key": "fakenode", "operator": "Exists"}]}

    def run(self, made: Made) -> Any:
        """What the task returns or raises: deferral and trigger as Airflow does them."""
        operator, context = made
        try:
            return operator.execute(context)
        except TaskDeferred as deferred:
            event = asyncio.run(self.fire(deferred))
            return getattr(operator, deferred.method_name)(context, event)

    async def fire(self, deferred: TaskDeferred) -> dict[str, Any]:
        """The event of the trigger, which is made anew from what Airflow would keep of it."""
        path, arguments = deferred.trigger.serialize()
        module, _, name = path.rpartition(".")
        trigger = getattr(importlib.import_module(module), name)(**json.loads(json.dumps(arguments)))
        trigger.tell = lambda form, line: self.told.append(form % line)
        async for event in trigger.run():
            return dict(json.loads(json.dumps(event.payload)))
        raise AssertionError("the trigger ended without an event")

    def begin(self, made: Made) -> Future[Any]:
        """The same, in the background."""
        future: Future[Any] = Future()

        def work() -> None:
            try:
                future.set_result(self.run(made))
            except BaseException as error:  # the test looks at whatever it is
                future.set_exception(error)

        threading.Thread(target=work, daemon=True).start()
        return future

    def pod(self, made: Made, phase: str = "Running", number: int = 0) -> dict[str, Any]:
        """The task's pod, as soon as it is in that phase."""
        operator, context = made
        name = operator.manifest(context, operator.write_document(context), number)["metadata"]["name"]
        return wait_for(lambda: next((p for p in self.named(name) if p["status"]["phase"] == phase), None))

    def named(self, name: str) -> list[dict[str, Any]]:
        return [pod for pod in self.site.pods() if pod["metadata"]["name"] == name]

    def failures(self, made: Made) -> list[FailureRecord]:
        operator, context = made
        return read_failures(self.store, operator.write_document(context).output)


@pytest.fixture
def steps(site: Site, on_cluster: None, code: Path, monkeypatch: pytest.MonkeyPatch) -> Steps:
    package = code / "scripted"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "__main__.py").write_text((HERE / "scripted_step.py").read_text())
    monkeypatch.setitem(step_module.PACKAGES, "fit", "scripted")
    monkeypatch.setitem(step_module.SPEC_PARTS, "fit", ("trainer",))
    return Steps(site, monkeypatch)


@pytest.fixture
def fake_node(site: Site) -> Iterator[str]:
    """A node that only plays its pods; its name."""
    with FakeNode(site.config) as node:
        yield node.name


def wait_for(what: Callable[[], Any], seconds: float = SECONDS) -> Any:
    """The first true value of `what()`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := what():
            return value
        time.sleep(0.2)
    raise AssertionError("it did not happen in time")
