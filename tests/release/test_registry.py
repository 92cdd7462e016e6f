"""Registration on a real MLflow database: one of each, whatever is killed, repeated or done at the same time."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.errors import UserError
from include.release.ledger import Event, Ledger
from include.release.mlflow_registry import MlflowRegistry, RegistryError
from include.release.registry import Registration, find_version, list_versions, register, sync_aliases
from include.release.rollback import all_to
from include.release.routing import Role, Variant
from include.release.versioning import Change, next_version
from include.settings import PROJECT_ROOT, Settings
from include.store.database import open_database

pytestmark = pytest.mark.slow

NOW = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A migrated, empty MLflow database: making one takes seconds, copying it does not."""
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    code = (
        "import sys; from mlflow import MlflowClient; MlflowClient(sys.argv[1], sys.argv[1]).search_registered_models()"
    )
    subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}"], check=True, capture_output=True)
    return path


@pytest.fixture
def installed(settings: Settings, template: Path) -> Settings:
    """Settings whose MLflow database exists."""
    path = settings.home / "db" / "mlflow.db"
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(template, path)
    return settings


def entry(name: str = "one", releasable: bool = True, **changes: Any) -> Registration:
    values: dict[str, Any] = {
        "family": "tiny",
        "fingerprint": name * 8,
        "digest": name * 10,
        "verdict": "PASS",
        "releasable": releasable,
        "dataset_version": "1.0.0",
        "code_version": "c",
        "record": {"run": "r"},
        "choose": lambda known: (next_version([row.version for row in known], Change.MINOR), {"change": "minor"}),
        "description": "a model",
        "tags": {"run": "r"},
    }
    return Registration(**{**values, **changes})


def mlflow_versions(settings: Settings) -> list[Any]:
    from mlflow import MlflowClient

    client = MlflowClient(settings.mlflow_url, settings.mlflow_url)
    return list(client.search_model_versions("name='tiny'"))


def check_one_of_each(settings: Settings, names: list[str]) -> None:
    """Every name is registered exactly once in all three places, and they agree."""
    engine = open_database(settings.database_url)
    rows = list_versions(engine, "tiny")
    assert sorted(row.fingerprint for row in rows) == sorted(name * 8 for name in names)
    shown = {str(found.version): found.tags for found in mlflow_versions(settings)}
    assert sorted(tags["fingerprint"] for tags in shown.values()) == sorted(row.fingerprint for row in rows)
    for row in rows:
        tags = shown[row.mlflow_version]
        assert (tags["fingerprint"], tags["semver"], tags["digest"]) == (row.fingerprint, row.version, row.digest)
    told = Ledger(engine).entries("tiny", frozenset({Event.REGISTERED}))
    assert sorted(found.model_version or "" for found in told) == sorted(row.version for row in rows)


def test_a_version_carries_what_it_is_known_by(installed: Settings) -> None:
    row, new = register(installed, entry(), actor="me", at=NOW)
    assert (row.version, new, row.releasable) == ("1.0.0", True, True)
    (shown,) = mlflow_versions(installed)
    assert shown.tags == {
        "semver": "1.0.0",
        "digest": "one" * 10,
        "dataset_version": "1.0.0",
        "fingerprint": "one" * 8,
        "code_version": "c",
        "verdict": "PASS",
        "releasable": "true",
        "run": "r",
    }
    assert shown.source == f"{installed.store_url}/models/tiny/{'one' * 10}"
    assert find_version(open_database(installed.database_url), "tiny", "1.0.0") == row


def test_the_same_candidate_is_registered_once(installed: Settings) -> None:
    first, _ = register(installed, entry(), actor="me", at=NOW)
    again, new = register(installed, entry(), actor="someone else", at=NOW)
    assert (again, new) == (first, False)
    assert register(installed, entry("two"), actor="me", at=NOW)[0].version == "1.1.0"
    check_one_of_each(installed, ["one", "two"])


def test_a_leftover_of_a_dead_try_is_taken_over_and_corrected(installed: Settings) -> None:
    registry = MlflowRegistry(installed.mlflow_url)
    left = registry.ensure_version("tiny", "two" * 8, "s3://b/x", {"semver": "1.0.0", "digest": "two" * 10}, "left")
    register(installed, entry(), actor="me", at=NOW)  # somebody else took 1.0.0 in the meantime
    row, _ = register(installed, entry("two"), actor="me", at=NOW)
    assert (row.version, row.mlflow_version) == ("1.1.0", left)
    check_one_of_each(installed, ["one", "two"])


