"""`windtunnel data ingest`: the data steps without Airflow, and what became of every row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from include.cli.main import main
from include.settings import Settings
from include.store.objects import open_store

FAMILY = "compliance_qa"


def ingest(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, dict[str, Any]]:
    capsys.readouterr()
    status = main(["data", "ingest", FAMILY, "--json", *arguments])
    return status, json.loads(capsys.readouterr().out)


def adds_up(counts: dict[str, Any]) -> bool:
    return bool(counts["rows_in"] == counts["rows_clean"] + counts["rows_quarantined"] + counts["rows_duplicate"])


@pytest.mark.slow
def test_every_row_is_told_by_source_and_table(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    status, made = ingest(capsys)
    assert status == 0
    assert (made["rows_in"], made["rows_duplicate"]) == (1212, 10)
    assert made["rows_clean"] > 1_100
    assert {(entry["source"], entry["table"]) for entry in made["tables"]} == {
        ("sample", "passages"),
        ("sample", "questions"),
    }
    assert all(adds_up(entry) for entry in [made, *made["tables"]])
    assert (made["dataset_version"], made["new"]) == ("1.0.0", True)
    assert made["watermarks"] == {"sample": "2026-11-02"}
    status, again = ingest(capsys)
    assert (status, again["dataset_version"], again["new"]) == (0, "1.0.0", False)


def test_an_interval_for_people(settings: Settings, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "ingest", FAMILY, "--source", "sample", "--interval", "2026-10-12", "2026-10-13"]) == 0
    shown = capsys.readouterr()
    assert "rows_duplicate" in shown.out
    assert "dataset compliance_qa 1.0.0 (new)" in shown.out
    assert "ingested delivery sample.2026-10-12" in shown.err
    assert "2026-10-19" not in shown.err


def test_a_run_that_the_gate_stops_tells_its_rows_too(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day = tmp_path / "feed" / "2026-10-12"
    day.mkdir(parents=True)
    questions = [{"question_id": f"q{n}", "question": "Which?", "answer": "", "citations": ["X:1"]} for n in range(5)]
    (day / "questions.jsonl").write_text("\n".join(json.dumps(question) for question in questions))
    status, made = ingest(capsys, "--source", str(tmp_path / "feed"))
    assert (status, made["ok"]) == (2, False)
    assert "too few valid rows" in made["error"]["message"]
    assert (made["rows_in"], made["rows_quarantined"]) == (5, 5)
    assert not [key for key in open_store(settings.store_url).keys("datasets/") if "manifest" in key]


def test_a_source_that_is_not_there(settings: Settings, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, made = ingest(capsys, "--source", str(tmp_path / "none"))
    assert (status, made["ok"], made["rows_in"]) == (2, False, 0)
    assert "does not exist" in made["error"]["message"]


@pytest.mark.parametrize("interval", [("2026-10-13", "2026-10-12"), ("soon", "later")])
def test_what_is_no_interval_is_refused(
    settings: Settings, capsys: pytest.CaptureFixture[str], interval: tuple[str, str]
) -> None:
    assert main(["data", "ingest", FAMILY, "--interval", *interval]) == 2
    assert "what to do" in capsys.readouterr().err


def test_a_family_that_is_only_data_is_ingested_whatever_the_installations_profile(
    settings: Settings, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WINDTUNNEL_PROFILE", "demo")  # which the family does not have
    names = ["id", "title", "Summary2", "newkeys", "cause", "Tagged2"]
    text = "On May 3 2012 Employee #1 fell 20 ft from a scaffold and broke his arm."
    rows = [names, ["200361855", "Fall", text, "fall", "[]", "falls"], ["200361856", "Fall", text, "fall", "", "fell"]]
    (tmp_path / "tagged.csv").write_text("\n".join(",".join(row) for row in rows))
    (tmp_path / "incidents.csv").write_text(
        "id,title,SUMMARY,industry,diagnosis,occupation,1st occupation,fall dist,cause,fatcause\n"
        f'200361855,Fall,{text},1542,",Fracture",",Roofers",Roofers,20,Roofing,Fall from roof\n'
    )
    arguments = ["data", "ingest", "risk_classification", "--source", str(tmp_path), "--json"]
    assert main(arguments) == 2
    made = json.loads(capsys.readouterr().out)
    assert not made["ok"]
    assert "unknown_label" in json.dumps(made)
    assert [
        (entry["table"], entry["rows_in"], entry["rows_clean"]) for entry in made["tables"] if entry["rows_in"]
    ] == [
        ("incidents", 1, 1),
        ("labels", 2, 1),
    ]
