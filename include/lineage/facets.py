"""Makes OpenLineage events and the facets that Windtunnel uses. Imported by the thread that sends, never before.

OpenLineage has no facets for machine learning yet; ours are `windtunnel_run` (what ran, by which code) and
`windtunnel_model` (digest, metrics, hyperparameters).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attr
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.facet_v2 import (
    DatasetFacet,
    JobFacet,
    RunFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    datasource_dataset,
    error_message_run,
    job_type_job,
    output_statistics_output_dataset,
    parent_run,
    schema_dataset,
    symlinks_dataset,
)

_PRODUCER = "urn:windtunnel"


@attr.define
class WindtunnelRunFacet(RunFacet):
    """What ran: `facts` has run, step, attempt, fingerprint and code version."""

    facts: dict[str, Any] = attr.field(factory=dict)

    @staticmethod
    def _get_schema() -> str:
        return "urn:windtunnel:facet:run:1"


@attr.define
class WindtunnelModelFacet(DatasetFacet):
    """A model: `facts` has what its step reported (digest, metrics, hyperparameters, verdict)."""

    facts: dict[str, Any] = attr.field(factory=dict)

    @staticmethod
    def _get_schema() -> str:
        return "urn:windtunnel:facet:model:1"


def event(
    state: str,
    at: str,
    *,
    job: str,
    run: str,
    parent: tuple[str, str] | None,
    facts: Mapping[str, Any],
    inputs: Sequence[InputDataset],
    outputs: Sequence[OutputDataset],
    error: str,
    code_version: str,
    namespace: str,
) -> RunEvent:
    """An event.

    Args:
        state: `START`, `COMPLETE` or `FAIL`.
        at: ISO 8601 with microseconds, UTC.
        parent: Job name and run id of the pipeline run.
        facts: For `windtunnel_run`.
        error: What went wrong, in words; empty where nothing did.
    """
    producer = f"{_PRODUCER}:{code_version}"
    run_facets: dict[str, RunFacet] = {"windtunnel_run": WindtunnelRunFacet(facts=dict(facts), producer=producer)}
    if parent is not None:
        run_facets["parent"] = parent_run.ParentRunFacet(
            run=parent_run.Run(runId=parent[1]), job=parent_run.Job(namespace=namespace, name=parent[0])
        )
    if error:
        run_facets["errorMessage"] = error_message_run.ErrorMessageRunFacet(message=error, programmingLanguage="Python")
    job_facets: dict[str, JobFacet] = {
        "jobType": job_type_job.JobTypeJobFacet(processingType="BATCH", integration="WINDTUNNEL", jobType="STEP")
    }
    return RunEvent(
        eventType=RunState(state),
        eventTime=at,
        run=Run(runId=run, facets=run_facets),
        job=Job(namespace=namespace, name=job, facets=job_facets),
        inputs=list(inputs),
        outputs=list(outputs),
        producer=producer,
    )


def read(namespace: str, name: str, *, counts: Iterable[Mapping[str, Any]] = (), **known: Any) -> InputDataset:
    """A dataset that was read. `counts`: expectations of all checked rows (table, reason, description, failed)."""
    assertions = [_assertion(count) for count in counts]
    quality = data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(assertions=assertions)
    return InputDataset(
        namespace=namespace,
        name=name,
        facets=_dataset_facets(**known),
        inputFacets={"dataQualityAssertions": quality} if assertions else {},
    )


def made(namespace: str, name: str, *, rows: int | None = None, **known: Any) -> OutputDataset:
    """A dataset that was written; `rows` of it."""
    statistics = output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows)
    return OutputDataset(
        namespace=namespace,
        name=name,
        facets=_dataset_facets(**known),
        outputFacets={"outputStatistics": statistics} if rows is not None else {},
    )


def _dataset_facets(
    *,
    version: str | None = None,
    uri: str | None = None,
    columns: Sequence[str] = (),
    from_columns: Mapping[str, Sequence[tuple[str, str, str]]] | None = None,
    model: Mapping[str, Any] | None = None,
    source: str | None = None,
) -> dict[str, DatasetFacet]:
    """Facets of a dataset.

    Args:
        version: Which version of it.
        uri: Where it lies.
        columns: Its columns with their types, such as `question: string`.
        from_columns: Column -> (namespace, dataset, column) that it was made from.
        model: For `windtunnel_model`.
        source: Name of the data source.
    """
    found: dict[str, DatasetFacet] = {}
    if version:
        found["version"] = dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=version)
    if uri:
        place, _, path = uri.partition("://")
        bucket, _, name = path.partition("/")
        at = place if place == "file" else f"{place}://{bucket}"
        identifier = symlinks_dataset.Identifier(namespace=at, name=f"/{name}" if at == "file" else name, type="PATH")
        found["symlinks"] = symlinks_dataset.SymlinksDatasetFacet(identifiers=[identifier])
    if columns:
        pairs = [column.split(": ", 1) for column in columns]
        fields = [schema_dataset.SchemaDatasetFacetFields(name=name, type=kind) for name, kind in pairs]
        found["schema"] = schema_dataset.SchemaDatasetFacet(fields=fields)
    if from_columns:
        found["columnLineage"] = column_lineage_dataset.ColumnLineageDatasetFacet(
            fields={
                column: column_lineage_dataset.Fields(
                    inputFields=[
                        column_lineage_dataset.InputField(namespace=at, name=name, field=field)
                        for at, name, field in origins
                    ]
                )
                for column, origins in from_columns.items()
            }
        )
    if model:
        found["windtunnel_model"] = WindtunnelModelFacet(facts=dict(model))
    if source:
        found["dataSource"] = datasource_dataset.DatasourceDatasetFacet(name=source)
    return found


def _assertion(count: Mapping[str, Any]) -> data_quality_assertions_dataset.Assertion:
    return data_quality_assertions_dataset.Assertion(
        assertion=count["reason"],
        success=count["failed"] == 0,
        name=f"{count['table']}.{count['reason']}",
        description=count["description"],
        expected="0 rows",
        actual=f"{count['failed']} of {count['evaluated']} rows",
    )
