"""Killed anywhere and tried again, beside itself and in any order: the same version with the same rows."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from include.data import catalogue as catalogue_module
from include.data.catalogue import Catalogue
from include.data.datasets import latest_version, list_versions
from include.release.ledger import Ledger
from include.settings import Settings
from include.store import datasets as datasets_module
from include.store.database import open_database
from include.store.objects import LocalObjectStore

from .conftest import FAMILY, Deliveries, Pipeline


class Killed(BaseException):
    """Stands for `kill -9`: nothing catches it."""


class Fuse:
    """Burns with every write, and kills the process at the one that was chosen, before or after it is done."""

    def __init__(self, at: int | None, after: bool) -> None:
        self.writes = 0
        self._at, self._after = at, after

    def write(self, what: Callable[[], Any]) -> Any:
        self.writes += 1
        if self.writes == self._at and not self._after:
            raise Killed
        result = what()
        if self.writes == self._at:
            raise Killed
        return result


class FusedStore(LocalObjectStore):
    """A local store whose writes burn a fuse; those of progress do not, of which a slow machine makes more."""

    def __init__(self, root: Path, fuse: Fuse) -> None:
        super().__init__(root)
        self._fuse = fuse

    def put(self, key: str, data: bytes) -> None:
        if key.endswith(".progress.json"):
            super().put(key, data)
        else:
            self._fuse.write(lambda: LocalObjectStore.put(self, key, data))

    def upload(self, key: str, path: Path) -> None:
        self._fuse.write(lambda: LocalObjectStore.upload(self, key, path))


def settings_in(home: Path) -> Settings:
    return Settings.from_env({"WINDTUNNEL_HOME": str(home)})


def facts(settings: Settings) -> dict[str, Any]:
    """Everything that must not depend on how often and where work was cut off."""
    engine = open_database(settings.database_url)
    version = latest_version(settings, FAMILY)
    assert version is not None
    dataset = Pipeline(settings, "").dataset(version)
    manifest = dataset.manifest.model_dump(mode="json")
    for table in manifest["tables"].values():
        del table["delta_version"]  # how many commits it took is no matter of content
    return {
        "versions": [(entry.version, entry.fingerprint) for entry in list_versions(settings, FAMILY)],
        "rows": {name: dataset.table(name).to_pylist() for name in dataset.manifest.tables},
        "manifest": manifest,
        "deliveries": [
            (entry.delivery, entry.digest, entry.rows_in)
            for entry in Catalogue(engine).deliveries(FAMILY, dataset.manifest.source)
        ],
        "ledger": len(Ledger(engine).entries(FAMILY)),
    }


@pytest.fixture
def fused(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int | None, bool], Fuse]]:
    """Makes writes to the dataset tables and the database burn the fuse as well."""
    write_deltalake, insert = datasets_module.write_deltalake, catalogue_module.Catalogue._insert

    def arm(at: int | None, after: bool) -> Fuse:
        fuse = Fuse(at, after)
        monkeypatch.setattr(
            datasets_module, "write_deltalake", lambda *a, **k: fuse.write(lambda: write_deltalake(*a, **k))
        )
        monkeypatch.setattr(catalogue_module.Catalogue, "_insert", lambda *a, **k: fuse.write(lambda: insert(*a, **k)))
        return fuse

    yield arm
    monkeypatch.undo()


def attempt(settings: Settings, source: Path, fuse: Fuse) -> None:
    store = FusedStore(Path(settings.home) / "store", fuse)
    Pipeline(settings, source).run("r1", store=store)


@pytest.mark.slow
def test_killed_at_every_single_write(
    source: Deliveries, tmp_path: Path, fused: Callable[[int | None, bool], Fuse]
) -> None:
    whole = fused(None, False)
    attempt(settings_in(tmp_path / "reference"), source.folder, whole)
    expected = facts(settings_in(tmp_path / "reference"))
    assert whole.writes > 25
    for at in range(1, whole.writes + 1):
        settings = settings_in(tmp_path / f"{at}")
        with pytest.raises(Killed):
            attempt(settings, source.folder, fused(at, at % 2 == 0))
        attempt(settings, source.folder, fused(None, False))
        assert facts(settings) == expected, f"write {at} of {whole.writes}"


@pytest.mark.slow
def test_killed_again_and_again(source: Deliveries, tmp_path: Path, fused: Callable[[int | None, bool], Fuse]) -> None:
    reference, settings = settings_in(tmp_path / "reference"), settings_in(tmp_path / "killed")
    attempt(reference, source.folder, fused(None, False))
    dice = random.Random(11)
    for _ in range(25):
        try:
            attempt(settings, source.folder, fused(dice.randint(1, 12), dice.random() < 0.5))
        except Killed:
            continue
    attempt(settings, source.folder, fused(None, False))
    assert facts(settings) == facts(reference)


@pytest.mark.slow
def test_overlapping_runs_of_the_real_processes(source: Deliveries, tmp_path: Path) -> None:
    """One run of everything, one of the first week and one of the second, all at once."""
    reference = Pipeline(settings_in(tmp_path / "reference"), source.folder)
    reference.run()
    rivals = Pipeline(settings_in(tmp_path / "rivals"), source.folder)
    spans = {"all": (None, None), "w1": ("2026-10-06", "2026-10-13"), "w2": ("2026-10-13", "2026-10-20")}
    given: dict[str, dict[str, Any]] = {
        run: {"run": run, "source": rivals.source, "since": since, "until": until}
        for run, (since, until) in spans.items()
    }
    for step in ("ingest", "validate", "publish"):
        started = {run: rivals.start(step, inputs, run) for run, inputs in given.items()}
        for run, (process, document) in started.items():
            text, _ = process.communicate(timeout=300)
            assert process.returncode == 0, text
            outputs = json.loads(rivals.store.get(document.result_key))["outputs"]
            if step == "ingest":
                given[run] = {"deliveries": outputs["deliveries"]}
            else:
                given[run] = {"checked": outputs.get("checked"), "source": rivals.source}
    found, expected = facts(rivals.settings), facts(reference.settings)
    assert found["rows"] == expected["rows"]
    assert found["manifest"]["digest"] == expected["manifest"]["digest"]
    assert found["deliveries"] == expected["deliveries"]
    fingerprints = [fingerprint for _, fingerprint in found["versions"]]
    assert len(fingerprints) == len(set(fingerprints)) <= 2
    assert found["ledger"] == len(fingerprints)
