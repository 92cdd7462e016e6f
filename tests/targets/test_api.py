"""What a target asks of the Kubernetes API, and what it makes of its answers; no gateway runs here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.cli.main import main
from include.errors import UserError
from include.settings import Settings
from include.spec.serving import ServingSpec
from include.targets.api import KubernetesApi
from include.targets.contract import TargetError, TargetPhase
from include.targets.kubernetes import KubernetesTarget
from tests.fakes.kube import PlayedCluster

IMAGE = "registry.example.com/gateway@sha256:" + "a" * 64
NAME = "windtunnel-gateway"
DEPLOYMENT = ("apps/v1", "Deployment", NAME)
SCALER = ("autoscaling/v2", "HorizontalPodAutoscaler", NAME)


@pytest.fixture
def cluster(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PlayedCluster]:
    """A cluster that can pull no image: its pods never run."""
    with PlayedCluster(tmp_path, {}).running() as played:
        monkeypatch.setenv("KUBECONFIG", str(played.kubeconfig()))
        path = tmp_path / "serving.yaml"
        path.write_text(yaml.safe_dump({"target": "kubernetes", "image": IMAGE, "stuck_seconds": 0}))
        monkeypatch.setenv("WINDTUNNEL_SERVING_SPEC", str(path))
        yield played


def target(**changes: Any) -> KubernetesTarget:
    given = {"target": "kubernetes", "image": IMAGE, "stuck_seconds": 0, **changes}
    spec = ServingSpec.model_validate(given)
    return KubernetesTarget(Settings.from_env(), spec, KubernetesApi.connect(spec.namespace))


def deploy(**changes: Any) -> TargetError:
    with pytest.raises(TargetError) as told:
        target(**changes).deploy()
    return told.value


def test_a_failed_deploy_says_why_and_what_serves_on(cluster: PlayedCluster) -> None:
    error = deploy()
    assert error.fields["reason"] == "image" and "not found; the gateways before go on serving" in error.message
    status = target().status()
    assert status.phase is TargetPhase.DEGRADED and "ErrImagePull" in status.replicas[0].why
    assert (status.floor, status.ceiling, status.image) == (2, 8, IMAGE)


def test_what_waits_for_a_quota_is_told(cluster: PlayedCluster) -> None:
    cluster.quota = 0
    assert deploy().fields["reason"] == "quota"


def test_a_deadline_ends_the_waiting(cluster: PlayedCluster) -> None:
    error = deploy(stuck_seconds=100, deadline_seconds=0.5)
    assert "not done after 0.5 s" in error.message and error.fields["reason"] == "image"


def test_our_fields_are_taken_back_and_others_left(cluster: PlayedCluster) -> None:
    deploy()
    spec = {"strategy": {"type": "Recreate"}}
    cluster.merge(DEPLOYMENT, {"metadata": {"annotations": {"theirs": "stays"}}, "spec": spec}, "kubectl-edit")
    deploy()
    found = cluster.objects[DEPLOYMENT]
    assert found["spec"]["strategy"]["type"] == "RollingUpdate"
    assert found["metadata"]["annotations"]["theirs"] == "stays"
    assert any("kubectl-edit" in owner for owner in cluster.owners[DEPLOYMENT].values())


def test_what_an_earlier_spec_had_goes(cluster: PlayedCluster) -> None:
    deploy()
    assert SCALER in cluster.objects
    deploy(replicas={"min": 2, "max": 2})
    assert SCALER not in cluster.objects


def test_the_number_of_gateways_is_kept_between_the_bounds_and_else_left_alone(cluster: PlayedCluster) -> None:
    deploy()
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 2
    cluster.merge(DEPLOYMENT, {"spec": {"replicas": 5}}, "kube-controller-manager")
    deploy()
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 5, "the autoscaler's choice"
    assert target().scale(7).floor == 7
    assert cluster.objects[DEPLOYMENT]["spec"]["replicas"] == 7
    deploy()
    assert cluster.objects[SCALER]["spec"]["minReplicas"] == 7, "a release does not take it back"
    target().scale(None)
    assert cluster.objects[SCALER]["spec"]["minReplicas"] == 2


def test_a_cluster_without_some_kinds(cluster: PlayedCluster) -> None:
    del cluster.kinds["monitoring.coreos.com/v1"]
    deploy()
    assert target().status().left_out == ("ServiceMonitor", "PrometheusRule")
    assert not [key for key in cluster.objects if "monitoring" in key[0]]


def test_what_is_not_ours_is_not_touched(cluster: PlayedCluster) -> None:
    cluster.apply(DEPLOYMENT, {"metadata": {"labels": {"app": "theirs"}}, "spec": {}}, "helm", False)
    before = json.dumps(cluster.objects[DEPLOYMENT]["metadata"]["labels"])
    cluster.kinds["apps/v1"] = {"Deployment": "deployments"}
    with pytest.raises(UserError, match="not Windtunnel's"):
        KubernetesApi.connect("windtunnel").apply(
            {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": NAME}, "spec": {}}
        )
    assert json.dumps(cluster.objects[DEPLOYMENT]["metadata"]["labels"]) == before
    del cluster.objects[DEPLOYMENT]


@pytest.mark.parametrize(
    ("refused", "kind", "said"),
    [
        ((403, "cannot patch"), TargetError, "does not let us"),
        ((422, "spec.ports: Required value"), UserError, "Required value"),
        ((409, "try again"), TargetError, "409"),
    ],
)
def test_refusals(cluster: PlayedCluster, refused: tuple[int, str], kind: type[Exception], said: str) -> None:
    cluster.refuse[("PATCH", "Service")] = refused
    with pytest.raises(kind, match=said):
        target().deploy()


def test_a_namespace_that_is_not_there(cluster: PlayedCluster) -> None:
    with pytest.raises(UserError, match="there is no namespace elsewhere"):
        target(namespace="elsewhere").deploy()


def test_an_api_server_that_is_away_is_waited_for_and_then_told(cluster: PlayedCluster) -> None:
    cluster.refuse[("GET", "Deployment")] = (503, "overloaded")
    api = KubernetesApi.connect("windtunnel")
    api._patience = 1.0
    with pytest.raises(TargetError, match="stayed away for 1 s"):
        api.get(*DEPLOYMENT)
    assert sum("deployments/" in path for path in cluster.asked) > 1


def test_no_way_to_a_cluster_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nowhere")
    with pytest.raises(UserError, match="no way to a Kubernetes cluster"):
        KubernetesApi.connect("windtunnel")


class TestCommand:
    """`windtunnel target`."""

    def test_status(self, cluster: PlayedCluster, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["target", "status"]) == 1
        assert "kubernetes windtunnel/windtunnel-gateway: absent" in capsys.readouterr().out
        deploy()
        assert main(["target", "status"]) == 1
        shown = capsys.readouterr().out
        assert "gateways: 0 of 2 are ready (autoscaler: 2 to 8)" in shown and "ErrImagePull" in shown
        assert main(["target", "status", "--json"]) == 1
        record = json.loads(capsys.readouterr().out)
        assert (record["phase"], record["ready"], len(record["replicas"])) == ("degraded", 0, 2)

    def test_deploy_tells_what_failed(self, cluster: PlayedCluster, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["target", "deploy"]) == 1
        assert "the gateways do not come up: image: ErrImagePull" in capsys.readouterr().err

    def test_scale(self, cluster: PlayedCluster, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["target", "scale", "3"]) == 2
        assert "nothing is deployed" in capsys.readouterr().err
        deploy()
        assert main(["target", "scale", "3", "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["floor"] == 3
        assert main(["target", "scale"]) == main(["target", "scale", "3", "--reset"]) == 2
        assert main(["target", "scale", "--reset", "--json"]) == 0

    def test_undeploy_asks_first(self, cluster: PlayedCluster, capsys: pytest.CaptureFixture[str]) -> None:
        deploy()
        assert main(["target", "undeploy"]) == 2
        assert "say --yes" in capsys.readouterr().err and DEPLOYMENT in cluster.objects
        assert main(["target", "undeploy", "--yes", "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {"undeployed": True}
        assert not cluster.objects and not cluster.pods
        assert main(["target", "undeploy", "--yes"]) == 0
        assert "nothing to take away" in capsys.readouterr().out

    def test_render(self, cluster: PlayedCluster, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["target", "render"]) == 0
        kinds = [item["kind"] for item in yaml.safe_load_all(capsys.readouterr().out)]
        assert "Deployment" in kinds and not cluster.asked, "the cluster is not asked"
