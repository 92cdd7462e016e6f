"""What a family is: the typed form of `family.yaml`.

One frozen object describes a family from its data source to its release. It is parsed once, at the edge, and passed
around as it is; no dictionary travels inside. Unknown keys are refused, because a misspelt threshold that is silently
ignored is a model that ships without its gate.

This module is imported when Airflow parses the DAG files: nothing heavy may be imported here.
"""

from __future__ import annotations

from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from include.spec.base import Fraction, Name, SpecModel
from include.spec.costs import ConvergenceSpec, PricesSpec, Quantity, SweepBudget
from include.spec.pairs import QaSpec
from include.spec.prepare import AUGMENTATIONS, PrepareStep
from include.spec.quality import QualitySpec
from include.spec.sources import RESERVED, SAMPLE, SourceRole, SourceSpec
from include.spec.splits import SplitSpec


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


class Precision(str, Enum):
    """Lightning's names for the precisions."""

    FP32 = "32-true"
    FP16 = "16-mixed"
    BF16 = "bf16-mixed"


class TrainerSpec(SpecModel):
    """How `fit` runs, whatever the model: epochs, devices, precision, checkpoints."""

    max_epochs: Annotated[int, Field(ge=1)] = 1
    batch_size: Annotated[int, Field(ge=1)] = 32
    accumulate_grad_batches: Annotated[int, Field(ge=1)] = 1
    gradient_clip_norm: Annotated[float, Field(ge=0)] = 1.0
    precision: Precision = Precision.FP32
    accelerator: Literal["auto", "cpu", "gpu"] = "auto"
    devices: Annotated[int, Field(ge=1)] = 1
    checkpoint_every_steps: Annotated[int, Field(ge=1)] = 50
    early_stopping_patience: Annotated[int, Field(ge=1)] | None = None
    max_examples: Annotated[int, Field(ge=1)] | None = None


class ResourcesSpec(SpecModel):
    """What a pod of the family asks for; read by the Kubernetes operator. Of a local process, only `gpu` and `prices`
    are read, to reckon what it costs."""

    cpu: Quantity = "2"
    memory: Quantity = "8Gi"
    gpu: Annotated[int, Field(ge=0)] = 0
    gpu_kind: str | None = None
    ephemeral_storage: str = "20Gi"
    image: str = "windtunnel-trainer:latest"
    namespace: str = "windtunnel"
    service_account: str = "windtunnel"
    node_selector: dict[str, str] = {}
    priority_class: str | None = None
    timeout_minutes: Annotated[int, Field(ge=1)] = 120
    prices: PricesSpec = PricesSpec()


class RetrySpec(SpecModel):
    """What a step that ended badly may do by itself, beside the task's ordinary retries (`include/failures`).

    Attributes:
        lost_places: Times that a step of one run starts again for nothing because its place was taken away: evicted,
            preempted, node lost.
        pause_seconds: How long it waits before it does.
        learning_rate_factor: What the learning rate is multiplied by, once, after training diverged; 1 gives up.
    """

    lost_places: Annotated[int, Field(ge=0, le=1000)] = 10
    pause_seconds: Annotated[float, Field(ge=0)] = 30.0
    learning_rate_factor: Annotated[float, Field(gt=0, le=1)] = 0.3


class FloatRange(SpecModel):
    """A continuous hyperparameter in [low, high]."""

    kind: Literal["float"]
    low: float
    high: float
    log: bool = False

    @model_validator(mode="after")
    def _ordered(self) -> FloatRange:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError("a log range must start above 0")
        return self


class IntRange(SpecModel):
    """A whole-number hyperparameter in [low, high]."""

    kind: Literal["int"]
    low: int
    high: int
    step: Annotated[int, Field(ge=1)] = 1

    @model_validator(mode="after")
    def _ordered(self) -> IntRange:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


class Choice(SpecModel):
    """A hyperparameter with listed values."""

    kind: Literal["choice"]
    values: list[bool | int | float | str] = Field(min_length=1)


SearchRange = Annotated[FloatRange | IntRange | Choice, Field(discriminator="kind")]


