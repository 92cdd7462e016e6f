"""Gateways on a real cluster: deployed, released to under load, scaled, broken in all the usual ways, taken away."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.settings import Settings
from include.spec.serving import ServingSpec, read_serving
from include.targets.api import KubernetesApi
from include.targets.kubernetes import KubernetesTarget
from tests.kubernetes.cluster import IMAGE, Site
from tests.serving.conftest import make_world
from tests.targets.conformance import Bench, TargetConformance

KEY = "a-key-of-the-tests-own"
NAME = "windtunnel-gateway"


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
