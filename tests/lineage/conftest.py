"""The life of a small family: three dataset versions, four models, and the traffic that they had."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert

from include.release import rollback
from include.release.ledger import Ledger
from include.release.routing import Arm, Role, RoutingTable, Variant
from include.serving.package import PackageError
from include.settings import Settings
from include.store import schema
from include.store.database import open_database
from tests.cli.conftest import windtunnel  # noqa: F401
from tests.data.conftest import FAMILY, Deliveries, Pipeline, ask, fill_source
from tests.release.conftest import tunnel  # noqa: F401

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)


@dataclass
class Life:
    """What happened, and how to make more happen.

    Versions: 1.0.0 holds the delivery of 12 October, 2.0.0 that of 19 October as well, and 2.0.1 one question more.
    Models: 0.1.0 (baseline) and 1.0.0 on 1.0.0, 1.1.0 on 2.0.0, 1.2.0 on 2.0.1; 1.1.0 serves, with 1.2.0 at 5%.
    """

    pipeline: Pipeline
    source: Deliveries
    ledger: Ledger
    broken: set[str]

    @property
    def settings(self) -> Settings:
        return self.pipeline.settings

    def model(self, version: str, dataset_version: str, **record: Any) -> None:
        values = {
            "family": FAMILY, "version": version, "fingerprint": version, "digest": version.replace(".", "") * 8,
            "verdict": "PASS", "releasable": 1, "mlflow_version": "1", "dataset_version": dataset_version,
            "record": record, "registered_at": AT,
        }  # fmt: skip
        with open_database(self.settings.database_url).begin() as connection:
            connection.execute(insert(schema.model_versions).values(**values))

    def serve(self, champion: str, challenger: str | None = None, share: float = 0.0, **table: Any) -> int:
        route = self.ledger.route(FAMILY)
        generation = route.generation if route else 0
        made = RoutingTable(
            champion=_variant(Role.CHAMPION, champion),
            challenger=_variant(Role.CHALLENGER, challenger) if challenger else None,
            challenger_share=share,
            stage="canary" if challenger else "",
            **table,
        )
        return self._swap(generation, made)

    def experiment(self, champion: str, *challengers: str) -> int:
        """Half of the traffic for the champion, the rest evenly for the challengers."""
        route = self.ledger.route(FAMILY)
        weights = [Arm(variant=_variant(Role.CHAMPION, champion), weight=len(challengers))]
        weights += [Arm(variant=_variant(Role.CHALLENGER, version), weight=1) for version in challengers]
        made = RoutingTable(champion=_variant(Role.CHAMPION, champion), arms=tuple(weights), rollout="wording")
        return self._swap(route.generation if route else 0, made)

    def _swap(self, generation: int, made: RoutingTable) -> int:
        at, reason = AT + timedelta(hours=generation), f"step {generation + 1}"
        return self.ledger.swap_route(FAMILY, generation, made, reason=reason, actor="me", at=at)


def _variant(role: Role, version: str) -> Variant:
    return Variant(role=role, version=version, digest=version.replace(".", "") * 8)


@pytest.fixture(scope="session")
def lived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Home and source of the life, made once; a source's id is made of its path, so every test has the same one."""
    folder = tmp_path_factory.mktemp("life")
    settings = Settings.from_env({"WINDTUNNEL_HOME": str(folder / "home")})
    deliveries = fill_source(folder / "source")
    pipeline = Pipeline(settings, deliveries.folder)
    made = Life(pipeline, deliveries, Ledger(open_database(settings.database_url)), set())
    pipeline.run("w1", "2026-10-06", "2026-10-13")
    pipeline.run("w2", "2026-10-13", "2026-10-20")
    deliveries.add("2026-10-26", {}, [ask(70, "AA-1.1")])
    assert pipeline.run("w3", "2026-10-20", "2026-10-27")["dataset_version"] == "2.0.1"
    made.model("0.1.0", "1.0.0", baseline="bm25")
    made.model("1.0.0", "1.0.0", run="train/1", hyperparameters={"rate": 0.1}, creator="me")
    made.model("1.1.0", "2.0.0", run="train/2", hyperparameters={"rate": 0.2})
    made.model("1.2.0", "2.0.1", run="train/3")
    made.serve("0.1.0")
    made.serve("0.1.0", "1.0.0", 0.05)
    made.serve("1.0.0")
    made.serve("1.1.0")
    made.serve("1.1.0", "1.2.0", 0.05)
    open_database(settings.database_url).dispose()
    shutil.copytree(deliveries.folder, folder / "pristine")
    return settings.home, deliveries.folder


@pytest.fixture
def life(settings: Settings, lived: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Life:
    """The life, in this test's installation."""
    home, folder = lived
    shutil.copytree(home, settings.home)
    shutil.rmtree(folder)
    shutil.copytree(folder.parent / "pristine", folder)
    broken = set[str]()

    def verify(_: Settings, __: str, digest: str) -> None:
        if digest in broken:
            raise PackageError("the package is gone")

    monkeypatch.setattr(rollback, "verify_usable", verify)
    monkeypatch.setattr(rollback, "wait_for_generation", lambda *_: 0.1)
    ledger = Ledger(open_database(settings.database_url))
    return Life(Pipeline(settings, folder), Deliveries(folder), ledger, broken)