class SweepSpec(SpecModel):
    """The hyperparameter search.

    Attributes:
        metric: Validation metric that trials report and the study optimises.
        trials: Trials that finish or are pruned before the sweep ends, over all workers.
        workers: Mapped Airflow tasks that share the study.
        max_examples: Training examples per trial (None: all), so that a trial is cheaper than the final fit.
        max_epochs: Epochs per trial.
        budget: Minutes and money that end it earlier.
        convergence: When it ends earlier because it gets no better; None: never.
    """

    metric: Name
    direction: Literal["maximize", "minimize"] = "maximize"
    sampler: Literal["tpe", "random", "grid"] = "tpe"
    pruner: Literal["median", "none"] = "median"
    trials: Annotated[int, Field(ge=1)] = 8
    workers: Annotated[int, Field(ge=1, le=64)] = 2
    max_examples: Annotated[int, Field(ge=1)] | None = None
    max_epochs: Annotated[int, Field(ge=1)] = 1
    budget: SweepBudget = SweepBudget()
    convergence: ConvergenceSpec | None = None
    space: dict[Name, SearchRange] = Field(min_length=1)


class Operator(str, Enum):
    """How a gate compares."""

    GT = "gt"
    GTE = "gte"
    LT = "lt"
    LTE = "lte"
    EQ = "eq"


class GateAction(str, Enum):
    """What a gate that is met or not met does to the verdict.

    `pass`: the gate is recorded and never blocks; `warn`: not met is shown and does not block; `fail`: not met blocks.
    """

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"


class GateSpec(SpecModel):
    """One quality gate.

    A gate holds `metric` of the candidate either against `threshold`, or against the same metric of `reference`
    ("champion", or a baseline's name) with a `margin`: `gte champion margin 0.02` means "not worse by more than 0.02",
    `gt bm25` means "better than". Comparisons use the paired difference on the same examples.
    """

    name: Name
    metric: Name
    operator: Operator
    threshold: float | None = None
    reference: Name | None = None
    margin: float = 0.0
    action: GateAction = GateAction.FAIL
    split: Name = "test"

    @model_validator(mode="after")
    def _one_target(self) -> GateSpec:
        if (self.threshold is None) == (self.reference is None):
            raise ValueError("give either `threshold` or `reference`, and not both")
        if self.reference is None and self.margin:
            raise ValueError("`margin` goes with `reference`; move the threshold instead")
        return self


class SelectiveSpec(SpecModel):
    """Answering only when sure enough: which accuracy is promised on what is answered; see `evaluation.selective`.

    Each target gives a metric that gates can ask for: the share of questions that can be answered while the promise
    holds, such as `coverage_at_99`.

    Attributes:
        confidence: Number of the answer record that says how sure the model is.
        correct: Metric that says whether an answer was right: 0 or 1, or a share.
        targets: Means of `correct` that must hold on what is answered.
        delta: Chance that a promise does not hold.
    """

    confidence: Name = "confidence"
    correct: Name
    targets: list[Annotated[float, Field(gt=0.0, lt=1.0)]] = Field(min_length=1)
    delta: Annotated[float, Field(gt=0.0, lt=0.5)] = 0.05


class EvaluationSpec(SpecModel):
    """How the candidate is judged: gates, the confidence of intervals, and how a failed gate is answered.

    Attributes:
        confidence: Confidence level of every interval.
        resamples: Bootstrap resamples per interval.
        max_attempts: Sweep -> train -> evaluate rounds before a failing candidate is archived.
        latency_requests: Requests for the latency measurement, per model, interleaved.
        selective: Accuracy that is promised on what is answered; None promises none.
    """

    gates: list[GateSpec] = Field(min_length=1)
    confidence: Annotated[float, Field(gt=0.5, lt=1.0)] = 0.95
    resamples: Annotated[int, Field(ge=100)] = 2000
    max_attempts: Annotated[int, Field(ge=1, le=5)] = 2
    latency_requests: Annotated[int, Field(ge=20)] = 200
    slices: list[Name] = []
    selective: SelectiveSpec | None = None

    @model_validator(mode="after")
    def _unique_names(self) -> EvaluationSpec:
        names = [gate.name for gate in self.gates]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"gate names must differ; repeated: {', '.join(repeated)}")
        return self


