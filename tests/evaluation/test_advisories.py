"""Pins held against OSV records, by the schema's own rules."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

from include.errors import WindtunnelError
from include.evaluation.advisories import find_vulnerable, read_pins, read_pip_audit


def record(*events: dict[str, str], name: str = "thing", **changes: Any) -> dict[str, Any]:
    ranges = [{"type": "ECOSYSTEM", "events": list(events)}] if events else []
    affected = {"package": {"ecosystem": "PyPI", "name": name}, "ranges": ranges, **changes.pop("affected", {})}
    return {"id": "PYSEC-1", "affected": [affected], **changes}


def hits(version: str, *records: Any, folder: Path) -> bool:
    path = folder / "osv.jsonl"
    path.write_text("\n".join(json.dumps(each) for each in records))
    return bool(find_vulnerable({"thing": version}, path))


@pytest.mark.parametrize(
    ("version", "events", "expected"),
    [
        ("1.4", [{"introduced": "0"}, {"fixed": "1.5"}], True),
        ("1.5", [{"introduced": "0"}, {"fixed": "1.5"}], False),
        ("1.5rc1", [{"introduced": "0"}, {"fixed": "1.5"}], True),
        ("1.10", [{"introduced": "1.9"}, {"fixed": "1.11"}], True),
        ("0.9", [{"introduced": "1.0"}], False),
        ("9", [{"introduced": "1.0"}], True),
        ("2.0", [{"introduced": "1.0"}, {"last_affected": "2.0"}], True),
        ("2.0.1", [{"introduced": "1.0"}, {"last_affected": "2.0"}], False),
        ("2.5", [{"introduced": "0"}, {"fixed": "1.5"}, {"introduced": "2.0"}, {"fixed": "3.0"}], True),
        ("1.7", [{"fixed": "3.0"}, {"introduced": "2.0"}, {"fixed": "1.5"}, {"introduced": "0"}], False),
    ],
)
def test_ranges(version: str, events: list[dict[str, str]], expected: bool, tmp_path: Path) -> None:
    assert hits(version, record(*events), folder=tmp_path) is expected


def test_listed_versions_other_ecosystems_and_withdrawn_records(tmp_path: Path) -> None:
    listed = record(affected={"versions": ["1.4"]})
    assert hits("1.4", listed, folder=tmp_path) and not hits("1.4.1", listed, folder=tmp_path)
    assert not hits("1.4", {**listed, "withdrawn": "2026-01-01"}, folder=tmp_path)
    npm = json.loads(json.dumps(listed).replace("PyPI", "npm"))
    with pytest.raises(WindtunnelError, match="no advisory for PyPI"):
        hits("1.4", npm, folder=tmp_path)
    assert hits("1.4", npm, {**listed, "id": "PYSEC-2"}, folder=tmp_path)
    assert hits("1.0", record({"introduced": "0"}, name="Th.ing").copy() | {}, folder=tmp_path) is False


def test_a_folder_and_an_archive_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "osv"
    folder.mkdir()
    (folder / "a.json").write_text(json.dumps(record({"introduced": "0"})))
    assert len(find_vulnerable({"thing": "1"}, folder)) == 1
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        archive.write(folder / "a.json", "a.json")
    assert len(find_vulnerable({"thing": "1"}, tmp_path / "all.zip")) == 1


@pytest.mark.parametrize(
    "text",
    ["{", "[" * 90_000, "[1]", '[{"id": 3}]', '{"id": "x", "affected": 3}', '{"id": "x", "affected": [3]}', "[]",
     json.dumps(record({"introduced": "not a version"})),
     json.dumps(record(affected={"ranges": [{"type": "ECOSYSTEM"}]})),
     json.dumps(record(affected={"ranges": 7})), json.dumps(record(affected={"versions": 7}))],
)  # fmt: skip
def test_what_is_no_record_is_told_and_never_passed_over(text: str, tmp_path: Path) -> None:
    path = tmp_path / "osv.json"
    path.write_text(text)
    with pytest.raises(WindtunnelError):
        find_vulnerable({"thing": "1"}, path)


def test_pins_must_pin(tmp_path: Path) -> None:
    path = tmp_path / "c.txt"
    path.write_text("a_B.c==1.0 ; python_version > '3'\n--index-url x\n")
    assert read_pins(path) == {"a-b-c": "1.0"}
    path.write_text("a==1\nb>=2\n")
    with pytest.raises(WindtunnelError, match="pins no version") as caught:
        read_pins(path)
    assert caught.value.where.endswith(":2")
    with pytest.raises(WindtunnelError, match="cannot be read"):
        read_pins(tmp_path / "none.txt")


@pytest.mark.parametrize("text", ["", "[]", '{"dependencies": 3}', '{"dependencies": [{"vulns": [{}]}]}'])
def test_an_answer_of_pip_audit_that_is_none_is_told(text: str) -> None:
    with pytest.raises(WindtunnelError, match="not understood"):
        read_pip_audit(text)