def test_mlflow_away_registers_nothing_and_a_retry_continues(
    installed: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> str:
        raise RegistryError("MLflow's registry failed: away")

    with monkeypatch.context() as patch:
        patch.setattr(MlflowRegistry, "ensure_version", refuse)
        with pytest.raises(RegistryError):
            register(installed, entry(), actor="me", at=NOW)
    engine = open_database(installed.database_url)
    assert (list_versions(engine, "tiny"), Ledger(engine).entries("tiny")) == ([], [])
    register(installed, entry(), actor="me", at=NOW)
    check_one_of_each(installed, ["one"])


def test_an_unknown_version_lists_where_to_look(installed: Settings) -> None:
    with pytest.raises(UserError, match=r"no version '9\.9\.9'"):
        find_version(open_database(installed.database_url), "tiny", "9.9.9")


def test_a_refusal_of_mlflow_is_an_error_of_ours(installed: Settings) -> None:
    with pytest.raises(RegistryError, match="MLflow"):
        MlflowRegistry(installed.mlflow_url).set_aliases("nobody", {"champion": "1"})


def test_an_mlflow_server_gets_a_source_that_it_accepts(installed: Settings) -> None:
    registry = MlflowRegistry(installed.mlflow_url)
    assert registry._source("file:///home/models/tiny/abc") == "file:///home/models/tiny/abc"
    registry._url = "https://mlflow.example"
    assert registry._source("file:///home/models/tiny/abc") == "windtunnel:/models/tiny/abc"
    assert registry._source("s3://bucket/models/tiny/abc") == "s3://bucket/models/tiny/abc"


class TestAliases:
    def aliases(self, settings: Settings) -> dict[str, str]:
        from mlflow import MlflowClient

        return dict(MlflowClient(settings.mlflow_url, settings.mlflow_url).get_registered_model("tiny").aliases)

    def serve(self, settings: Settings, version: str, generation: int) -> None:
        variant = Variant(role=Role.CHAMPION, version=version, digest="d")
        ledger = Ledger(open_database(settings.database_url))
        ledger.swap_route("tiny", generation, all_to(variant), reason="r", actor="me", at=NOW)

    def test_they_follow_the_ledger(self, installed: Settings) -> None:
        for name, releasable in (("one", True), ("two", True), ("backfill", False)):
            register(installed, entry(name, releasable), actor="me", at=NOW)
        assert sync_aliases(installed, "tiny") == {"champion": None, "candidate": "1.1.0"}
        self.serve(installed, "1.0.0", 0)
        assert sync_aliases(installed, "tiny") == {"champion": "1.0.0", "candidate": "1.1.0"}
        assert {name: str(number) for name, number in self.aliases(installed).items()} == {
            "champion": "1",
            "candidate": "2",
        }
        self.serve(installed, "1.1.0", 1)
        assert sync_aliases(installed, "tiny") == {"champion": "1.1.0", "candidate": None}
        assert {name: str(number) for name, number in self.aliases(installed).items()} == {"champion": "2"}

    def test_what_was_rolled_back_is_no_candidate(self, installed: Settings) -> None:
        register(installed, entry(), actor="me", at=NOW)
        ledger = Ledger(open_database(installed.database_url))
        ledger.append("tiny", Event.ROLLED_BACK, key="k", actor="me", at=NOW, model_version="1.0.0")
        assert sync_aliases(installed, "tiny")["candidate"] is None


class TestKilled:
    """kill -9 between any two statements of a registration, then the same again."""

    def die_after(self, lines: int) -> Callable[..., Any]:
        seen = 0

        def trace(frame: Any, event: str, _: Any) -> Any:
            nonlocal seen
            if not frame.f_code.co_filename.startswith(str(PROJECT_ROOT / "include" / "release")):
                return None
            if event == "line":
                seen += 1
                if seen > lines:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        return trace

    def attempt(self, settings: Settings, lines: int) -> bool:
        """Registers in a process that dies after so many lines; True where it survived."""
        child = os.fork()
        if child == 0:
            open_database.cache_clear()
            sys.settrace(self.die_after(lines))
            try:
                register(settings, entry(), actor="me", at=NOW)
                sync_aliases(settings, "tiny")
            finally:
                os._exit(0)
        _, status = os.waitpid(child, 0)
        return os.WIFEXITED(status)

    def test_whenever_it_dies_there_is_one_registration(
        self, settings: Settings, template: Path, tmp_path: Path
    ) -> None:
        MlflowRegistry(f"sqlite:///{template}")  # imported once, here, and not in every child
        ledger = tmp_path / "ledger.db"
        open_database(f"sqlite:///{ledger}").dispose()
        lines, deaths = 0, 0
        while True:
            home = tmp_path / f"home{lines}"
            (home / "db").mkdir(parents=True)
            shutil.copy(template, home / "db" / "mlflow.db")
            shutil.copy(ledger, home / "db" / "ledger.db")
            here = replace(
                settings,
                home=home,
                database_url=f"sqlite:///{home}/db/ledger.db",
                mlflow_url=f"sqlite:///{home}/db/mlflow.db",
            )
            if self.attempt(here, lines):
                break
            deaths += 1
            register(here, entry(), actor="me", at=NOW)
            sync_aliases(here, "tiny")
            check_one_of_each(here, ["one"])
            open_database.cache_clear()
            lines += 9
        assert deaths > 15, "the trace did not see the code that registers"


def test_processes_at_the_same_time_register_each_candidate_once(installed: Settings) -> None:
    code = """
import sys
from datetime import UTC, datetime
from include.release.registry import register
from include.settings import Settings
from tests.release.test_registry import NOW, entry
for name in ("one", "two", "three"):
    register(Settings.from_env(), entry(name), actor=sys.argv[1], at=NOW)
"""
    started = [subprocess.Popen([sys.executable, "-c", code, str(name)], cwd=PROJECT_ROOT) for name in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    check_one_of_each(installed, ["one", "two", "three"])
    assert sorted(row.version for row in list_versions(open_database(installed.database_url), "tiny")) == [
        "1.0.0",
        "1.1.0",
        "1.2.0",
    ]
