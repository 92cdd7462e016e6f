"""The suite of risk_classification: reports by the code book, and labels that a person should look at again."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from include.data.rows import key_marks
from include.expectations.known import Known
from tests.expectations.conftest import Check

TEXT = "On May 3 2012 Employee #1 fell 20 ft from a scaffold and broke his arm."
INCIDENT: dict[str, Any] = {
    "incident_id": "200361855", "title": "Employee falls", "summary": TEXT, "industry": "1542", "injuries": ",Fracture",
    "occupations": ",Roofers", "first_occupation": "Roofers", "fall_feet": 20, "activity": "Roofing",
    "fatal_cause": "Fall from roof",
}  # fmt: skip
LABEL: dict[str, Any] = {
    "incident_id": "200361855", "title": "Employee falls", "summary": TEXT, "keywords": "fall",
    "fatal_cause": "Fall from roof", "label": "falls",
}  # fmt: skip


@pytest.fixture
def known() -> Known:
    made = Known()
    made.add("incidents", key_marks(pa.array(["200361855"])), key_marks(pa.array(["content"])))
    return made


def test_good_rows_pass(check: Check, known: Known) -> None:
    nothing = {"injuries": None, "occupations": None, "fall_feet": None, "activity": None, "fatal_cause": None}
    assert check("risk_classification", "incidents", [INCIDENT, INCIDENT | nothing]) == ([[], []], {})
    assert check("risk_classification", "labels", [LABEL, LABEL | {"fatal_cause": None}], known) == ([[], []], {})


IMPOSSIBLE_REPORTS: list[tuple[dict[str, Any], str]] = [
    ({"incident_id": "20036185x"}, "wrong_key"),
    ({"title": " "}, "empty_title"),
    ({"summary": "  " * 30}, "empty_summary"),
    ({"summary": "He fell 20 ft."}, "summary_too_short_or_long"),
    ({"summary": TEXT.replace("2012", "2912")}, "impossible_date"),
    ({"summary": TEXT.replace("May 3 2012", "MAY 3rd, 1960")}, "impossible_date"),
    ({"fatal_cause": "Fell"}, "unknown_fatal_cause"),
    ({"summary": f"{TEXT} lost \ufffd"}, "wrong_encoding"),
    ({"industry": "2011"}, "unknown_industry_code"),
    ({"injuries": ",Fracture,Broken arm"}, "unknown_injury"),
    ({"activity": "Cooking"}, "unknown_activity"),
    ({"fall_feet": 0}, "impossible_fall"),
    ({"fall_feet": 3_000, "summary": TEXT.replace("20 ft", "3 000 ft")}, "impossible_fall"),
]
IMPOSSIBLE_LABELS: list[tuple[dict[str, Any], str]] = [
    ({"label": "Falls"}, "unknown_label"),
    ({"incident_id": "200361856"}, "unknown_incident"),
    ({"summary": TEXT.replace("2012", "3012")}, "impossible_date"),
]
HEIGHTS: list[tuple[dict[str, Any], bool]] = [
    ({"fall_feet": 21}, True),  # heights are rounded
    ({"fall_feet": 12}, False),
    ({"fall_feet": 12, "summary": TEXT.replace("20 ft", "twelve feet, not 20 ft,")}, True),
    ({"fall_feet": 1_200, "summary": TEXT.replace("20 ft", "1 200 ft")}, True),
    ({"fall_feet": 12, "summary": TEXT.replace("20 ft", "far")}, True),  # the narrative tells no height
]


def test_a_report_that_cannot_be_goes_to_quarantine(check: Check) -> None:
    reasons, _ = check("risk_classification", "incidents", [INCIDENT | change for change, _ in IMPOSSIBLE_REPORTS])
    assert reasons == [[reason] for _, reason in IMPOSSIBLE_REPORTS]


def test_a_label_that_cannot_be_goes_to_quarantine(check: Check, known: Known) -> None:
    reasons, _ = check("risk_classification", "labels", [LABEL | change for change, _ in IMPOSSIBLE_LABELS], known)
    assert reasons == [[reason] for _, reason in IMPOSSIBLE_LABELS]


def test_the_height_of_a_fall_is_looked_for_in_the_narrative(check: Check) -> None:
    from include.expectations.risk_classification import disagreeing_height

    assert [disagreeing_height(INCIDENT | change) is None for change, _ in HEIGHTS] == [agrees for _, agrees in HEIGHTS]
    rows = [INCIDENT | change for change, _ in HEIGHTS]
    assert check("risk_classification", "incidents", rows) == ([[]] * len(rows), {"fall_height_disagrees": 1})


def test_a_class_that_does_not_go_with_the_cause_is_a_warning(check: Check, known: Known) -> None:
    rows = [
        LABEL | {"label": "electrocution"},
        LABEL | {"label": "collapse of object"},
        LABEL | {"label": "traffic", "fatal_cause": "Crushed/run"},
        LABEL | {"label": "falls", "fatal_cause": "Drown"},
    ]
    assert check("risk_classification", "labels", rows, known) == ([[]] * 4, {"label_against_cause": 1})


def test_a_narrative_that_was_cut_off_is_a_warning(check: Check) -> None:
    assert check("risk_classification", "incidents", [INCIDENT | {"summary": TEXT.ljust(3_999, "x")}]) == (
        [[]],
        {"summary_cut_off": 1},
    )


def test_the_fields_that_tell_the_answer_are_marked() -> None:
    from include.families.risk_classification.schema import HINDSIGHT, SCHEMAS

    marked = {
        table: [field.name for field in schema if field.metadata == HINDSIGHT] for table, schema in SCHEMAS.items()
    }
    assert marked == {"incidents": ["activity", "fatal_cause"], "labels": ["fatal_cause"]}