class GuardrailSpec(SpecModel):
    """Limits on live traffic, candidate against champion, checked at every stage.

    Attributes:
        max_error_rate: Share of the candidate's requests that may fail.
        max_latency_ratio: Candidate's p95 over the champion's p95.
        latency_floor_ms: A candidate whose p95 is at or under this is fast enough, whatever the ratio.
        quality_metric: Labelled feedback metric (share of answers marked right).
        max_quality_drop: Tolerated drop of that share against the champion's.
    """

    max_error_rate: Fraction = 0.01
    max_latency_ratio: Annotated[float, Field(gt=0)] = 1.5
    latency_floor_ms: Annotated[float, Field(ge=0)] = 100.0
    quality_metric: Name = "hit_at_10"
    max_quality_drop: Fraction = 0.05


class StageSpec(SpecModel):
    """One stage of a rollout: who gets the candidate, for how long, judged on how much."""

    name: Name
    traffic: Fraction
    shadow: bool = False
    min_seconds: Annotated[float, Field(ge=0)]
    min_requests: Annotated[int, Field(ge=1)] = 50
    min_labels: Annotated[int, Field(ge=0)] = 20
    max_seconds: Annotated[float, Field(gt=0)]

    @model_validator(mode="after")
    def _consistent(self) -> StageSpec:
        if self.shadow and self.traffic:
            raise ValueError("a shadow stage answers nobody: its traffic must be 0")
        if self.max_seconds < self.min_seconds:
            raise ValueError(f"max_seconds ({self.max_seconds:g}) is below min_seconds ({self.min_seconds:g})")
        return self


class ReleaseSpec(SpecModel):
    """The staged rollout.

    Attributes:
        bootstrap: Baseline that serves before the first champion exists, so that even the first candidate is judged
            against an incumbent on live traffic; `none` sends all traffic to the candidate at every stage.
        unit: Request field that sticks to one variant.
        approval: Whether a person must approve before the first stage with traffic.
    """

    bootstrap: Name | None = None
    unit: Name = "unit_id"
    approval: bool = False
    guardrails: GuardrailSpec = GuardrailSpec()
    stages: list[StageSpec] = Field(min_length=1)

    @model_validator(mode="after")
    def _ends_at_full(self) -> ReleaseSpec:
        traffic = [stage.traffic for stage in self.stages]
        if traffic[-1] != 1.0:
            raise ValueError(f"the last stage must carry all traffic (1.0), not {traffic[-1]:g}")
        if traffic != sorted(traffic):
            raise ValueError(f"traffic must not shrink from stage to stage: {traffic}")
        names = [stage.name for stage in self.stages]
        if len(set(names)) != len(names):
            raise ValueError(f"stage names must differ: {names}")
        return self


class MonitoringSpec(SpecModel):
    """When the family asks for a retrain.

    Attributes:
        min_new_rows: New rows at the source since the champion's dataset that ask for a retrain.
        drift_share: Share of drifted columns that counts as drift of the dataset.
        drift_min_requests: Live requests that a drift check needs.
        drift_window_hours: How far back live requests are read.
        cooldown_hours: No second request within this time.
        poll_seconds: How often the deferred sensor looks.
        wait_minutes: How long the deferred sensor of one monitor run waits.
    """

    min_new_rows: Annotated[int, Field(ge=1)] = 10_000
    drift_share: Fraction = 0.5
    drift_min_requests: Annotated[int, Field(ge=1)] = 200
    drift_window_hours: Annotated[float, Field(gt=0)] = 24.0
    cooldown_hours: Annotated[float, Field(ge=0)] = 24.0
    poll_seconds: Annotated[float, Field(gt=0)] = 60.0
    wait_minutes: Annotated[float, Field(gt=0)] = 300.0


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
    """

    schedule: ScheduleSpec = ScheduleSpec()
    model: dict[str, Any] = {}
    hyperparameters: dict[str, Any] = {}
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
