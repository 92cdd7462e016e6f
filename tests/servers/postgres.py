"""A real PostgreSQL for the tests: one server per session, one empty database per test.

The server lies in a temporary folder, listens on a free port of the loopback, and asks for a password, as one in
production does. PostgreSQL refuses to run as root; then it runs as the system's `postgres` user.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

USER, PASSWORD = "windtunnel", "not-a-secret"
START_SECONDS = 60
#: Tests ask what happens when processes die, not when the power fails.
OPTIONS = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "max_connections=60")


@dataclass(frozen=True)
class PostgresServer:
    """A running server; `url(name)` is the SQLAlchemy URL of one of its databases."""

    port: int
    host: str = "127.0.0.1"

    def url(self, database: str) -> str:
        return f"postgresql+psycopg2://{USER}:{PASSWORD}@{self.host}:{self.port}/{database}"

    def create(self) -> str:
        """The name of a new, empty database."""
        name = f"test_{uuid.uuid4().hex[:12]}"
        self._execute(f"CREATE DATABASE {name}")
        return name

    def drop(self, database: str) -> None:
        self._execute(f"DROP DATABASE {database} WITH (FORCE)")

    def _execute(self, statement: str) -> None:
        import psycopg2

        connection = psycopg2.connect(host=self.host, port=self.port, user=USER, password=PASSWORD, dbname="postgres")
        connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
        try:
            connection.cursor().execute(statement)
        finally:
            connection.close()


def _programs() -> Path | None:
    """The folder of the server's programs: of the newest version where a distribution keeps several."""
    kept = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3].split(".")[0]))
    found = shutil.which("initdb") or (str(kept[-1]) if kept else None)
    return Path(found).resolve().parent if found else None


def _owner() -> dict[str, Any]:
    """How to start a program as a user whom PostgreSQL accepts."""
    if os.geteuid() != 0:
        return {}
    try:
        entry = pwd.getpwnam("postgres")
    except KeyError:
        pytest.skip("PostgreSQL does not run as root, and there is no user `postgres`")
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A server that lives as long as the session. Skips where PostgreSQL is not installed."""
    with postgres_on("127.0.0.1") as server:
        yield server


@contextmanager
def postgres_on(host: str, clients: str = "127.0.0.1/32") -> Iterator[PostgresServer]:
    """A server that listens on the address `host` for the network `clients`. Skips where it is not installed."""
    programs, owner = _programs(), _owner()
    if programs is None:
        pytest.skip("PostgreSQL is not installed (initdb is neither on PATH nor under /usr/lib/postgresql)")
    folder = Path(tempfile.mkdtemp(prefix="windtunnel-pg-"))
    try:
        if owner:
            os.chown(folder, owner["user"], owner["group"])
        with _running(programs, folder, owner, host, clients) as server:
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _running:
    """Makes a cluster in `folder`, and runs a server on it for the `with` block."""

    def __init__(self, programs: Path, folder: Path, owner: dict[str, Any], host: str, clients: str) -> None:
        self._programs, self._folder, self._owner = programs, folder, owner
        self._host, self._clients = host, clients
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> PostgresServer:
        secret = self._folder / "password"
        secret.write_text(PASSWORD)
        secret.chmod(0o644)
        command = [self._programs / "initdb", "-D", self._folder / "data", "-U", USER, "-A", "scram-sha-256"]
        command += ["--pwfile", secret, "-E", "UTF8", "--locale", "C", "-N"]
        subprocess.run(command, check=True, capture_output=True, cwd=self._folder, **self._owner)
        with (self._folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(f"host all all {self._clients} scram-sha-256\n")
        for _ in range(5):  # the port is free when we ask, and may be taken when the server does
            server = PostgresServer(free_port(self._host), self._host)
            self._start(server.port)
            if self._answers(server):
                return server
        raise RuntimeError(f"PostgreSQL does not start: {(self._folder / 'log').read_text()[-2000:]}")

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)  # at once: nobody needs the data
            self._process.wait(START_SECONDS)

    def _start(self, port: int) -> None:
        settings = [
            f"listen_addresses={self._host}",
            f"port={port}",
            f"unix_socket_directories={self._folder}",
            *OPTIONS,
        ]
        command = [self._programs / "postgres", "-D", self._folder / "data"]
        command += [part for setting in settings for part in ("-c", setting)]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **self._owner)

    def _answers(self, server: PostgresServer) -> bool:
        """Whether the server takes connections; False where it ended."""
        import psycopg2

        assert self._process is not None
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                server.drop(server.create())
                return True
            except psycopg2.OperationalError:
                time.sleep(0.05)
        return False


def free_port(host: str) -> int:
    """A port of the address that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def postgres_url(postgres_server: PostgresServer) -> Iterator[str]:
    """SQLAlchemy URL of an empty database of the test's own."""
    name = postgres_server.create()
    yield postgres_server.url(name)
    postgres_server.drop(name)
