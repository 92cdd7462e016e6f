"""Public data sets, from their files to a dataset version: how many rows come in, and what becomes of each.

The figures are those of the sets as they are published; a change of a suite that changes one of them is a decision.
"""

from __future__ import annotations

import json

import pytest

from include.data.checks import load_check
from include.data.quarantine import list_quarantine, quarantined_rows
from include.families.risk_classification.schema import HINDSIGHT
from include.settings import PROJECT_ROOT, Settings
from include.spec import load_any_family

from .conftest import Pipeline

SHARED = PROJECT_ROOT.parent / "shared" / "data"
pytestmark = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the public data sets are not at {SHARED}")


def declared(settings: Settings, family: str, folder: str) -> Pipeline:
    """A pipeline over the family's own sources, which lie in `folder` of the shared data."""
    spec = load_any_family(family)
    place = {"url": str(SHARED / folder)}
    sources = {name: source.model_copy(update=place) for name, source in spec.data.sources.items()}
    return Pipeline(settings, None, spec.model_copy(update={"data": spec.data.model_copy(update={"sources": sources})}))


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
    """Every answer stands where the file says that it does; some quote an address or telephone number.

    Which pairs are left to people is for the judge of pairs, the same on one machine and perhaps not on another kind: a
    few dozen, mostly spans that cut a word in two.
    """
    pipeline = Pipeline(settings, SHARED / "compliance_qa" / "policyqa", load_any_family("compliance_qa"))
    made = pipeline.run()
    reasons = dict(made["reasons"])
    judged = reasons.pop("needs_review", 0) + reasons.pop("unsound_answer", 0)
    assert reasons == {"duplicate": 3, "personal_data": 15}
    assert (made["rows_in"], made["rows_duplicate"]) == (4_383, 3)
    assert made["rows_quarantined"] == 15 + judged
    assert made["rows_clean"] == 4_365 - judged
    assert judged < 100


def test_credit_card_clients(settings: Settings) -> None:
    """306 clients have a code that the documentation does not know, 23 are the same as another but for their number."""
    pipeline = declared(settings, "market_prediction", "market_prediction/credit_default")
    made = pipeline.run()
    assert (made["rows_in"], made["rows_clean"]) == (24_000, 23_671)
    assert (made["rows_quarantined"], made["rows_duplicate"]) == (306, 23)
    assert made["reasons"] == {"duplicate": 23, "unknown_education_code": 262, "unknown_marriage_code": 44}
    assert warnings_of(pipeline, made["dataset_version"]) == {
        "delay_skips_a_month": 4_764,
        "late_without_a_bill": 493,
        "bills_do_not_add_up": 362,
        "bill_far_above_limit": 49,
        "credit_beyond_limit": 4,
        "odd_credit_limit": 3,
    }
    rows = pipeline.dataset(made["dataset_version"]).table("clients").select(["split", "defaults"])
    shares = {
        split: sum(part) / len(part)
        for split in ("train", "validation", "test")
        if (part := [row["defaults"] for row in rows.to_pylist() if row["split"] == split])
    }
    assert max(shares.values()) - min(shares.values()) < 0.001, shares


def test_bicycle_rentals(settings: Settings) -> None:
    """On 2011-03-10 the humidity reads 0 for 22 hours, on 2012-08-17 the felt temperature stands still all day."""
    pipeline = declared(settings, "demand_forecasting", "drift/bike_sharing")
    made = pipeline.run()
    assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"]) == (17_379, 17_333, 46)
    assert made["reasons"] == {"feels_like_disagrees": 24, "humidity_reads_zero": 22}
    (entry,) = list_quarantine(pipeline.store, "demand_forecasting")
    days = {json.loads(row.values)["day"]: row.reasons for row in quarantined_rows(pipeline.store, entry.key)}
    assert days == {"3/10/11": ["humidity_reads_zero"], "8/17/12": ["feels_like_disagrees"]}
    assert warnings_of(pipeline, made["dataset_version"]) == {"hour_before_is_missing": 75}


def test_accident_reports(settings: Settings) -> None:
    """8 reports are dated in the years 2102 to 3013; 3 of the labels go with them."""
    pipeline = declared(settings, "risk_classification", "risk_classification/osha")
    made = pipeline.run()
    assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"]) == (5_220, 5_209, 11)
    assert made["reasons"] == {"impossible_date": 11, "unknown_incident": 3}
    assert warnings_of(pipeline, made["dataset_version"]) == {
        "fall_height_disagrees": 138,
        "label_against_cause": 36,
        "summary_cut_off": 4,
    }
    labels = pipeline.dataset(made["dataset_version"]).table("labels")
    assert len(set(labels.column("label").to_pylist())) == 11
    assert labels.schema.field("fatal_cause").metadata == HINDSIGHT
