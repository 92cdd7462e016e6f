"""Public data sets, from their files to a dataset version: how many rows come in, and what becomes of each.

The figures are those of the sets as they are published; a change of a suite that changes one of them is a decision.
"""

from __future__ import annotations

import pytest

from include.data.checks import load_check
from include.settings import PROJECT_ROOT, Settings
from include.spec import load_any_family

from .conftest import Pipeline

SHARED = PROJECT_ROOT.parent / "shared" / "data"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public data sets are not at {SHARED}"),
]


def warnings_of(pipeline: Pipeline, version: str) -> dict[str, int]:
    """Warning -> rows that it is about."""
    found: dict[str, int] = {}
    for delivery in pipeline.dataset(version).manifest.deliveries:
        check = load_check(pipeline.store, delivery.check_key.removesuffix("/check.json"))
        assert check is not None
        for table in check.tables.values():
            found |= {count.reason: count.failed for count in table.expectations if count.warns and count.failed}
    return found


def test_obliqa(settings: Settings) -> None:
    """720 passages are empty. 27 repeat an id of their document with another text: they get a number, and stay."""
    pipeline = Pipeline(settings, SHARED / "compliance_qa" / "obliqa", load_any_family("compliance_qa"))
    made = pipeline.run()
    assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"]) == (16_520, 15_800, 720)
    assert made["reasons"] == {"empty_passage": 720}
    assert warnings_of(pipeline, made["dataset_version"]) == {"repeated_passage_id": 27}
    dataset = pipeline.dataset(made["dataset_version"])
    known = set(dataset.table("passages").column("passage_key").to_pylist())
    cited = {key for keys in dataset.table("questions").column("citations").to_pylist() for key in keys}
    assert len(known) == 13_012
    assert sum("#" in key for key in known) == 24, "3 of the 27 are empty"
    assert sum("#" in key for key in cited) == 3, "questions cite passages whose id was used before"
    assert cited <= known
    assert sum(dataset.manifest.tables["questions"].splits.values()) == 2_788


def test_policyqa(settings: Settings) -> None:
    """Every answer stands where the file says that it does; some quote an address or telephone number."""
    pipeline = Pipeline(settings, SHARED / "compliance_qa" / "policyqa", load_any_family("compliance_qa"))
    made = pipeline.run()
    assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"]) == (4_383, 4_365, 18)
    assert made["reasons"] == {"duplicate": 3, "personal_data": 15}
