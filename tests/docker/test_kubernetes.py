"""The manifests agree with the pods that the code makes, with the images and with the chart's values."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from include.pods.manifest import ENV_SECRET, PodRequest, pod_manifest, read_template
from include.serving.edge import OPEN_PATHS
from include.settings import Settings
from include.spec.resources import ResourcesSpec
from include.spec.serving import read_serving
from include.targets.inference_service import API, KIND
from include.targets.kubernetes import KINDS as TARGET_KINDS
from include.targets.manifest import plan

ROOT = Path(__file__).resolve().parents[2]
DOCKER = ROOT / "docker"
DOCKERFILE = (DOCKER / "Dockerfile").read_text()
APPLIED = yaml.safe_load((DOCKER / "kubernetes" / "kustomization.yaml").read_text())["resources"]
OBJECTS: list[dict[str, Any]] = [
    found
    for name in [*APPLIED, "secret.example.yaml"]
    for found in yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text())
]
VALUES: dict[str, Any] = yaml.safe_load((DOCKER / "helm" / "values.yaml").read_text())
POD = pod_manifest(ResourcesSpec(), PodRequest("p", ["-m", "x"], {"windtunnel/step": "fit"}))


def named(kind: str, name: str) -> dict[str, Any]:
    return next(found for found in OBJECTS if (found["kind"], found["metadata"]["name"]) == (kind, name))


def test_a_step_finds_its_namespace_account_and_secret() -> None:
    assert named("Namespace", POD["metadata"]["namespace"])
    assert named("ServiceAccount", POD["spec"]["serviceAccountName"])
    assert named("Secret", ENV_SECRET)
    assert named("Namespace", "windtunnel")["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"


def test_every_file_is_applied_or_told_about() -> None:
    others = {"kustomization.yaml", "secret.example.yaml", "pod-template.yaml", "serving.yaml", "monitoring.yaml"}
    assert {path.name for path in (DOCKER / "kubernetes").iterdir()} == {*APPLIED, *others}
    assert read_template(str(DOCKER / "kubernetes" / "pod-template.yaml"))["kind"] == "Pod"


def test_the_gateway_is_what_the_serving_spec_beside_it_makes() -> None:
    """`windtunnel target render` of serving.yaml; its monitoring needs definitions that not every cluster has."""
    objects = plan(read_serving(str(DOCKER / "kubernetes" / "serving.yaml"))).objects
    written = [
        found
        for name in ("gateway.yaml", "monitoring.yaml")
        for found in yaml.safe_load_all((DOCKER / "kubernetes" / name).read_text())
    ]
    assert written == json.loads(json.dumps(objects))


def test_the_serving_role_allows_what_a_target_does_and_nothing_else() -> None:
    asked = {
        (version.rpartition("/")[0] if "/" in version else "", f"{kind.lower()}s") for version, kind in TARGET_KINDS
    }
    asked |= {(API.partition("/")[0], f"{KIND.lower()}s")}
    rules = named("Role", "windtunnel-serving")["rules"]
    allowed = {(group, name) for rule in rules for group in rule["apiGroups"] for name in rule["resources"]}
    assert {(group, name.replace("policys", "policies")) for group, name in asked} == allowed
    assert {verb for rule in rules for verb in rule["verbs"]} == {"get", "list", "create", "patch", "delete"}
    watch = named("Role", "windtunnel-steps-watch")["rules"]
    assert any("pods" in rule["resources"] and "list" in rule["verbs"] for rule in watch), "which gateways there are"


def test_all_objects_but_the_namespace_are_in_it() -> None:
    assert {found["metadata"].get("namespace") for found in OBJECTS if found["kind"] != "Namespace"} == {"windtunnel"}


def test_the_roles_allow_what_the_code_asks_for_and_nothing_else() -> None:
    """The verbs are read off the calls of Kubernetes' clients."""
    sources = [*(ROOT / "include" / "pods").glob("*.py"), *(ROOT / "plugins" / "windtunnel").rglob("*.py")]
    calls = set(re.findall(r"\b(create|read|list|delete|patch|replace|watch|delete_collection)_namespaced_(\w+)",
                           "".join(path.read_text() for path in sources)))  # fmt: skip
    resources = {"pod": "pods", "pod_log": "pods/log", "event": "events"}
    asked = {(resources[kind], "get" if verb == "read" else verb) for verb, kind in calls}
    allowed = {
        (resource, verb)
        for rule in named("Role", "windtunnel-steps")["rules"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert allowed == asked
    assert not [found for found in OBJECTS if found["kind"].startswith("ClusterRole")]


def test_the_roles_are_given_to_the_accounts_of_the_chart() -> None:
    accounts = {VALUES[name]["serviceAccount"]["name"] for name in ("workers", "triggerer")}
    bound = {subject["name"] for found in OBJECTS if found["kind"] == "RoleBinding" for subject in found["subjects"]}
    assert bound == accounts


@pytest.mark.parametrize("where", ["gateway", "step"])
def test_pods_are_what_a_restricted_namespace_lets_in(where: str) -> None:
    spec = POD["spec"] if where == "step" else named("Deployment", "windtunnel-gateway")["spec"]["template"]["spec"]
    container = spec["containers"][0]
    assert (
        spec["securityContext"]["runAsNonRoot"]
        and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    )
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert f"USER {spec['securityContext']['runAsUser']}:" in DOCKERFILE
    assert {mount["mountPath"] for mount in container["volumeMounts"]} >= {"/tmp", "/var/lib/windtunnel"}
    assert container["envFrom"] == [{"secretRef": {"name": ENV_SECRET}}]


def test_the_gateway_is_probed_and_reached_where_it_answers() -> None:
    container = named("Deployment", "windtunnel-gateway")["spec"]["template"]["spec"]["containers"][0]
    (port,) = container["ports"]
    assert (
        f"EXPOSE {port['containerPort']}\nSTOPSIGNAL" in DOCKERFILE
        and f'"--port", "{port["containerPort"]}"' in DOCKERFILE
    )
    probes = [container[name]["httpGet"] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert {probe["path"] for probe in probes} <= OPEN_PATHS, "probes carry no key"
    assert {probe["port"] for probe in probes} == {port["name"]}
    service = named("Service", "windtunnel-gateway")
    url = named("Secret", ENV_SECRET)["stringData"]["WINDTUNNEL_GATEWAY_URL"]
    assert url == f"http://{service['metadata']['name']}.windtunnel.svc:{service['spec']['ports'][0]['port']}"
    assert named("NetworkPolicy", "windtunnel-gateway")["spec"]["ingress"][0]["ports"] == [
        {"protocol": "TCP", "port": 8900}
    ]


def test_policies_and_budgets_choose_the_pods_that_there_are() -> None:
    labels = named("Deployment", "windtunnel-gateway")["spec"]["template"]["metadata"]["labels"]
    for kind in ("PodDisruptionBudget", "Service"):
        spec = named(kind, "windtunnel-gateway")["spec"]["selector"]
        assert (spec.get("matchLabels") or spec).items() <= labels.items()
    stores = named("NetworkPolicy", "stores")["spec"]["podSelector"]["matchLabels"]
    assert stores.items() <= labels.items() and stores.items() <= POD["metadata"]["labels"].items()
    training = named("NetworkPolicy", "training")["spec"]["podSelector"]["matchLabels"]
    assert training.items() <= POD["metadata"]["labels"].items()


def test_the_secret_names_settings_and_holds_none() -> None:
    data = named("Secret", ENV_SECRET)["stringData"]
    known = Settings.from_env({}).to_env().keys() | {"WINDTUNNEL_GATEWAY_API_KEY"}
    assert {name for name in data if name.startswith("WINDTUNNEL_")} <= known
    secret = ("KEY", "SECRET", "PASSWORD")
    assert not [name for name, value in data.items() if name.endswith(secret) and value]
    assert all("PASSWORD@" in value for value in data.values() if "@" in value)


def test_the_chart_runs_our_image_as_our_user_with_our_folders() -> None:
    assert VALUES["airflowVersion"] in (ROOT / "constraints.txt").read_text().split("apache-airflow==")[1].split()[0]
    assert VALUES["uid"] == VALUES["securityContexts"]["pod"]["runAsUser"] == 10001
    assert f"AIRFLOW_HOME={VALUES['airflowHome']}" in DOCKERFILE
    for name in ("dags", "plugins"):
        assert VALUES["config"]["core"][f"{name}_folder"] == f"/opt/windtunnel/{name}"
    assert {"name": "WINDTUNNEL_POD_RUNNER", "value": "kubernetes"} in VALUES["env"]
    assert yaml.safe_load(VALUES["extraEnvFrom"]) == [{"secretRef": {"name": ENV_SECRET}}]
    script = (DOCKER / "kind" / "up.sh").read_text()
    assert "chart=1.22.0" in script and "chart, 1.22.0" in (DOCKER / "helm" / "values.yaml").read_text()


@pytest.mark.parametrize("folder", ["kubernetes", "kind"])
def test_kustomize_builds_it(folder: str) -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not installed")
    done = subprocess.run([kubectl, "kustomize", str(DOCKER / folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {(found["kind"], found["metadata"]["name"]): found for found in yaml.safe_load_all(done.stdout)}
    assert ("Deployment", "windtunnel-gateway") in built
    if folder == "kind":
        assert ("HorizontalPodAutoscaler", "windtunnel-gateway") not in built
        (mapping,) = [
            each["containerPort"]
            for each in yaml.safe_load((DOCKER / "kind" / "cluster.yaml").read_text())["nodes"][0]["extraPortMappings"]
        ]
        assert built["Service", "windtunnel-gateway"]["spec"]["ports"][0]["nodePort"] == mapping


def test_the_laptop_script_can_be_read() -> None:
    subprocess.run(["bash", "-n", str(DOCKER / "kind" / "up.sh")], check=True)
