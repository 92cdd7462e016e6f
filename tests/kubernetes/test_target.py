"""Gateways on a real cluster: deployed, released to under load, scaled, broken in all the usual ways, taken away."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from include.errors import UserError
from include.release import registry
from include.release.ledger import Event, Ledger
from include.release.rollback import revert
from include.settings import Settings
from include.spec.serving import ServingSpec, read_serving
from include.store.database import open_database
from include.targets.api import KubernetesApi
from include.targets.contract import TargetError, TargetPhase
from include.targets.kubernetes import KubernetesTarget
from tests.fakes.tiny_family import FAMILY as TINY
from tests.fakes.tiny_family import TinyDataset, TinyFamily
from tests.kubernetes.cluster import IMAGE, Site
from tests.release.conftest import FakeMlflow
from tests.release.test_live import fly, registered
from tests.serving.conftest import make_world
from tests.targets.conformance import Bench, TargetConformance, under_load

KEY = "a-key-of-the-tests-own"
NAME = "windtunnel-gateway"

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def environ(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """This process, and those that it starts, work on the target in the site's namespace."""
    folder = tmp_path_factory.mktemp("target")
    given = {**site.environment, "WINDTUNNEL_GATEWAY_API_KEY": KEY}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "windtunnel-env"}, "stringData": given}
    site.apply(secret)
    path = folder / "serving.yaml"
    path.write_text(yaml.safe_dump(spec_on(site, folder)))
    own = {
        **given,
        "KUBECONFIG": site.config,
        "WINDTUNNEL_HOME": str(folder / "home"),
        "WINDTUNNEL_SERVING_SPEC": str(path),
    }
    before = dict(os.environ)
    os.environ.update(own)
    yield own
    os.environ.clear()
    os.environ.update(before)


def spec_on(site: Site, folder: Path, **changes: Any) -> dict[str, Any]:
    """A serving spec for the site: its pods run this machine's Python, and this checkout."""
    template = yaml.safe_load(site.template(folder, folder).read_text())["spec"]
    (container,) = template["containers"]
    own = {key: container[key] for key in ("env", "volumeMounts", "workingDir")}
    return {
        "target": "kubernetes",
        "namespace": site.namespace,
        "image": IMAGE,
        "allow_tag": True,
        "image_pull_policy": "Never",
        "cpu": "100m",
        "memory": "512Mi",
        "scratch": "1Gi",
        "stuck_seconds": 2,
        "deadline_seconds": 150,
        "replicas": {"min": 2, "max": 2},
        "pod": {"spec": {"containers": [{"name": "gateway", **own}], "volumes": template["volumes"]}},
        **changes,
    }


def target_of(spec: ServingSpec) -> KubernetesTarget:
    settings = Settings.from_env()
    return KubernetesTarget(settings, spec, KubernetesApi.connect(spec.namespace))


