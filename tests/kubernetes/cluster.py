"""A cluster for the tests: whichever `KUBECONFIG` names, or that of the kit beside the checkout, where it was built.

The node must be this machine: pods run this machine's Python, and speak to servers that the tests start on it.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil
import yaml

ROOT = Path(__file__).resolve().parents[2]
KIT = Path(os.environ.get("WINDTUNNEL_KUBERNETES_KIT") or ROOT.parent / "shared" / "kubernetes")
ASKED_FOR = "WINDTUNNEL_TEST_KUBERNETES"
#: In the cluster: this checkout, and the code that a test gives its pods.
CHECKOUT, CODE = "/windtunnel", "/code"
_PROBE_SECONDS, _UP_SECONDS = 180, 600
IMAGE = "localhost/debian-python:1"


class NoCluster(Exception):
    """There is none to test with, and why."""


def kubeconfig() -> str:
    """The path of a kubeconfig. Raises `NoCluster`."""
    if not os.environ.get(ASKED_FOR):
        raise NoCluster("Kubernetes tests run with `make test-kubernetes`")
    if named := os.environ.get("KUBECONFIG"):
        return named
    cache = os.environ.get("WINDTUNNEL_KUBERNETES_HOME") or Path.home() / ".cache" / "windtunnel-kubernetes"
    if not (KIT / "up").is_file() or not (Path(cache) / "bin" / "kube-apiserver").is_file():
        raise NoCluster(f"no cluster: KUBECONFIG is not set, and {KIT} has not built one")
    try:
        done = subprocess.run([KIT / "up"], capture_output=True, text=True, check=False, timeout=_UP_SECONDS)
    except subprocess.TimeoutExpired:
        raise NoCluster(f"{KIT / 'up'} took more than {_UP_SECONDS} s") from None
    if done.returncode:
        raise NoCluster(f"{KIT / 'up'} failed: {done.stderr.strip().splitlines()[-1]}")
    return done.stdout.strip().splitlines()[-1].partition("=")[2]


def host_address() -> str:
    """This machine's address for pods. Raises `NoCluster`."""
    if named := os.environ.get("WINDTUNNEL_TEST_KUBERNETES_HOST"):
        return named
    for name, addresses in psutil.net_if_addrs().items():
        if name.startswith("windtunnel"):
            return next(address.address for address in addresses if address.family is socket.AF_INET)
    raise NoCluster("no address that pods reach: set WINDTUNNEL_TEST_KUBERNETES_HOST to one of this machine's")


@dataclass
class Site:
    """A namespace of the tests' own, in which pods find this machine's Python, this checkout and the servers.

    Attributes:
        environment: What pods find in their secret.
    """

    config: str
    host: str
    environment: dict[str, str]
    namespace: str = field(default_factory=lambda: f"windtunnel-test-{uuid.uuid4().hex[:8]}")

    def kubectl(self, *arguments: str, given: str | None = None, check: bool = True) -> str:
        done = subprocess.run(
            ["kubectl", "--kubeconfig", self.config, "--namespace", self.namespace, *arguments],
            input=given,
            capture_output=True,
            text=True,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done.stdout

    def apply(self, *objects: Mapping[str, Any]) -> None:
        self.kubectl("apply", "-f", "-", given=yaml.safe_dump_all(objects))

    def pods(self, *arguments: str) -> list[dict[str, Any]]:
        """Windtunnel's pods."""
        found = self.kubectl("get", "pods", "-l", "app.kubernetes.io/part-of=windtunnel", "-o", "json", *arguments)
        return list(json.loads(found)["items"])

    def version(self) -> tuple[int, int]:
        told = json.loads(self.kubectl("version", "-o", "json"))["serverVersion"]
        return int(told["major"]), int(told["minor"].rstrip("+"))

    def make(self) -> None:
        """Makes the namespace with what pods need in it."""
        self.kubectl("create", "namespace", self.namespace)
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "windtunnel"}}
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "windtunnel-env"}}
        self.apply(account, {**secret, "stringData": self.environment})

    def probe(self, folder: Path) -> None:
        """Raises `NoCluster` where a pod cannot run this checkout or reach this machine's servers."""
        pod = yaml.safe_load(self.template(folder, folder).read_text())
        url = urlsplit(self.environment["AWS_ENDPOINT_URL"])
        script = f"import socket, include.settings; socket.create_connection(({url.hostname!r}, {url.port}), 20)"
        pod["spec"]["containers"][0]["command"] = [f"{sys.prefix}/bin/python", "-c", script]
        pod["spec"] |= {"restartPolicy": "Never", "securityContext": {"runAsUser": 10001}}
        self.apply({"apiVersion": "v1", "kind": "Pod", **pod, "metadata": {"name": "probe"}})
        phase, end = "", time.monotonic() + _PROBE_SECONDS
        while phase not in ("Succeeded", "Failed") and time.monotonic() < end:
            time.sleep(0.5)
            phase = self.kubectl("get", "pod", "probe", "-o", "jsonpath={.status.phase}")
        if phase != "Succeeded":
            said = self.kubectl("logs", "probe", check=False).strip().splitlines()[-1:]
            raise NoCluster(f"a pod of the cluster cannot run this checkout ({phase or 'no phase'}): {' '.join(said)}")

    def remove(self) -> None:
        self.kubectl("delete", "pods", "--all", "--grace-period=0", "--force", check=False)
        self.kubectl("delete", "namespace", self.namespace, "--wait=false", check=False)

    def template(self, folder: Path, code: Path, **more: Any) -> Path:
        """The site's pod template, as a file in `folder`; pods import from `code`, too."""
        shared = {"venv": (sys.prefix, sys.prefix), "python": (sys.base_prefix, sys.base_prefix)}
        shared |= {"checkout": (str(ROOT), CHECKOUT), "code": (str(code), CODE)}
        mounts = [{"name": name, "mountPath": there, "readOnly": True} for name, (_, there) in shared.items()]
        volumes = [
            {"name": name, "hostPath": {"path": here, "type": "Directory"}} for name, (here, _) in shared.items()
        ]
        home = Path(sys.base_prefix).parts[1]
        if home == "root":  # in the image nobody else may enter it
            mounts.append({"name": "root", "mountPath": "/root"})
            volumes.append({"name": "root", "emptyDir": {}})
        env = {"PATH": f"{sys.prefix}/bin:/usr/bin:/bin", "PYTHONPATH": f"{CHECKOUT}:{CODE}", "HF_HUB_OFFLINE": "1"}
        container = {
            "name": "base",
            "image": IMAGE,
            "imagePullPolicy": "Never",
            "workingDir": CHECKOUT,
            "env": [{"name": name, "value": value} for name, value in env.items()],
            "volumeMounts": mounts,
        }
        spec = {"containers": [container], "volumes": volumes, **more}
        path = folder / "pod.yaml"
        path.write_text(yaml.safe_dump({"metadata": {"namespace": self.namespace}, "spec": spec}))
        return path
