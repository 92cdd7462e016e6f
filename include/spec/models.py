"""What a family is: the typed form of `family.yaml`.

One frozen object describes a family from its data source to its release. It is parsed once, at the edge, and passed
around as it is; no dictionary travels inside. Unknown keys are refused, because a misspelt threshold that is silently
ignored is a model that ships without its gate.

This module is imported when Airflow parses the DAG files: nothing heavy may be imported here.
"""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Self

from pydantic import Field, field_validator, model_validator

from include.spec.base import Fraction, Name, SpecModel
from include.spec.judging import EvaluationSpec
from include.spec.pairs import QaSpec
from include.spec.prepare import AUGMENTATIONS, PrepareStep
from include.spec.quality import QualitySpec
from include.spec.resources import ResourcesSpec
from include.spec.rollout import MonitoringSpec, ReleaseSpec
from include.spec.search import SweepSpec
from include.spec.sources import RESERVED, SAMPLE, SourceRole, SourceSpec
from include.spec.splits import SplitSpec
from include.spec.training import RetrySpec, TrainerSpec


class OwnerSpec(SpecModel):
    """Who answers for the family, and where they are told about failures."""

    team: str
    email: str | None = None


class StartSpec(SpecModel):
    """Since when there is something to catch up with, and whether to."""

    start: date = date(2026, 1, 5)
    catchup: bool = False


class DataScheduleSpec(StartSpec):
    """When `data__<family>` runs by itself (cron expression, UTC)."""

    ingest: str = "0 2 * * 1"


class ScheduleSpec(StartSpec):
    """When `train__<family>` and `monitor__<family>` run by themselves (cron expressions, UTC)."""

    train: str = "0 3 * * 1"
    monitor: str = "0 */6 * * *"


class TableSpec(SpecModel):
    """One table of the family's dataset: its key column and how much of a batch must be valid."""

    key: Name
    min_valid_rate: Fraction = 0.95


class DataSpec(SpecModel):
    """Where rows come from and what they must satisfy.

    Attributes:
        sources: The family's sources by name. A dataset version holds the deliveries of all of them; a run may name
            one, or another place instead of them.
        suite: Name of the expectation suite in `include/expectations`.
        max_row_bytes: A longer raw record is quarantined unread.
        prepare: What rows go through before the suite sees them, in this order; see `include.spec.prepare`.
        qa: How question and answer pairs are validated; None for data without such pairs.
    """

    sources: dict[Name, SourceSpec] = Field(
        min_length=1, default={SAMPLE: SourceSpec(role=SourceRole.BENCHMARK, url=SAMPLE)}
    )
    suite: Name
    tables: dict[Name, TableSpec] = Field(min_length=1)
    max_row_bytes: Annotated[int, Field(ge=1024)] = 1_000_000
    prepare: list[PrepareStep] = []
    qa: QaSpec | None = None

    @field_validator("sources")
    @classmethod
    def _fit_for_names(cls, sources: dict[str, SourceSpec]) -> dict[str, SourceSpec]:
        for name in sources:
            if name in RESERVED or len(name) > 40:
                raise ValueError(f"a source cannot be named {name!r}: too long, or a name that the platform uses")
        return sources

    @model_validator(mode="after")
    def _pairs_are_known(self) -> DataSpec:
        for table in (self.qa.table, self.qa.passages) if self.qa else ():
            if table not in self.tables:
                raise ValueError(f"qa: the table {table!r} is not among tables {sorted(self.tables)}")
        return self

    @model_validator(mode="after")
    def _tables_are_known(self) -> DataSpec:
        for name, source in self.sources.items():
            if source.table is not None and source.table not in self.tables:
                raise ValueError(f"sources.{name}.table {source.table!r} is not among tables {sorted(self.tables)}")
        unknown = sorted({step.table for step in self.prepare} - set(self.tables))
        if unknown:
            raise ValueError(f"`prepare` names the table {unknown[0]!r}, which is not among {sorted(self.tables)}")
        return self


class BaseFamilySpec(SpecModel):
    """What every family has, with a model or without: all that the data steps need to know."""

    family: Name
    title: str
    description: str
    owner: OwnerSpec
    tags: list[str] = []
    code: Annotated[str, Field(pattern=r"^[\w.]+:\w+$")]
    schedule: StartSpec
    data: DataSpec
    split: SplitSpec
    quality: QualitySpec = QualitySpec()
    resources: ResourcesSpec = ResourcesSpec()
    retry: RetrySpec = RetrySpec()

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        if self.split.table not in self.data.tables:
            raise ValueError(f"split.table {self.split.table!r} is not among data.tables {sorted(self.data.tables)}")
        for place in (place for rule in self.quality.coverage for place in (rule.of, rule.by)):
            if place.partition(".")[0] not in self.data.tables:
                raise ValueError(f"quality.coverage {place!r} is of no table among {sorted(self.data.tables)}")
        for step in self.data.prepare:
            if isinstance(step, AUGMENTATIONS) and step.table != self.split.table:
                raise ValueError(f"{step.transform} copies training rows: its table must be {self.split.table!r}")
        return self


class DataFamilySpec(BaseFamilySpec):
    """A family that is only data yet: it is ingested, validated and published, and nothing is trained."""

    schedule: DataScheduleSpec = DataScheduleSpec()


class FamilySpec(BaseFamilySpec):
    """A model family, complete.

    `model` and `hyperparameters` belong to the family's own code: `code` names its class, and the loader checks both
    against the `ModelConfig` and `Hyperparameters` classes of the family's `config` module.

    Attributes:
        meaning: What the model's outputs say, by their names. Changed words mean another output to every client: the
            next candidate gets a new major version.
    """

    schedule: ScheduleSpec = ScheduleSpec()
    model: dict[str, Any] = {}
    hyperparameters: dict[str, Any] = {}
    meaning: dict[str, str] = {}
    trainer: TrainerSpec = TrainerSpec()
    sweep: SweepSpec
    evaluation: EvaluationSpec
    release: ReleaseSpec
    monitoring: MonitoringSpec = MonitoringSpec()

    @model_validator(mode="after")
    def _money_needs_prices(self) -> Self:
        if self.sweep.budget.money is not None and not self.resources.prices.known:
            raise ValueError("sweep.budget.money would never stop anything: resources.prices has no price")
        return self


AnyFamilySpec = FamilySpec | DataFamilySpec

#: The keys that make a family one with a model.
MODEL_KEYS = frozenset(FamilySpec.model_fields) - frozenset(BaseFamilySpec.model_fields)