@pytest.fixture(scope="module")
def bench(site: Site, environ: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    settings = Settings.from_env()
    spec = read_serving(settings.serving_spec)
    api = KubernetesApi.connect(spec.namespace)

    def addresses() -> dict[str, float]:
        """The Service's endpoints: this cluster leads nobody to them by itself."""
        found = api.get("v1", "Endpoints", NAME) or {}
        ready = [each["ip"] for part in found.get("subsets") or [] for each in part.get("addresses") or []]
        return {f"http://{address}:{spec.port}": 1.0 for address in ready}

    world = make_world(settings, tmp_path_factory.mktemp("world"))
    made = Bench(lambda: target_of(spec), world, 2, 3, addresses, environ)
    yield made
    made.target.undeploy()


class TestKubernetesTarget(TargetConformance):
    """See `TargetConformance`."""


class TestWhatGoesWrong:
    """A deploy that fails says why, and what served before serves on."""

    @pytest.fixture
    def serving(self, bench: Bench) -> dict[str, Any]:
        """The bench's target serves; a spec that may be changed."""
        bench.target.deploy()
        bench.route(bench.world.model("1.0.0", latency_ms=1))
        bench.wait_for(bench.ready(2))
        return yaml.safe_load(Path(bench.environ["WINDTUNNEL_SERVING_SPEC"]).read_text())

    def failing(self, bench: Bench, spec: dict[str, Any], **changes: Any) -> TargetError:
        """The error of deploying the changed spec, under load; afterwards all is as it was."""
        caught: list[TargetError] = []

        def work() -> None:
            with pytest.raises(TargetError) as told:
                target_of(ServingSpec.model_validate({**spec, **changes})).deploy()
            caught.append(told.value)
            status = bench.target.status()
            assert status.ready == 2 and status.phase is TargetPhase.DEGRADED, status
            assert any(replica.why for replica in status.replicas) or status.why

        under_load(bench, work)
        bench.target.deploy()
        bench.wait_for(bench.ready(2))
        return caught[0]

    def test_an_image_that_is_not_there(self, bench: Bench, serving: dict[str, Any]) -> None:
        error = self.failing(bench, serving, image="localhost/not-there:1")
        assert error.fields["reason"] == "image" and "ErrImageNeverPull" in error.message
        assert "registry has this digest" in error.hint

    def test_a_gateway_that_crashes(self, bench: Bench, serving: dict[str, Any]) -> None:
        spec = {**serving, "pod": {"spec": {**serving["pod"]["spec"]}}}
        (container,) = spec["pod"]["spec"]["containers"]
        env = [*container["env"], {"name": "WINDTUNNEL_GATEWAY_API_KEY", "value": "short"}]
        spec["pod"]["spec"]["containers"] = [{**container, "env": env}]
        error = self.failing(bench, spec, stuck_seconds=1)
        assert error.fields["reason"] == "crash loop"
        assert "exit code 2" in error.message and "at least 16" in error.message, error.message

    def test_more_than_any_node_has(self, bench: Bench, serving: dict[str, Any]) -> None:
        error = self.failing(bench, serving, memory="900Gi", deadline_seconds=8)
        assert error.fields["reason"] == "unschedulable" and "nsufficient memory" in error.message

    def test_no_room_in_the_quota(self, site: Site, bench: Bench, serving: dict[str, Any]) -> None:
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "small"}}
        site.apply({**quota, "spec": {"hard": {"pods": "2"}}})
        try:
            bench.wait_for(lambda: "used" in site.kubectl("get", "quota", "small", "-o", "yaml"))
            error = self.failing_quota(bench, serving)
        finally:
            site.kubectl("delete", "quota", "small")
        assert error.fields["reason"] == "quota" and "exceeded quota" in error.message
        bench.target.deploy()
        bench.wait_for(bench.ready(2))

    def failing_quota(self, bench: Bench, spec: dict[str, Any]) -> TargetError:
        with pytest.raises(TargetError) as told:
            target_of(ServingSpec.model_validate({**spec, "memory": "500Mi"})).deploy()
        assert bench.target.status().ready == 2
        return told.value

    def test_a_secret_that_is_not_there(self, bench: Bench, serving: dict[str, Any]) -> None:
        error = self.failing(bench, serving, secret="not-there")
        assert error.fields["reason"] == "cannot start" and 'secret "not-there" not found' in error.message


def test_what_the_api_refuses_is_an_error_of_the_spec(bench: Bench) -> None:
    spec = yaml.safe_load(Path(bench.environ["WINDTUNNEL_SERVING_SPEC"]).read_text())
    spec["pod"]["spec"]["restartPolicy"] = "Never"
    with pytest.raises(UserError, match="restartPolicy"):
        target_of(ServingSpec.model_validate(spec)).deploy()
    with pytest.raises(UserError, match="there is no namespace"):
        target_of(ServingSpec.model_validate({**spec, "namespace": "nobody-made-this"})).deploy()


def test_only_our_own_fields_are_taken_back(site: Site, bench: Bench) -> None:
    bench.target.deploy()
    site.kubectl("set", "resources", "deployment", NAME, "--requests=cpu=150m", "-c", "gateway")
    site.kubectl("annotate", "deployment", NAME, "somebody/else=was-here")
    site.kubectl("label", "service", NAME, "team=ours")
    done = bench.target.deploy()
    assert done.changed == (f"Deployment {NAME}",)
    assert len(done.taken_back) == 1 and "requests" in done.taken_back[0]
    found = yaml.safe_load(site.kubectl("get", "deployment", NAME, "-o", "yaml"))
    assert found["metadata"]["annotations"]["somebody/else"] == "was-here"
    assert found["spec"]["template"]["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "100m"
    assert bench.target.deploy().changed == ()


def test_what_is_somebody_elses_is_left_alone(site: Site, bench: Bench) -> None:
    spec = yaml.safe_load(Path(bench.environ["WINDTUNNEL_SERVING_SPEC"]).read_text())
    site.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "theirs"}})
    with pytest.raises(UserError, match="not Windtunnel's"):
        target_of(ServingSpec.model_validate({**spec, "name": "theirs"})).deploy()


