"""A step's pod: what every pod has, what the site adds, what the family asks for, each over the one before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from include.errors import UserError
from include.pods.manifest import Manifest, PodRequest, label, over, pod_manifest, read_template
from include.spec.resources import ResourcesSpec

REQUEST = PodRequest("fit-x-0", ["-m", "include.training", "fit"], {"windtunnel/run": "a b/c"}, {"RANK": "0"})
SITE: Manifest = {
    "metadata": {"namespace": "ml", "annotations": {"sidecar.istio.io/inject": "false"}},
    "spec": {
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "team", "operator": "Exists"}],
        "volumes": [
            {"name": "cache", "persistentVolumeClaim": {"claimName": "cache"}},
            {"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}},
        ],
        "securityContext": {"seccompProfile": None, "runAsUser": 4000},
        "containers": [
            {
                "name": "base",
                "image": "registry.example.com/trainer@sha256:aa",
                "env": [{"name": "HOME", "value": "/home"}],
                "volumeMounts": [{"name": "cache", "mountPath": "/cache"}],
            },
            {"name": "sidecar", "image": "proxy"},
        ],
    },
}


def _pod(template: Manifest | None = None, spot_nodes: str = "", **resources: Any) -> tuple[Manifest, Manifest]:
    """The pod's spec and its step's container."""
    pod = pod_manifest(ResourcesSpec.model_validate(resources), REQUEST, template, spot_nodes)
    return pod["spec"], next(each for each in pod["spec"]["containers"] if each["name"] == "base")


def _env(container: Manifest) -> dict[str, str]:
    return {each["name"]: each["value"] for each in container["env"]}


def test_a_pod_has_what_the_family_asks_for_as_request_and_limit() -> None:
    spec, container = _pod(cpu="4", memory="16Gi", ephemeral_storage="5Gi", gpu=2, gpu_kind="NVIDIA-A10G")
    amounts = {"cpu": "4", "memory": "16Gi", "ephemeral-storage": "5Gi", "nvidia.com/gpu": "2"}
    assert container["resources"] == {"requests": amounts, "limits": amounts}
    assert spec["nodeSelector"] == {"nvidia.com/gpu.product": "NVIDIA-A10G"}
    assert {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"} in spec["tolerations"]


def test_a_pod_without_gpus_asks_for_none_and_tolerates_nothing() -> None:
    spec, container = _pod()
    assert "nvidia.com/gpu" not in container["resources"]["limits"]
    assert spec["tolerations"] == [] and spec["nodeSelector"] == {}


def test_a_gpu_kind_without_gpus_is_refused() -> None:
    with pytest.raises(ValidationError, match="gpu is 0"):
        ResourcesSpec(gpu_kind="NVIDIA-A10G")


@pytest.mark.parametrize(
    "changes", [{"memory": "8 GB"}, {"shared_memory": "lots"}, {"secrets": ["A_b"]}, {"image": "a b"}]
)
def test_what_the_api_would_refuse_is_refused_in_the_spec(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ResourcesSpec.model_validate(changes)


def test_shared_memory_is_a_volume_in_memory_with_a_size() -> None:
    spec, container = _pod(shared_memory="2Gi")
    assert {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "2Gi"}} in spec["volumes"]
    assert {"name": "shm", "mountPath": "/dev/shm"} in container["volumeMounts"]
    assert "shm" not in str(_pod(shared_memory=None))


def test_nobody_is_root_and_only_scratch_can_be_written() -> None:
    spec, container = _pod()
    assert spec["securityContext"]["runAsNonRoot"] is True and spec["securityContext"]["runAsUser"] > 0
    assert spec["automountServiceAccountToken"] is False
    security = container["securityContext"]
    assert security["readOnlyRootFilesystem"] is True and security["capabilities"] == {"drop": ["ALL"]}
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/tmp", "/var/lib/windtunnel", "/dev/shm"}
    assert {_env(container)[name] for name in ("HOME", "WINDTUNNEL_HOME")} == {"/var/lib/windtunnel"}


def test_secrets_are_referred_to_by_name() -> None:
    _, container = _pod(secrets=["sources"])
    names = [each["secretRef"]["name"] for each in container["envFrom"]]
    assert names == ["windtunnel-env", "sources"]


def test_spot_nodes_are_those_that_the_site_says() -> None:
    spec, _ = _pod(spot=True, spot_nodes="cloud.google.com/gke-spot=true", node_selector={"zone": "a"})
    assert spec["nodeSelector"] == {"zone": "a", "cloud.google.com/gke-spot": "true"}
    toleration = {"key": "cloud.google.com/gke-spot", "operator": "Equal", "value": "true", "effect": "NoSchedule"}
    assert spec["tolerations"] == [toleration]
    assert "gke-spot" not in str(_pod(spot=False, spot_nodes="cloud.google.com/gke-spot=true"))


@pytest.mark.parametrize("nodes", ["", "label", "=true"])
def test_spot_where_the_site_has_none_is_told(nodes: str) -> None:
    with pytest.raises(UserError, match="WINDTUNNEL_SPOT_NODES"):
        _pod(spot=True, spot_nodes=nodes)


def test_the_site_gives_what_the_family_leaves_open() -> None:
    pod = pod_manifest(ResourcesSpec(), REQUEST, SITE)
    spec, (container, sidecar) = pod["spec"], pod["spec"]["containers"]
    assert pod["metadata"]["namespace"] == "ml" and sidecar == {"name": "sidecar", "image": "proxy"}
    assert pod["metadata"]["annotations"] == {"sidecar.istio.io/inject": "false"}
    assert container["image"] == "registry.example.com/trainer@sha256:aa" and container["command"] == ["python"]
    assert _env(container)["HOME"] == "/home" and _env(container)["WINDTUNNEL_HOME"] == "/var/lib/windtunnel"
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert spec["securityContext"]["runAsUser"] == 4000 and spec["securityContext"]["runAsNonRoot"] is True
    assert "seccompProfile" not in spec["securityContext"]


def test_a_volume_of_the_site_takes_the_place_of_ours() -> None:
    spec, container = _pod(SITE)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    assert volumes["scratch"] == {"name": "scratch", "persistentVolumeClaim": {"claimName": "scratch"}}
    assert set(volumes) == {"tmp", "scratch", "cache", "shm"}
    assert {"name": "cache", "mountPath": "/cache"} in container["volumeMounts"]


def test_the_family_has_the_last_word() -> None:
    spec, container = _pod(
        SITE,
        image="mine@sha256:bb",
        image_pull_policy="Never",
        image_pull_secrets=["own"],
        service_account="trainer",
        priority_class="high",
        tolerations=[{"key": "gpu", "operator": "Exists"}],
        grace_seconds=90,
        timeout_minutes=10,
    )
    assert (container["image"], container["imagePullPolicy"]) == ("mine@sha256:bb", "Never")
    assert spec["imagePullSecrets"] == [{"name": "registry"}, {"name": "own"}]
    assert (spec["serviceAccountName"], spec["priorityClassName"]) == ("trainer", "high")
    assert [each["key"] for each in spec["tolerations"]] == ["team", "gpu"]
    assert (spec["terminationGracePeriodSeconds"], spec["activeDeadlineSeconds"]) == (90, 690)


def test_the_request_is_what_runs() -> None:
    pod = pod_manifest(ResourcesSpec(namespace="mine"), REQUEST, SITE)
    container = pod["spec"]["containers"][0]
    assert pod["metadata"]["name"] == "fit-x-0" and pod["metadata"]["namespace"] == "mine"
    assert container["args"] == ["-m", "include.training", "fit"] and _env(container)["RANK"] == "0"
    assert pod["metadata"]["labels"] == {"app.kubernetes.io/part-of": "windtunnel", "windtunnel/run": "a_b_c"}


def test_laying_over_changes_neither() -> None:
    base, later = {"a": {"b": 1}, "tolerations": [{"key": "x"}]}, {"a": {"c": 2}, "tolerations": [{"key": "x"}]}
    assert over(base, later) == {"a": {"b": 1, "c": 2}, "tolerations": [{"key": "x"}]}
    assert base == {"a": {"b": 1}, "tolerations": [{"key": "x"}]} and later["a"] == {"c": 2}


@pytest.mark.parametrize("text", ["train__x/manual__2026-11-02T00:00:00+00:00", "x" * 200, "-a-", "Ärger"])
def test_any_text_becomes_a_label(text: str) -> None:
    made = label(text)
    assert len(made) <= 63 and made[0].isalnum() and made[-1].isalnum() and made.isascii()


def test_a_template_is_read_or_told(tmp_path: Path) -> None:
    path = tmp_path / "pod.yaml"
    assert read_template("") == {}
    path.write_text("spec: {containers: [{name: base, image: x}]}")
    assert read_template(str(path))["spec"]["containers"][0]["image"] == "x"
    for text, said in {
        "kind: Deployment": "no pod",
        "- a": "no pod",
        "spec: {containers: [{image: x}]}": "no name",
        "a: [": "cannot read",
    }.items():
        path.write_text(text)
        with pytest.raises(UserError, match=said) as caught:
            read_template(str(path))
        assert caught.value.where == str(path)
    with pytest.raises(UserError, match="cannot read"):
        read_template(str(tmp_path / "none.yaml"))
