"""Which suite a delivery passed: its name, its number, and what its source was."""

from __future__ import annotations

import inspect

import pytest

from include.errors import UserError
from include.expectations import compliance_qa, suites, text_faults
from tests.data.conftest import make_spec


def test_a_suite_is_loaded_for_its_tables() -> None:
    assert suites.load_suite(make_spec()) is compliance_qa
    assert suites.suite_version(compliance_qa) == compliance_qa.VERSION
    assert "unknown_passage" in suites.binding_reasons(compliance_qa)


@pytest.mark.parametrize("changed", [compliance_qa, text_faults])
def test_another_source_of_the_suite_or_of_what_it_uses_is_another_digest(
    monkeypatch: pytest.MonkeyPatch, changed: object
) -> None:
    before, real = suites.suite_digest(compliance_qa), inspect.getsource
    assert suites.suite_digest(compliance_qa) == before
    monkeypatch.setattr(inspect, "getsource", lambda module: real(module) + ("#" if module is changed else ""))
    assert suites.suite_digest(compliance_qa) != before


def test_a_missing_suite_and_other_tables_are_told() -> None:
    table = {"rows": {"key": "id"}}
    with pytest.raises(UserError, match="there is no suite 'nothing'"):
        suites.load_suite(make_spec(data={"suite": "nothing", "tables": table}, split=_split()))
    with pytest.raises(UserError, match="the suite checks the tables"):
        suites.load_suite(make_spec(data={"suite": "compliance_qa", "tables": table}, split=_split()))


def _split() -> dict[str, object]:
    return {"table": "rows", "by": "id", "train": 0.7, "validation": 0.1, "test": 0.2}
