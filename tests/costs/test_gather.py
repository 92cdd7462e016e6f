"""What a run paid and what a model took, from what steps leave; and the command that shows it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from include.costs.gather import behind_model, paid, run_costs, runs_of
from include.errors import UserError
from include.failures.classify import Evidence
from include.failures.records import record_failure
from include.settings import Settings
from include.spec import FamilySpec, load_family
from include.steps.document import RunDocument, make_document
from include.steps.entry import StepContext, run_step
from include.store.objects import ObjectStore, open_store
from tests.cli.conftest import Result, windtunnel  # noqa: F401 - a fixture

AT = datetime(2026, 11, 2, 9, 0, tzinfo=UTC)
PRICES = {"currency": "CHF", "cpu_hour": 3600.0, "gib_hour": 0.0}  # one franc for a second of a core
RUN, LATER = "train__compliance_qa/manual__2026-11-02", "train__compliance_qa/scheduled__2026-11-09"


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings.store_url)


def _spec(prices: dict[str, Any]) -> FamilySpec:
    values = load_family("compliance_qa").model_dump(mode="json")
    return FamilySpec.model_validate({**values, "resources": {**values["resources"], "prices": prices}})


def _document(store: ObjectStore, step: str, run: str = RUN, **prices: Any) -> RunDocument:
    document = make_document(
        step, run, _spec(PRICES | prices), {"n": 1}, spec_parts=(), code_version="c", created_at=AT
    )
    store.put(document.document_key, document.model_dump_json().encode())
    return document


def _killed(store: ObjectStore, document: RunDocument, attempt: str, cpu: float) -> None:
    usage = {"seconds": 10.0, "cpu_seconds": cpu, "peak_bytes": 2**20}
    record_failure(store, document, attempt, Evidence(exit_code=137), at=AT, usage=usage)


def _finish(settings: Settings, store: ObjectStore, document: RunDocument) -> None:
    assert run_step(StepContext(document, store, settings), lambda context: {"work_lost": {"steps": 3}}) == 0


def test_a_result_tells_what_all_tries_cost(settings: Settings, store: ObjectStore) -> None:
    document = _document(store, "fit")
    _killed(store, document, "a", 100.0)
    _killed(store, document, "b", 50.0)
    _finish(settings, store, document)
    (cost,) = run_costs(store, RUN)
    assert cost.done and not cost.reused and cost.work_lost == 3
    assert cost.record is not None and cost.record["tries"] == 3 and cost.record["seconds"] >= 20
    assert cost.record["money"] >= 150 and cost.record["currency"] == "CHF"


def test_a_step_that_never_finished_cost_what_its_tries_did(store: ObjectStore) -> None:
    _killed(store, _document(store, "fit"), "a", 100.0)
    assert paid(run_costs(store, RUN))["money"] == pytest.approx(100)
    assert paid(run_costs(store, RUN))["tries"] == 1


def test_reused_work_was_paid_by_another_run_and_belongs_to_the_model(settings: Settings, store: ObjectStore) -> None:
    document = _document(store, "fit")
    _killed(store, document, "a", 100.0)
    _finish(settings, store, document)
    _document(store, "fit", LATER)  # the same work
    assert [cost.reused for cost in run_costs(store, LATER)] == [True]
    assert paid(run_costs(store, LATER))["tries"] == 0
    model = behind_model(store, LATER)
    assert model["money"] >= 100 and model["by_step"]["fit"] == model["money"]


def test_without_prices_nothing_is_free(settings: Settings, store: ObjectStore) -> None:
    _finish(settings, store, _document(store, "fit", cpu_hour=0.0))
    assert paid(run_costs(store, RUN))["money"] is None
    _killed(store, _document(store, "ingest"), "a", 1.0)
    assert paid(run_costs(store, RUN))["money"] is None
    assert behind_model(store, RUN)["by_step"] == {"fit": None, "ingest": 1.0}


def test_the_command_shows_the_newest_run_first(
    settings: Settings,
    store: ObjectStore,
    windtunnel: Callable[..., Result],  # noqa: F811
) -> None:
    assert "has no run yet" in windtunnel("cost", "compliance_qa").out
    _killed(store, _document(store, "fit"), "a", 1.5)
    _killed(store, _document(store, "ingest", LATER), "b", 2.0)
    assert runs_of(store, "compliance_qa") == [RUN, LATER]
    shown = windtunnel("cost", "compliance_qa")
    assert shown.code == 0 and "1.50 CHF" in shown.out and "2.00 CHF" in shown.out
    found = windtunnel("cost", "compliance_qa", "--json", "--limit", "1").json
    assert [run["run"] for run in found["runs"]] == [LATER]
    assert found["runs"][0]["cost"]["money"] == pytest.approx(2.0) and found["models"] == []


def test_a_failed_step_leaves_no_result(settings: Settings, store: ObjectStore) -> None:
    def fail(context: StepContext) -> dict[str, Any]:
        raise UserError("no")

    document = _document(store, "fit")
    assert run_step(StepContext(document, store, settings), fail) == 2
    assert not run_costs(store, RUN)[0].done
