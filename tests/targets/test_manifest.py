"""What is to be in the cluster, as a function of the serving spec."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from include.errors import UserError
from include.pods.manifest import ENV_SECRET
from include.serving.config import GatewayConfig
from include.settings import Settings
from include.spec.serving import ServingSpec, read_serving
from include.targets.manifest import REVISION, everything, plan

IMAGE = "registry.example.com/gateway@sha256:" + "a" * 64
METRIC = re.compile(r"\bwindtunnel_\w+")


def spec(**changes: Any) -> ServingSpec:
    return ServingSpec.model_validate({"target": "kubernetes", "image": IMAGE, **changes})


def made(kind: str, given: ServingSpec, **more: Any) -> dict[str, Any]:
    (found,) = [item for item in plan(given, **more).objects if item["kind"] == kind]
    return json.loads(json.dumps(found))


def revision(given: ServingSpec) -> str:
    return str(made("Deployment", given)["spec"]["template"]["metadata"]["labels"][REVISION])


def test_nothing_secret_is_written_and_nobody_is_root() -> None:
    pod = made("Deployment", spec())["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["envFrom"] == [{"secretRef": {"name": ENV_SECRET}}]
    assert not [item for item in container["env"] if re.search("KEY|SECRET|PASSWORD|URL", item["name"])]
    assert pod["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert pod["automountServiceAccountToken"] is False
    assert made("ServiceAccount", spec())["automountServiceAccountToken"] is False
    assert not [item for item in plan(spec()).objects if "Role" in item["kind"]], "it asks Kubernetes for nothing"


def test_the_gateway_takes_the_arguments_that_it_is_given() -> None:
    (container,) = made("Deployment", spec(cpu="2500m", workers=2))["spec"]["template"]["spec"]["containers"]
    arguments = dict(zip(container["args"][::2], container["args"][1::2], strict=True))
    assert arguments == {"--host": "0.0.0.0", "--port": "8900", "--workers": "2", "--threads": "2"}
    environ = {item["name"]: item["value"] for item in container["env"]} | {"WINDTUNNEL_GATEWAY_API_KEY": "k" * 20}
    config = GatewayConfig.from_env("0.0.0.0", 8900, environ=environ)
    grace = made("Deployment", spec())["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert config.drain_seconds + config.grace_seconds < grace, "requests in flight are answered before it is killed"
    assert config.drain_seconds > 0, "clients are led elsewhere before it takes no more"


def test_older_api_versions_will_do_and_what_is_unknown_is_told() -> None:
    old = plan(spec(), lambda version, kind: version not in ("autoscaling/v2", "policy/v1", "monitoring.coreos.com/v1"))
    versions = {item["kind"]: item["apiVersion"] for item in old.objects}
    assert versions["HorizontalPodAutoscaler"] == "autoscaling/v2beta2"
    assert versions["PodDisruptionBudget"] == "policy/v1beta1"
    assert old.left_out == ("ServiceMonitor", "PrometheusRule")
    bare = plan(spec(), lambda version, kind: version in ("v1", "apps/v1"))
    assert set(bare.left_out) >= {"HorizontalPodAutoscaler", "PodDisruptionBudget"}


def test_no_manifest_names_the_number_of_gateways() -> None:
    """A field that is applied once and left out later would fall back to 1."""
    assert "replicas" not in made("Deployment", spec())["spec"]
    assert "replicas" not in made("Deployment", spec(replicas={"min": 3, "max": 3}))["spec"]
    assert "HorizontalPodAutoscaler" not in {item["kind"] for item in plan(spec(replicas={"min": 3, "max": 3})).objects}


def test_what_a_person_asked_for_moves_the_bounds() -> None:
    scaler = made("HorizontalPodAutoscaler", spec(), held=12)["spec"]
    assert (scaler["minReplicas"], scaler["maxReplicas"]) == (12, 12)
    assert (made("HorizontalPodAutoscaler", spec(), held=4)["spec"]["maxReplicas"]) == 8


def test_the_revision_changes_with_the_pod_and_with_nothing_else() -> None:
    assert revision(spec()) == revision(spec(replicas={"min": 1, "max": 3}, deadline_seconds=5))
    others = [spec(memory="3Gi"), spec(image=IMAGE.replace("a" * 64, "b" * 64)), spec(secret="other")]
    assert len({revision(given) for given in [spec(), *others]}) == 4


def test_the_sites_pod_is_laid_over() -> None:
    pod = {"spec": {"containers": [{"name": "gateway", "env": [{"name": "HTTPS_PROXY", "value": "http://proxy"}]}]}}
    laid = made("Deployment", spec(pod={**pod, "metadata": {"annotations": {"a": "b"}}}))["spec"]["template"]
    assert {"name": "HTTPS_PROXY", "value": "http://proxy"} in laid["spec"]["containers"][0]["env"]
    assert laid["metadata"]["annotations"] == {"a": "b"} and laid["spec"]["containers"][0]["image"] == IMAGE


def test_alerts_speak_of_metrics_that_there_are() -> None:
    """Read off what the gateway's collector is written to tell."""
    told = (Path(__file__).resolve().parents[2] / "include" / "serving" / "metrics.py").read_text()
    names = set(re.findall(r'"(windtunnel_\w+)"', told))
    suffixes = ("", "_total", "_bucket")
    known = {name + suffix for name in names for suffix in suffixes}
    rules = made("PrometheusRule", spec())["spec"]["groups"][0]["rules"]
    asked = {name for rule in rules for name in METRIC.findall(rule["expr"])}
    assert len(asked) >= 6 and asked <= known, asked - known
    assert all(rule["for"] and rule["annotations"]["summary"] for rule in rules)
    monitor = made("ServiceMonitor", spec(alerts={"labels": {"release": "prometheus"}}))
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["authorization"]["credentials"] == {"name": ENV_SECRET, "key": "WINDTUNNEL_GATEWAY_API_KEY"}
    assert monitor["metadata"]["labels"]["release"] == "prometheus"


def test_everything_lies_in_one_namespace_under_one_name() -> None:
    for item in plan(spec(name="blue", namespace="there"), everything).objects:
        assert (item["metadata"]["name"], item["metadata"]["namespace"]) == ("blue", "there")
        assert item["metadata"]["labels"]["windtunnel/target"] == "blue"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("target: kubernetes", "needs `image`"),
        ("target: kubernetes\nimage: gateway:latest", "by its digest"),
        ("target: nomad", "target"),
        ("replicas: {min: 3, max: 2}", "below min"),
        ("repicas: {}", "unknown key"),
        ("pod: {containers: []}", "a pod has metadata and spec"),
        ("memory: much", "no quantity"),
        ("- a\n- b", "should be a valid dictionary"),
        ("a: [", "not valid YAML"),
    ],
)
def test_a_bad_spec_is_refused_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "serving.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as told:
        read_serving(str(path))
    assert said in str(told.value) and f"{path}:1" in str(told.value)


def test_without_a_spec_somebody_else_keeps_the_gateway() -> None:
    assert read_serving("").target.value == "local"
    assert Settings.from_env({}).serving_spec == ""
    with pytest.raises(UserError, match="cannot read"):
        read_serving("/nowhere/serving.yaml")
