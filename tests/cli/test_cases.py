"""`windtunnel cases`, `card` and `audit`."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.cli import cases, proof
from include.evaluation import advisories
from include.settings import Settings
from include.store.objects import open_store
from tests.cli.conftest import FAMILY

Run = Callable[..., Any]
TRUTH = json.dumps({"citations": ["AML-3.2"]})
GIVEN = ("--inputs", '{"question": "who files late?"}', "--truth", TRUTH, "--metric", "hit_at_1")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cases.jsonl"
    monkeypatch.setattr(cases, "cases_file", lambda family: path)
    return path


def test_a_case_is_added_and_listed(windtunnel: Run, file: Path) -> None:
    assert windtunnel("cases", "list", FAMILY).out.startswith("no known cases")
    added = windtunnel("cases", "add", FAMILY, "late", *GIVEN, "--why", "cited the old rule")
    assert added.code == 0 and "review it and commit it" in added.out
    (case,) = windtunnel("cases", "list", FAMILY, "--json").json
    assert case["at_least"] == 1.0 and case["inputs"] == {"question": "who files late?"} and case["added_by"]
    assert "late" in windtunnel("cases", "list", FAMILY).out
    again = windtunnel("cases", "add", FAMILY, "late", *GIVEN)
    assert again.code == 2 and "already" in again.err


def log_row(settings: Settings, **row: Any) -> None:
    now = datetime.now(UTC)
    key = f"predictions/{FAMILY}/{now:%Y-%m-%d}/{now:%H%M%S.%f}-test-{len(row):06d}.jsonl"
    values = {"at": now.isoformat(), "family": FAMILY, **row}
    open_store(settings.store_url).put(key, json.dumps(values).encode() + b"\n")


def test_a_request_that_got_feedback_becomes_a_case(windtunnel: Run, file: Path, settings: Settings) -> None:
    log_row(settings, kind="prediction", request_id="r1", inputs={"question": "asked live"})
    missing = windtunnel("cases", "add", FAMILY, "live", "--request", "r1", "--metric", "hit_at_1")
    assert missing.code == 2 and "truth" in missing.err, "nobody said what was right"
    log_row(settings, kind="feedback", request_id="r1", truth={"citations": ["GEN-1.1"]}, labels={}, helpful=None)
    assert windtunnel("cases", "add", FAMILY, "live", "--request", "r1", "--metric", "hit_at_1").code == 0
    (case,) = windtunnel("cases", "list", FAMILY, "--json").json
    assert (case["inputs"], case["truth"]) == ({"question": "asked live"}, {"citations": ["GEN-1.1"]})
    assert "no request 'r2'" in windtunnel("cases", "add", FAMILY, "x", "--request", "r2", "--metric", "m").err


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "--inputs", "{", "--truth", TRUTH, "--metric", "m"),
        ("x", "--inputs", "[1]", "--truth", TRUTH, "--metric", "m"),
        ("x", "--metric", "m"),
        ("../x", *GIVEN),
        ("x", *GIVEN, "--at-least", "nan"),
    ],
)
def test_what_is_no_case_is_refused_and_nothing_is_written(windtunnel: Run, file: Path, arguments: Any) -> None:
    found = windtunnel("cases", "add", FAMILY, *arguments)
    assert found.code == 2 and "what to do" in found.err and not file.exists()


def test_cases_and_cards_of_what_does_not_serve_are_told(windtunnel: Run, settings: Settings, file: Path) -> None:
    assert "nothing of compliance_qa serves" in windtunnel("cases", "check", FAMILY).err
    assert "nothing of compliance_qa serves" in windtunnel("card", FAMILY).err


class TestAudit:
    RECORD = {
        "id": "GHSA-1", "summary": "reads too much",
        "affected": [{"package": {"ecosystem": "PyPI", "name": "Old_Thing"}, "ranges": [
            {"type": "ECOSYSTEM", "events": [{"introduced": "1.0"}, {"fixed": "1.5"}]}]}],
    }  # fmt: skip

    @pytest.fixture
    def pins(self, tmp_path: Path) -> Path:
        path = tmp_path / "constraints.txt"
        path.write_text("old-thing==1.4.2  # by hand\nnew.thing[extra]==2.0\n\n# end\n")
        return path

    def test_what_is_found_is_kept_for_the_evaluation(
        self, windtunnel: Run, settings: Settings, tmp_path: Path, pins: Path
    ) -> None:
        (tmp_path / "osv.json").write_text(json.dumps([self.RECORD]))
        found = windtunnel("audit", "--advisories", str(tmp_path / "osv.json"), "--constraints", str(pins))
        assert found.code == 3 and "GHSA-1" in found.out and "1.5" in found.out
        kept = advisories.last_audit(open_store(settings.store_url), pins)
        assert kept["status"] == "audited" and kept["vulnerable"][0]["package"] == "old-thing"
        pins.write_text("old-thing==1.5\n")
        assert advisories.last_audit(open_store(settings.store_url), pins)["status"] == "not audited"
        clean = windtunnel("audit", "--advisories", str(tmp_path / "osv.json"), "--constraints", str(pins), "--json")
        assert clean.code == 0 and clean.json["vulnerable"] == [] and clean.json["pins"] == 1

    def test_without_advisories_and_without_pip_audit_nothing_is_claimed(
        self, windtunnel: Run, settings: Settings, pins: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(proof.shutil, "which", lambda name: None)
        found = windtunnel("audit", "--constraints", str(pins))
        assert found.code == 2 and "not audited" in found.err
        assert not list(open_store(settings.store_url).keys("audits/"))

    def test_what_pip_audit_says_is_kept(
        self, windtunnel: Run, settings: Settings, pins: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = {"dependencies": [
            {"name": "old-thing", "version": "1.4.2", "vulns": [{"id": "PYSEC-1", "fix_versions": ["1.5"]}]},
            {"name": "new-thing", "skip_reason": "not found"},
        ]}  # fmt: skip
        program = tmp_path / "pip-audit"
        program.write_text(f"#!/bin/sh\ncat <<'END'\n{json.dumps(said)}\nEND\nexit 1\n")
        program.chmod(0o755)
        monkeypatch.setattr(proof.shutil, "which", lambda name: str(program))
        assert windtunnel("audit", "--constraints", str(pins), "--json").json["vulnerable"][0]["id"] == "PYSEC-1"
        program.write_text("#!/bin/sh\necho no network >&2\nexit 1\n")
        failed = windtunnel("audit", "--constraints", str(pins))
        assert failed.code == 1 and "not audited: no network" in failed.err
