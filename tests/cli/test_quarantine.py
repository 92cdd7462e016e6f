"""quarantine list, show and release, as a person on call uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from include.settings import Settings
from include.spec import family_names
from tests.cli.conftest import FAMILY, Result
from tests.data.conftest import Deliveries, Pipeline, ask

Windtunnel = Callable[..., Result]
pytestmark = pytest.mark.skipif(FAMILY not in family_names(), reason="the family's spec")
DAY = "2026-10-12"


@pytest.fixture
def pipeline(settings: Settings, tmp_path: Path) -> Pipeline:
    source = Deliveries(tmp_path / "source")
    whole = [ask(number, f"AA-1.{number}") for number in range(1, 5)]
    source.add(DAY, {"AA": [f"Rule {n}." for n in range(5)]}, [*whole, ask(8, question="Ring 555-0142?"), b"{"])
    made = Pipeline(settings, source.folder)
    made.run()
    return made


def test_a_row_is_listed_shown_mended_released_and_admitted(
    windtunnel: Windtunnel, pipeline: Pipeline, tmp_path: Path
) -> None:
    (listed,) = windtunnel("quarantine", "list", FAMILY, "--json").json
    assert (listed["delivery"], listed["rows"], listed["released"]) == (DAY, 2, 0)
    shown = windtunnel("quarantine", "show", FAMILY, DAY).out
    assert "[phone]" in shown and "555-0142" not in shown
    path = tmp_path / "rows.jsonl"
    assert windtunnel("quarantine", "show", FAMILY, DAY, "--export", str(path)).code == 0
    first, second = (json.loads(line) for line in path.read_text().splitlines())
    first["values"]["question"] = "Whom do I ring?"
    path.write_text(f"{json.dumps(first)}\n{json.dumps(second)}\n")
    released = windtunnel(
        *("quarantine", "release", FAMILY, DAY, "--file", str(path), "--reason", "number removed", "--by", "Ada")
    )
    assert released.code == 0 and "1 rows released as delivery release-" in released.out
    assert windtunnel("quarantine", "list", FAMILY, "--json").json[0]["released"] == 1
    assert "rows_released" in windtunnel("ledger", FAMILY).out
    made = pipeline.run("r2")
    assert "Whom do I ring?" in pipeline.dataset(made["dataset_version"]).table("questions")["question"].to_pylist()


def test_a_waiver_is_given_by_the_name_of_the_reason(windtunnel: Windtunnel, pipeline: Pipeline) -> None:
    who = ("--reason", "no telephone number", "--by", "Ada", "--json")
    outcome = windtunnel("quarantine", "release", FAMILY, DAY, "--waive", "personal_data", *who).json
    assert (outcome["released"], outcome["new"]) == (1, True)
    again = windtunnel("quarantine", "release", FAMILY, DAY, "--waive", "personal_data", *who).json
    assert (again["name"], again["repeated"]) == (None, 1)


def test_a_release_without_a_ground_is_refused(windtunnel: Windtunnel, pipeline: Pipeline) -> None:
    result = windtunnel("quarantine", "release", FAMILY, DAY, "--reason", "w", "--by", "Ada")
    assert result.code == 2 and "--waive REASON" in result.err
    assert windtunnel("quarantine", "release", FAMILY, DAY, "--waive", "personal_data", "--by", "Ada").code == 2
    assert (
        windtunnel("quarantine", "release", FAMILY, DAY, "--waive", "duplicate", "--reason", "w", "--by", "A").code == 2
    )
