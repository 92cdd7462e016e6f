"""Ports: usual ones, replaced where taken, remembered."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from include.embedded import ports as module
from include.embedded.ports import Ports, Reservations, free_port, is_free


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> Ports:
    """Other usual ports than the real ones, which this machine may be using."""
    numbers: list[int] = []
    while len(numbers) < 5:
        numbers.append(free_port(frozenset(numbers)))
    names = list(asdict(Ports()))
    made = Ports(**dict(zip(names, numbers, strict=True)))
    monkeypatch.setattr(module, "Ports", lambda **values: made if not values else Ports(**values))
    return made


def choose_ports(memory: Path) -> Ports:
    """As a supervisor that ends at once."""
    reservations = Reservations(memory.parent / "reserved")
    try:
        return module.choose_ports(memory, reservations)
    finally:
        reservations.release()


def listening(port: int, host: str = "127.0.0.1") -> socket.socket:
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    server.bind((host, port))
    server.listen()
    return server


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_port_that_somebody_listens_on_is_not_free(host: str) -> None:
    with listening(0, host) as server:
        assert not is_free(server.getsockname()[1])


@pytest.mark.parametrize("port", [0, -1, 65536, 10**9])
def test_no_port_is_not_free(port: int) -> None:
    assert not is_free(port)


def test_the_usual_ports_are_taken_when_they_are_free(usual: Ports, tmp_path: Path) -> None:
    assert choose_ports(tmp_path / "ports.json") == usual


def test_a_taken_port_is_replaced_and_the_replacement_is_remembered(usual: Ports, tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    with listening(usual.airflow):
        first = choose_ports(memory)
    assert first.airflow != usual.airflow
    assert is_free(first.airflow)
    assert (first.mlflow, first.gateway) == (usual.mlflow, usual.gateway)
    assert choose_ports(memory) == first, "the usual port is free again, but bookmarks point to the other"


def test_a_remembered_port_that_is_taken_now_is_replaced(usual: Ports, tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    with listening(0) as server:
        taken = server.getsockname()[1]
        memory.write_text(json.dumps({"gateway": taken}))
        assert choose_ports(memory).gateway == usual.gateway


@pytest.mark.parametrize("text", ["", "no json", "[1]", '{"airflow": "8080", "mlflow": true, "gateway": -4}'])
def test_a_damaged_memory_is_ignored(usual: Ports, tmp_path: Path, text: str) -> None:
    memory = tmp_path / "ports.json"
    memory.write_text(text)
    assert choose_ports(memory) == usual


def test_no_port_is_given_twice(usual: Ports, tmp_path: Path) -> None:
    memory = tmp_path / "ports.json"
    memory.write_text(json.dumps({"airflow": usual.mlflow, "mlflow": usual.mlflow, "gateway": usual.mlflow}))
    chosen = asdict(choose_ports(memory))
    assert len(set(chosen.values())) == len(chosen)


def test_replaced_ports_are_named() -> None:
    assert Ports(gateway=9999).replaced() == {"gateway": (8900, 9999)}


def test_two_stacks_that_start_at_the_same_moment_choose_different_ports(usual: Ports, tmp_path: Path) -> None:
    first, second = Reservations(tmp_path / "reserved"), Reservations(tmp_path / "reserved")
    mine = asdict(module.choose_ports(tmp_path / "first.json", first))
    other = asdict(module.choose_ports(tmp_path / "second.json", second))
    assert set(mine.values()).isdisjoint(other.values())
    first.release()
    assert second.take(mine["airflow"]), "the ports of a stack that has ended may be taken"
    second.release()


def test_a_killed_supervisor_holds_no_port(tmp_path: Path) -> None:
    code = f"""
import time
from pathlib import Path
from include.embedded.ports import Reservations
print(Reservations(Path({str(tmp_path / "reserved")!r})).take(4242), flush=True)
time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout and process.stdout.readline() == b"True\n"
    mine = Reservations(tmp_path / "reserved")
    assert not mine.take(4242)
    process.kill()
    process.wait()
    assert mine.take(4242)
    mine.release()
