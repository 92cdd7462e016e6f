"""validate: every family in every profile, with file, line and field of what is wrong."""

from __future__ import annotations

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from include.cli import specs
from include.cli.output import Output
from include.spec import all_family_names, family_names, load
from tests.cli.conftest import FAMILY, Result

Windtunnel = Callable[..., Result]


def test_the_projects_own_specs_are_sound(windtunnel: Windtunnel) -> None:
    result = windtunnel("validate", "--json")
    assert result.code == 0, result.out
    assert result.json["ok"]
    assert {record["name"] for record in result.json["checked"]} == {*all_family_names(), "airflow_settings.yaml"}


def test_an_unknown_family_is_wrong(windtunnel: Windtunnel) -> None:
    result = windtunnel("validate", "no_such_family")
    assert result.code == 2
    assert "no_such_family" in result.out


@pytest.mark.skipif(FAMILY not in family_names(), reason="the family's spec")
def test_a_wrong_key_is_told_with_file_and_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / FAMILY
    folder.mkdir()
    shutil.copy(load.FAMILIES / FAMILY / "family.yaml", folder)
    with (folder / "family.yaml").open("a") as file:
        file.write("\ncolour: red\n")
    lines = (folder / "family.yaml").read_text().splitlines()
    monkeypatch.setattr(specs, "family_folder", lambda name: folder)
    monkeypatch.setattr(specs, "load_any_family", lambda name, profile: load.load_any_family(name, profile, tmp_path))
    arguments = argparse.Namespace(families=[FAMILY])
    assert specs.validate(arguments, Output(as_json=True)) == 2
    (record,) = json.loads(capsys.readouterr().out)["checked"]
    assert record["problems"] == [{"line": len(lines), "field": "colour", "message": "unknown key"}]
    assert f"family.yaml:{len(lines)}" in record["error"]
