"""An installation with registered tiny models, a gateway that says what a test wants, and MLflow in memory."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from include.release import bootstrap, candidate, engine, gateway, judging, load_check, registry, rollback
from include.release.ledger import Ledger
from include.release.registry import ModelVersion
from include.release.rollback import all_to
from include.release.routing import Role, Variant
from include.settings import Settings
from include.spec.models import FamilySpec
from include.store.database import open_database
from include.store.objects import ObjectStore, open_store
from tests.fakes.tiny_family import FAMILY, tiny_package, tiny_spec

START = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
STAGES = ("shadow", "canary", "full")


@dataclass
class FakeMlflow:
    """The part of `MlflowRegistry` that the registry uses, shared by all who open it."""

    versions: dict[str, dict[str, str]] = field(default_factory=dict)  # number -> tags
    aliases: dict[str, str] = field(default_factory=dict)
    broken: bool = False

    def ensure_version(
        self, family: str, fingerprint: str, source: str, tags: Mapping[str, str], description: str
    ) -> str:
        if self.broken:
            raise registry.UserError("MLflow is away")
        for number, known in self.versions.items():
            if known["fingerprint"] == fingerprint:
                known.update(tags)
                return number
        number = str(len(self.versions) + 1)
        self.versions[number] = {**tags, "fingerprint": fingerprint, "source": source}
        return number

    def set_aliases(self, family: str, aliases: Mapping[str, str | None]) -> None:
        if self.broken:
            raise registry.UserError("MLflow is away")
        for alias, number in aliases.items():
            if number is None:
                self.aliases.pop(alias, None)
            else:
                self.aliases[alias] = number


@dataclass
class FakeGateway:
    """Says of every generation what a test set, or of one by its number; by default everything is fine and plenty."""

    of: dict[int, dict[str, Any]] = field(default_factory=dict)
    waited: list[int] = field(default_factory=list)
    shown: dict[str, Any] = field(default_factory=dict)
    away: str = ""
    stuck: bool = False
    broken: str = ""

    def load_check(self, *_: Any, **__: Any) -> dict[str, Any]:
        return {"verdict": "FAIL" if self.broken else "PASS", "why": [self.broken or "loads"]}

    def stats(self, settings: Settings, family: str, generation: int) -> dict[str, Any]:
        if self.away:
            raise gateway.GatewayError(self.away)
        usual = {"generation": generation, "variants": {"champion": variant(), "challenger": variant()}}
        return {**usual, **self.shown, **self.of.get(generation, {})}

    def wait_for_generation(self, settings: Settings, family: str, generation: int, **_: Any) -> float:
        if self.stuck:
            raise gateway.GatewayError("the gateway did not take over")
        self.waited.append(generation)
        return 0.1


def variant(**changes: Any) -> dict[str, Any]:
    """What `/v1/stats` says of a variant that does well."""
    counts = {
        "requests": 400,
        "errors": 0,
        "latency_p50_ms": 10.0,
        "latency_p95_ms": 20.0,
        "labels": 200,
        "quality": {"hit_at_10": {"mean": 0.9, "n": 200, "sd": 0.3}},
        **changes,
    }
    return {**counts, "shadow": counts}


@dataclass
class Tunnel:
    """The release side of an installation; time moves when a test says so."""

    settings: Settings
    spec: FamilySpec
    store: ObjectStore
    ledger: Ledger
    gateway: FakeGateway
    mlflow: FakeMlflow
    folder: Path
    now: datetime = START
    models: int = 0

    def later(self, seconds: float) -> datetime:
        self.now += timedelta(seconds=seconds)
        return self.now

    def package(self, **config: Any) -> str:
        self.models += 1
        return tiny_package(self.store, self.folder / f"model{self.models}", **config)

    def evaluation(self, digest: str, **changes: Any) -> dict[str, Any]:
        """What the step `evaluate` would say of a good candidate."""
        good = {"value": 0.9, "low": 0.85, "high": 0.95, "n": 100, "sd": 0.3}
        better = {"difference": 0.2, "low": 0.1, "high": 0.3, "n": 100, "sd": 0.3}
        return {
            "summary": {"hit_at_1": good},
            "comparisons": {"guess": {"hit_at_1": better}, "champion": {"hit_at_1": better}},
            "baselines": {"guess": {"digest": self.package(skill=0.1), "metrics": {"hit_at_1": good}}},
            "champion": candidate.champion(self.settings, FAMILY),
            "signature": {"inputs": {"question": "BYTES"}, "outputs": {"score": "FP32"}},
            "package_bytes": 1000,
            "report_key": f"reports/{digest}.json",
            "card_key": f"reports/{digest}.md",
            "answers_key": f"reports/{digest}.parquet",
            "n": 100,
            **changes,
        }

    def arguments(self, digest: str | None = None, run: str = "run", **changes: Any) -> dict[str, Any]:
        """Arguments of `judge_candidate` and `register_candidate` that both take."""
        digest = digest or self.package(skill=0.9, seed=self.models)
        return {
            "run": run,
            "dataset": {"dataset_version": "1.0.0", "dataset_digest": "d" * 64},
            "fit": {"digest": digest, "metrics": {"hit_at_1": 0.9}, "mlflow_run": None},
            "evaluation": self.evaluation(digest, **changes),
            "at": self.now,
        }

    def register(
        self, digest: str | None = None, *, backfill: bool = False, run: str = "run", **changes: Any
    ) -> dict[str, Any]:
        """Judges and registers a candidate."""
        arguments = self.arguments(digest, run, **changes)
        decision = candidate.judge_candidate(
            self.settings, self.spec, **arguments, attempt=1, adjusted={}, backfill=backfill
        )
        sweep = {"study": "s", "hyperparameters": {"lr": 0.1}, "value": 0.9, "seed": 1}
        return candidate.register_candidate(
            self.settings, self.spec, **arguments, actor="me", sweep=sweep, decision=decision, backfill=backfill
        )

    def begin(self, version: str, run: str = "release/1") -> dict[str, Any]:
        return engine.begin(self.settings, self.spec, version, run=run, actor="me", at=self.now)

    def enter(self, rollout: str, stage: str) -> dict[str, Any]:
        return engine.enter_stage(self.settings, self.spec, rollout, stage, actor="me", at=self.now)

    def judge(self, rollout: str, stage: str) -> dict[str, Any]:
        return judging.judge(self.settings, self.spec, rollout, stage, at=self.now)

    def promote(self, rollout: str) -> dict[str, Any]:
        return engine.promote(self.settings, self.spec, rollout, actor="me", at=self.now)

    def roll_back(self, rollout: str, reason: str = "it was bad") -> dict[str, Any]:
        return engine.roll_back(self.settings, self.spec, rollout, reason=reason, actor="me", at=self.now)

    def pass_stage(self, rollout: str, stage: str) -> None:
        self.enter(rollout, stage)
        self.later(5)
        assert self.judge(rollout, stage)["verdict"] == "PASS"

    def fly(self, run: str = "run") -> str:
        """A candidate from registration to champion; returns its version."""
        version: str = self.register(run=run)["model_version"]
        rollout = self.begin(version, run=f"release/{run}")["rollout"]
        for stage in ("shadow", "canary", "full"):
            self.pass_stage(rollout, stage)
        self.promote(rollout)
        return version

    def champion(self) -> str | None:
        found = candidate.champion(self.settings, FAMILY)
        return found["version"] if found else None

    def versions(self) -> list[ModelVersion]:
        return candidate.versions(self.settings, FAMILY)


def make_tunnel(settings: Settings, folder: Path, patch: pytest.MonkeyPatch) -> Tunnel:
    """A tunnel in the installation of `settings`; the last one made is the one whose gateway and MLflow are asked."""
    shown, mlflow = FakeGateway(), FakeMlflow()
    patch.setattr(registry, "MlflowRegistry", lambda url: mlflow)
    patch.setattr(gateway, "stats", shown.stats)
    patch.setattr(load_check, "check", shown.load_check)
    for module in (gateway, bootstrap, rollback):
        patch.setattr(module, "wait_for_generation", shown.wait_for_generation)
    return Tunnel(
        settings=settings,
        spec=tiny_spec(),
        store=open_store(settings.store_url),
        ledger=Ledger(open_database(settings.database_url)),
        gateway=shown,
        mlflow=mlflow,
        folder=folder,
    )


@pytest.fixture
def tunnel(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tunnel:
    return make_tunnel(settings, tmp_path / "models", monkeypatch)


@pytest.fixture
def fresh(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], Tunnel]:
    """Makes one new installation after the other."""
    template = tmp_path / "template.db"
    open_database(f"sqlite:///{template}").dispose()
    count = iter(range(10_000))

    def make() -> Tunnel:
        home = tmp_path / f"home{next(count)}"
        home.mkdir()
        shutil.copy(template, home / "ledger.db")
        here = replace(
            settings, home=home, database_url=f"sqlite:///{home}/ledger.db", store_url=(home / "store").as_uri()
        )
        return make_tunnel(here, home / "models", monkeypatch)

    return make


@pytest.fixture
def ledger(settings: Settings) -> Ledger:
    return Ledger(open_database(settings.database_url))


def bad(**changes: Any) -> dict[str, Any]:
    """Stats in which the challenger does badly."""
    challenger = variant(quality={"hit_at_10": {"mean": 0.3, "n": 200, "sd": 0.4}}, **changes)
    return {"variants": {"champion": variant(), "challenger": challenger}}


def interfere(tunnel: Tunnel, version: str = "6.6.6") -> int:
    """Somebody else moves the traffic."""
    route = tunnel.ledger.route("tiny")
    table = all_to(Variant(role=Role.CHAMPION, version=version, digest="e" * 64))
    expected = route.generation if route else 0
    return tunnel.ledger.swap_route("tiny", expected, table, reason="by hand", actor="you", at=tunnel.now)


@pytest.fixture
def rollout(tunnel: Tunnel) -> str:
    """A rollout that has begun, on the bootstrap baseline."""
    found: str = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    return found
