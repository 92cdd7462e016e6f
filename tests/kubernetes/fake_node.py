"""A node of the cluster that runs nothing and plays what a healthy kubelet does not give on demand."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid

import pytest

from tests.kubernetes.cluster import KIT
from tests.servers.postgres import free_port

_SECONDS = 60


class FakeNode:
    """The kit's fake node as a process of its own, for the `with` block.

    Args:
        config: Path of the kubeconfig.
    """

    def __init__(self, config: str) -> None:
        if not (KIT / "fakenode.py").is_file():
            pytest.skip(f"no fake node: {KIT / 'fakenode.py'} is not there")
        self.name = f"fake-{uuid.uuid4().hex[:6]}"
        self._config = config
        self._environment = {**os.environ, "KUBECONFIG": config}
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> FakeNode:
        command = [sys.executable, str(KIT / "fakenode.py"), "--name", self.name, "--port", str(free_port("127.0.0.1"))]
        self._process = subprocess.Popen(command, env=self._environment, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None and self._process.stdout.readline(), "the fake node did not start"
        self._give_room()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(_SECONDS)
        else:
            self._kubectl("delete", "node", self.name)

    def kill(self) -> None:
        """The machine is gone from one moment to the next."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(_SECONDS)

    def _give_room(self) -> None:
        """Disk, which the kit's node does not offer; the node says what it offers a moment after its start."""
        from kubernetes import client, config

        config.load_kube_config(self._config)
        room = {"ephemeral-storage": "500Gi"}
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            node = client.CoreV1Api().patch_node_status(
                self.name, {"status": {"capacity": room, "allocatable": room}}, _preload_content=False
            )
            if b'"Ready"' in node.data and b'"cpu"' in node.data:
                return
            time.sleep(0.2)
        raise AssertionError("the fake node did not get ready")

    def _kubectl(self, *arguments: str) -> None:
        subprocess.run(["kubectl", "--kubeconfig", self._config, *arguments], check=False, capture_output=True)
