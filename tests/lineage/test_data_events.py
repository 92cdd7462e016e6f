"""The data steps as a lineage catalogue sees them: from the source to the version, with schema, quality and columns."""

from __future__ import annotations

import json
from typing import Any

import pytest

from include.steps.entry import EXIT_FINAL, EXIT_OK, StepContext, run_step
from tests.data.conftest import FAMILY, STEPS, Deliveries, Pipeline, ask
from tests.data.conftest import pipeline as pipeline
from tests.data.conftest import source as source


def run(pipeline: Pipeline, step: str, inputs: dict[str, Any], status: int = EXIT_OK) -> dict[str, Any]:
    """Outputs of a step that ran under the contract of step processes."""
    document = pipeline.document(step, inputs)
    assert run_step(StepContext(document, pipeline.store, pipeline.settings), STEPS[step][0]) == status
    if status != EXIT_OK:
        return {}
    outputs: dict[str, Any] = json.loads(pipeline.store.get(document.result_key))["outputs"]
    return outputs


def told(pipeline: Pipeline, step: str, state: str) -> dict[str, Any]:
    keys = [key for key in pipeline.store.keys(f"lineage/{FAMILY}/") if f"{FAMILY}.{step}-{state}-" in key]
    event: dict[str, Any] = json.loads(pipeline.store.get(keys[-1]))
    return event


def published(pipeline: Pipeline) -> dict[str, Any]:
    given = {"run": "r1", "source": pipeline.source, "since": None, "until": None}
    ingested = run(pipeline, "ingest", given)
    validated = run(pipeline, "validate", {"deliveries": ingested["deliveries"]})
    return run(pipeline, "publish", {"checked": validated["checked"], "source": pipeline.source})


def names(datasets: list[dict[str, Any]]) -> list[str]:
    return [dataset["name"].replace(f"{FAMILY}/", "") for dataset in datasets]


class TestDataSteps:
    @pytest.fixture(autouse=True)
    def _publish(self, pipeline: Pipeline) -> None:
        self.outputs = published(pipeline)

    def test_ingest_leads_from_the_source_to_raw_batches(self, pipeline: Pipeline) -> None:
        event = told(pipeline, "ingest", "COMPLETE")
        [read], [made] = names(event["inputs"]), names(event["outputs"])
        assert read.startswith("source/source-") and made == read.replace("source/", "raw/", 1)
        assert event["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 38
        assert names(told(pipeline, "ingest", "START")["inputs"]) == [read]

    def test_validate_tells_how_every_expectation_went(self, pipeline: Pipeline) -> None:
        event = told(pipeline, "validate", "COMPLETE")
        assert sorted(names(event["outputs"])) == ["clean/passages", "clean/questions", "quarantine"]
        assertions = event["inputs"][0]["inputFacets"]["dataQualityAssertions"]["assertions"]
        by_name = {found["name"]: found for found in assertions}
        assert by_name["questions.unknown_passage"]["success"] is False
        assert by_name["questions.unknown_passage"]["actual"].startswith("1 of ")
        assert by_name["passages.empty_passage"]["success"] is True

    def test_publish_tells_schema_version_rows_and_columns(self, pipeline: Pipeline) -> None:
        event = told(pipeline, "publish", "COMPLETE")
        made = {dataset["name"]: dataset for dataset in event["outputs"]}
        questions = made[f"{FAMILY}/data/questions"]
        assert questions["facets"]["version"]["datasetVersion"] == self.outputs["dataset_version"] == "1.0.0"
        assert questions["outputFacets"]["outputStatistics"]["rowCount"] == 16
        fields = {field["name"]: field["type"] for field in questions["facets"]["schema"]["fields"]}
        assert fields["citations"] == "list<string>"
        [origin] = questions["facets"]["columnLineage"]["fields"]["answer"]["inputFields"]
        assert (origin["name"], origin["field"]) == (f"{FAMILY}/clean/questions", "answer")
        assert questions["facets"]["columnLineage"]["fields"]["split"]["inputFields"][0]["field"] == "question_id"
        assert questions["facets"]["symlinks"]["identifiers"][0]["name"].endswith("/questions")

    def test_one_steps_outputs_are_the_next_ones_inputs(self, pipeline: Pipeline) -> None:
        raw = names(told(pipeline, "ingest", "COMPLETE")["outputs"])
        assert names(told(pipeline, "validate", "COMPLETE")["inputs"]) == raw
        clean = names(told(pipeline, "validate", "COMPLETE")["outputs"])
        assert set(names(told(pipeline, "publish", "COMPLETE")["inputs"])) <= set(clean)
        assert f"{FAMILY}/data" in [dataset["name"] for dataset in told(pipeline, "publish", "COMPLETE")["outputs"]]


def test_a_batch_that_is_stopped_says_so(pipeline: Pipeline, source: Deliveries) -> None:
    source.add("2026-10-26", {}, [ask(n, answer="") for n in range(50, 58)])
    given = {"run": "r1", "source": pipeline.source, "since": None, "until": None}
    ingested = run(pipeline, "ingest", given)
    run(pipeline, "validate", {"deliveries": ingested["deliveries"]}, EXIT_FINAL)
    message = told(pipeline, "validate", "FAIL")["run"]["facets"]["errorMessage"]["message"]
    assert "too few valid rows in questions of delivery 2026-10-26" in message
