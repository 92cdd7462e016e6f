"""The targets of a cluster on a played one, whose pods are gateway processes; tests/kubernetes has the real one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.settings import Settings
from include.spec.serving import read_serving
from include.targets.api import KubernetesApi
from include.targets.contract import ServingTarget
from include.targets.kserve import KServeTarget
from include.targets.kubernetes import KubernetesTarget
from tests.fakes.kube import PlayedCluster
from tests.serving.conftest import make_world
from tests.targets.conformance import Bench, TargetConformance

pytestmark = pytest.mark.slow
IMAGE = "registry.example.com/gateway@sha256:" + "a" * 64
KEY = "a-key-of-the-tests-own"


@contextmanager
def played(folder: Path, kind: type[Any], **spec: Any) -> Iterator[Bench]:
    settings = Settings.from_env({"WINDTUNNEL_HOME": str(folder / "windtunnel")})
    secret = {**settings.to_env(), "WINDTUNNEL_GATEWAY_API_KEY": KEY}
    cluster = PlayedCluster(folder, secret, images={IMAGE})
    with cluster.running():
        path = folder / "serving.yaml"
        given = {"image": IMAGE, "port": cluster.port, "stuck_seconds": 1, "deadline_seconds": 60, **spec}
        path.write_text(yaml.safe_dump(given))
        environ = {
            "KUBECONFIG": str(cluster.kubeconfig()),
            "WINDTUNNEL_HOME": str(settings.home),
            "WINDTUNNEL_SERVING_SPEC": str(path),
            "WINDTUNNEL_GATEWAY_API_KEY": KEY,
        }
        before = dict(os.environ)
        os.environ.update(environ)

        def open_one() -> ServingTarget:
            found = read_serving(str(path))
            target: ServingTarget = kind(settings, found, KubernetesApi.connect(found.namespace))
            return target

        world = make_world(settings, folder)
        bench = Bench(open_one, world, 2, 3, cluster.addresses, environ, cluster=cluster)
        if kind is KServeTarget:
            bench.shadow = bench.sticky = False
        yield bench
        bench.target.undeploy()
        os.environ.clear()
        os.environ.update(before)


class TestKubernetesTarget(TargetConformance):
    """See `TargetConformance`."""

    @pytest.fixture(scope="class")
    def bench(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
        replicas = {"min": 2, "max": 2}
        with played(
            tmp_path_factory.mktemp("played"), KubernetesTarget, target="kubernetes", replicas=replicas
        ) as bench:
            yield bench


class TestKServeTarget(TargetConformance):
    """See `TargetConformance`; of KServe itself, only what its documentation says is played."""

    @pytest.fixture(scope="class")
    def bench(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
        replicas = {"min": 1, "max": 2}
        with played(tmp_path_factory.mktemp("kserve"), KServeTarget, target="kserve", replicas=replicas) as bench:
            bench.replicas, bench.most = 1, 2
            yield bench