def test_the_autoscaler_takes_over_and_is_taken_away(site: Site, bench: Bench) -> None:
    """Its object alone: this cluster measures no cores, so it keeps the bounds and nothing more."""
    spec = yaml.safe_load(Path(bench.environ["WINDTUNNEL_SERVING_SPEC"]).read_text())
    bench.target.deploy()
    bench.route(bench.world.model("1.0.0"))
    scaled = target_of(ServingSpec.model_validate({**spec, "replicas": {"min": 1, "max": 3}}))
    assert f"HorizontalPodAutoscaler {NAME}" in scaled.deploy().changed
    status = scaled.status()
    assert (status.floor, status.ceiling, status.wanted) == (1, 3, 2), "what runs is not taken away"
    status = scaled.scale(3)
    assert (status.floor, status.ceiling, status.wanted) == (3, 3, 3)
    bench.wait_for(lambda: scaled.status().ready == 3)
    assert scaled.deploy().changed == (), "a release keeps what a person asked for"
    assert (scaled.scale(None).floor, scaled.status().ceiling) == (1, 3)
    assert f"HorizontalPodAutoscaler {NAME} (taken away)" in bench.target.deploy().changed
    bench.wait_for(bench.ready(2))


def test_a_cluster_does_without_what_it_does_not_know(bench: Bench) -> None:
    done = bench.target.deploy()
    assert {"ServiceMonitor", "PrometheusRule"} <= set(done.left_out) | {"ServiceMonitor", "PrometheusRule"}
    assert bench.target.status().left_out == done.left_out


@dataclass
class Visitors:
    """Ask one question after the other and say what was right, each at a gateway that clients are led to."""

    bench: Bench
    statuses: Counter[int] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    gateways: set[str] = field(default_factory=set)
    _over: threading.Event = field(default_factory=threading.Event)

    def __enter__(self) -> Visitors:
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        questions = list(TinyFamily().requests(TinyDataset(200), "test"))
        with httpx.Client(timeout=20, headers={"Authorization": f"Bearer {KEY}"}) as client:
            for number in itertools.count():
                if self._over.is_set():
                    return
                if number % 50 == 0:
                    urls = list(self.bench.addresses())
                _, inputs, truth = questions[number % len(questions)]
                url = urls[number % len(urls)]
                body = {**inputs, "unit_id": f"u{number}", "family": TINY}
                answer = client.post(f"{url}/v1/ask", json=body)
                if answer.status_code == 404:  # before the first release
                    time.sleep(0.05)
                    continue
                self.statuses[answer.status_code] += 1
                self.gateways.add(url)
                record = answer.json()
                self.versions[record["model_version"]] += 1
                client.post(f"{url}/v1/feedback", json={"request_id": record["request_id"], "truth": truth})
                time.sleep(0.01)


def test_a_release_and_its_rollback_on_two_gateways(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The release engine as the DAG calls it, judged on what both gateways counted."""
    mlflow = FakeMlflow()
    monkeypatch.setattr(registry, "MlflowRegistry", lambda url: mlflow)
    settings = Settings.from_env()
    bench.target.deploy()
    bench.route(bench.world.model("1.0.0"))  # of another family, so that the gateways are ready
    bench.wait_for(bench.ready(2))
    with Visitors(bench) as visitors:
        good = registered(settings, tmp_path, skill=0.9)
        assert fly(settings, good) == "PASS"
        bad = registered(settings, tmp_path, skill=0.1, seed=3)
        assert fly(settings, bad) == "FAIL"
        back = revert(settings, TINY, to=None, reason="drill", actor="on call", at=datetime.now(UTC))
        time.sleep(0.5)
    assert set(visitors.statuses) == {200} and visitors.statuses[200] > 150, visitors.statuses
    assert back["to"] == "0.1.0" and visitors.versions[bad] == 0 and len(visitors.gateways) == 2
    assert {good, "0.1.0"} <= visitors.versions.keys()
    judged = Ledger(open_database(settings.database_url)).entries(TINY, frozenset({Event.STAGE_JUDGED}))
    assert [(entry.model_version, entry.record["verdict"]) for entry in reversed(judged)] == [
        *[(good, "PASS")] * 3,
        (bad, "FAIL"),
    ]
    status = bench.target.status()
    assert [item["version"] for item in status.models[TINY]] == ["0.1.0"]
