"""Shared fixtures: every test has a Windtunnel of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings as hypothesis_settings

from include.settings import Settings
from include.store.database import open_database

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

# Properties promise results, not speed: on a busy machine a first import alone takes longer than the usual 200 ms.
hypothesis_settings.register_profile("untimed", deadline=None)
hypothesis_settings.load_profile("untimed")

pytest_plugins = ("tests.servers.postgres", "tests.servers.s3")

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"


DATABASES = ("sqlite", "postgresql")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Runs what is marked `every_database` on every kind of database."""
    if "database" in metafunc.fixturenames and metafunc.definition.get_closest_marker("every_database"):
        metafunc.parametrize("database", DATABASES, indirect=True)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where several processes share the tests, the files that take longest come first: none is left for the end."""
    if hasattr(config, "workerinput"):
        slow = {item.path for item in items if item.get_closest_marker("slow")}
        items.sort(key=lambda item: (not item.get_closest_marker("e2e"), item.path not in slow))


@pytest.fixture
def database(request: pytest.FixtureRequest) -> str:
    """Which kind of database the test's installation has: SQLite, unless it is marked `every_database`."""
    return str(getattr(request, "param", DATABASES[0]))


@pytest.fixture
def settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, database: str
) -> Iterator[Settings]:
    """Settings of an empty installation in a temporary folder; the environment of subprocesses agrees with them."""
    home = tmp_path / "windtunnel"
    for name in [name for name in os.environ if name.startswith("WINDTUNNEL_")]:
        monkeypatch.delenv(name)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.setenv("WINDTUNNEL_HOME", str(home))
    monkeypatch.setenv("WINDTUNNEL_WARM_MINUTES", "0")  # a server that most tests have no use for costs seconds
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    if database == "postgresql":
        monkeypatch.setenv("WINDTUNNEL_DATABASE_URL", request.getfixturevalue("postgres_url"))
    made = Settings.from_env()
    for name, value in made.to_env().items():
        monkeypatch.setenv(name, value)
    yield made
    open_database.cache_clear()
