"""What it costs to start a step as a local pod: forked from the warm server, and as a process of its own (cold).

Both sides are started by the same runner and take turns. Processor time is that of the pod and all it starts, and on
the warm side what the server spent for it; what the server spends on its own start is told apart, as it is spent once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from benchmarks.harness import Figure, summarise
from benchmarks.model import BM25, FAMILY, environment, prepare
from include.pods.contract import PodPhase, PodSpec
from include.pods.local import LocalPodRunner
from include.pods.warm import SOCKET, WarmStarts, connection
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.document import RunDocument, make_document
from include.steps.entry import read_json
from include.store.objects import ObjectStore, open_store

_NOTE = (
    "A local pod that reads its run document and imports what `fit` needs. The server's own start takes {:.1f} "
    "processor seconds, once."
)
_TRIALS_NOTE = "Each a pod of its own: a sweep's worker with one trial of 64 examples, five of six layers frozen."


def run(quick: bool) -> list[Figure]:
    """Seconds and processor seconds until a step's own first line, and trials a minute; cold starts are the peer."""
    bench = _bench()
    lines: dict[str, list[tuple[float, float]]] = {"warm": [], "cold": []}
    trials: dict[str, list[float]] = {"warm": [], "cold": []}
    with bench.server() as (server, own_seconds):
        for repeat in range(3 if quick else 8):
            for side in ("warm", "cold") if repeat % 2 else ("cold", "warm"):
                taken = bench.first_line(side, repeat, server)
                if repeat:  # the first turn fills caches
                    lines[side].append(taken)
        for repeat in range(2 if quick else 6):
            for side in ("warm", "cold") if repeat % 2 else ("cold", "warm"):
                seconds = bench.trial(side, repeat)
                if repeat:
                    trials[side].append(60 / seconds)
    note = _NOTE.format(own_seconds)
    return [
        _figure("seconds from start to a step's own first line", "s", note, lines, 0),
        _figure("processor seconds to a step's own first line", "s", note, lines, 1),
        summarise(
            "start", "trials per minute", trials["warm"], unit="1/min", peer="cold start", peer_values=trials["cold"],
            note=_TRIALS_NOTE,
        ),
    ]  # fmt: skip


def _figure(name: str, unit: str, note: str, taken: dict[str, list[tuple[float, float]]], which: int) -> Figure:
    warm, cold = ([each[which] for each in taken[side]] for side in ("warm", "cold"))
    return summarise("start", name, warm, unit=unit, peer="cold start", peer_values=cold, note=note)


@dataclass(frozen=True)
class _Bench:
    settings: Settings
    spec: FamilySpec
    dataset_version: str
    store: ObjectStore
    stamp: str

    def runner(self, side: str) -> LocalPodRunner:
        return LocalPodRunner(
            self.settings.home / "pods", _Sure(self.settings.home / "warm", 5) if side == "warm" else None
        )

    @contextlib.contextmanager
    def server(self) -> Iterator[tuple[psutil.Process, float]]:
        """The server's process, and the processor seconds that its own start took."""
        folder = self.settings.home / "warm"
        shutil.rmtree(folder, ignore_errors=True)
        WarmStarts(folder, 5).start(folder, "", [sys.executable, "-m", "timeit"], os.environ)
        deadline = time.monotonic() + 300
        while not (folder / SOCKET).exists():
            if time.monotonic() > deadline:
                raise RuntimeError(f"there is no warm server: read {folder / 'log'}")
            time.sleep(0.1)
        with connection(folder) as (place, client):
            client.connect(place)
            pid, _, _ = struct.unpack("3i", client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        server = psutil.Process(pid)
        try:
            yield server, _cpu(server)
        finally:
            server.send_signal(signal.SIGTERM)

    def first_line(self, side: str, repeat: int, server: psutil.Process) -> tuple[float, float]:
        dataset = {"dataset_version": self.dataset_version, "dataset_digest": ""}
        document = self._document("fit", {**dataset, "side": side, "repeat": repeat})
        before, began = _cpu(server), time.time()
        used = self._step(side, "benchmarks.first_line", document)
        at = float(read_json(self.store, document.result_key)["outputs"]["at"])
        return at - began, used + (_cpu(server) - before if side == "warm" else 0.0)

    def trial(self, side: str, repeat: int) -> float:
        """Seconds that a worker with one trial took, its start included."""
        inputs = {
            "dataset_version": self.dataset_version, "dataset_digest": "", "seed": 0, "trials": 1, "adjust": {},
            "study": f"start-{self.stamp}-{side}-{repeat}",
        }  # fmt: skip
        began = time.monotonic()
        self._step(side, "include.training", self._document("sweep", inputs))
        return time.monotonic() - began

    def _document(self, step: str, inputs: dict[str, Any]) -> RunDocument:
        document = make_document(
            step, "benchmarks/start", self.spec, {**inputs, "stamp": self.stamp}, spec_parts=(), code_version="",
            created_at=datetime.now(UTC),
        )  # fmt: skip
        self.store.put(document.document_key, document.model_dump_json().encode())
        return document

    def _step(self, side: str, package: str, document: RunDocument) -> float:
        uri = self.store.uri(document.document_key)
        return self._run(side, f"{side}-{document.step}", [sys.executable, "-m", package, document.step, "--run", uri])

    def _run(self, side: str, name: str, command: list[str]) -> float:
        """Processor seconds of a pod that was run to its end."""
        runner = self.runner(side)
        runner.start(PodSpec(name, command))
        while (status := runner.status(name)).phase is PodPhase.RUNNING:
            time.sleep(0.01)
        if status.phase is not PodPhase.SUCCEEDED or status.usage is None or status.usage.cpu_seconds is None:
            raise RuntimeError(f"{name} ended with {status}: {runner.tail(name)[-5:]}")
        return status.usage.cpu_seconds


class _Sure(WarmStarts):
    """Does not let a pod be started cold that is to be warm."""

    def start(self, pod: Path, attempt: str, command: Sequence[str], environment: Mapping[str, str]) -> bool:
        if not super().start(pod, attempt, command, environment):
            raise RuntimeError("the warm server did not start a pod")
        return True


def _bench() -> _Bench:
    prepared = prepare(BM25)
    os.environ.update(environment(prepared.settings))
    values = prepared.spec.model_dump(mode="json")
    values["model"] |= {"freeze_layers": 5}
    values["trainer"] |= {"accelerator": "cpu", "devices": 1, "precision": "32-true", "batch_size": 8}
    values["sweep"] |= {"trials": 1, "workers": 1, "max_epochs": 1, "max_examples": 64}
    spec = FamilySpec.model_validate(values)
    assert spec.family == FAMILY
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    return _Bench(prepared.settings, spec, prepared.dataset_version, open_store(prepared.settings.store_url), stamp)


def _cpu(process: psutil.Process) -> float:
    used = process.cpu_times()
    return float(used.user + used.system)
