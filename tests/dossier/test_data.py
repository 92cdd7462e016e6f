"""The data side of a dossier, on a dataset that the data steps really published."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.data.datasets import list_versions, read_manifest
from include.data.recalls import lift_recalls, make_recall, record_recall
from tests.data.conftest import Pipeline, fill_source, make_spec
from tests.dossier.conftest import read
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel


@pytest.fixture
def version(tunnel: Tunnel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A registered model of a published dataset with faults in its deliveries."""
    published = Pipeline(tunnel.settings, fill_source(tmp_path / "source").folder, make_spec(family=FAMILY)).run()
    plain = tunnel.arguments
    monkeypatch.setattr(tunnel, "arguments", lambda *a, **k: {**plain(*a, **k), "dataset": published})
    made: str = tunnel.register()["model_version"]
    return made


def test_data_from_the_source_to_the_model_and_what_is_wrong_with_it(tunnel: Tunnel, version: str) -> None:
    found = read(tunnel, version)
    data = found["data"]
    assert data["manifest"]["state"] == "whole" and not any("manifest" in said for said in found["problems"])
    assert [one["check"]["state"] for one in data["deliveries"]] == ["whole", "whole"]
    totals = data["totals"]
    assert totals["rows_in"] == totals["rows_clean"] + totals["rows_quarantined"] + totals["rows_duplicate"] == 38
    assert totals["reasons"]["empty_answer"] == 1
    assert data["rows"]["questions"]["splits"].keys() >= {"train", "test"}
    assert data["deliveries"][0]["suite_digest"] and data["deliveries"][0]["valid_rate"]["passages"] == 1.0
    (source,) = data["sources"].values()
    assert source["deliveries"] == 2
    assert found["lineage"]["up"]["deliveries"] == 2

    check = data["deliveries"][0]["check"]["key"]
    kept = tunnel.store.get(check)
    tunnel.store.put(check, kept.replace(b'"passages"', b'"passages" ', 1))  # the same content, written otherwise
    assert read(tunnel, version)["data"]["deliveries"][0]["check"]["state"] == "whole"
    record = json.loads(kept)
    record["tables"]["questions"]["rows_clean"] += 1
    tunnel.store.put(check, json.dumps(record).encode())
    assert any("check of delivery 2026-10-12 was altered" in said for said in read(tunnel, version)["problems"])
    tunnel.store.delete(check)
    assert any("check of delivery 2026-10-12 is gone" in said for said in read(tunnel, version)["problems"])

    manifest = data["manifest"]["key"]
    kept = tunnel.store.get(manifest)
    tunnel.store.put(manifest, kept.replace(b"empty_answer", b"fully_sound"))  # no row's digest tells of this
    altered = read(tunnel, version)
    assert altered["data"]["manifest"]["state"] == "altered" and altered["data"]["deliveries"] == []
    tunnel.store.delete(manifest)
    gone = read(tunnel, version)
    assert "the dataset manifest is gone from the object store" in gone["problems"]
    assert gone["data"]["digest"] == data["digest"]


def test_a_manifest_without_a_recorded_digest_is_held_against_that_of_its_rows(
    tunnel: Tunnel, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tunnel.arguments

    def older(*given: object, **named: object) -> dict[str, Any]:
        arguments = plain(*given, **named)  # type: ignore[arg-type]
        dataset = {name: value for name, value in arguments["dataset"].items() if name != "manifest_key"}
        return {**arguments, "dataset": dataset}

    monkeypatch.setattr(tunnel, "arguments", older)
    before = tunnel.register(run="older")["model_version"]
    data = read(tunnel, before)["data"]
    assert data["manifest"]["state"] == "whole"
    record = json.loads(tunnel.store.get(data["manifest"]["key"]))
    record["tables"]["questions"]["digest"] = "0" * 64
    tunnel.store.put(data["manifest"]["key"], json.dumps(record).encode())
    assert read(tunnel, before)["data"]["manifest"]["state"] == "altered"


def test_a_recall_of_its_data_comes_first_until_it_is_lifted(tunnel: Tunnel, version: str) -> None:
    (entry,) = list_versions(tunnel.settings, FAMILY)
    manifest = read_manifest(tunnel.store, entry)
    recall = make_recall(tunnel.store, manifest, None, delivery="2026-10-12", row=None, reason="wrong rules")
    record_recall(tunnel.ledger, FAMILY, recall, actor="eve", at=tunnel.now)
    found = read(tunnel, version)
    assert (
        found["problems"][0].startswith("recalled data: delivery 2026-10-12") and "wrong rules" in found["problems"][0]
    )
    assert found["data"]["recalls"][0]["active"] is True
    lift_recalls(
        tunnel.ledger, FAMILY, "1.0.0", delivery=None, row=None, reason="they were right", actor="eve", at=tunnel.now
    )
    lifted = read(tunnel, version)
    assert lifted["data"]["recalls"][0]["active"] is False
    assert not any("recalled" in said for said in lifted["problems"])
