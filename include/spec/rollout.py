"""The spec of how a candidate is released and watched: stages, guardrails, and what asks for a retrain."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import Field, model_validator

from include.spec.base import Fraction, Name, SpecModel


class Proof(str, Enum):
    """How sure a stage must be that the candidate answers well enough."""

    OBSERVED = "observed"
    CERTAIN = "certain"


class GuardrailSpec(SpecModel):
    """Limits on live traffic, candidate against champion, checked at every stage.

    Attributes:
        max_error_rate: Share of the candidate's requests that may fail.
        max_latency_ratio: Candidate's p95 over the champion's p95.
        latency_floor_ms: A candidate whose p95 is at or under this is fast enough, whatever the ratio.
        quality_metric: Labelled feedback metric (share of answers marked right).
        max_quality_drop: Tolerated drop of that share against the champion's.
        quality_proof: `observed`: a stage passes with its minimum of labels and no larger drop observed, or earlier
            where that is sure. `certain`: only where some stage showed beyond chance that the drop is not larger;
            with too few labels for that a stage ends INCONCLUSIVE, and a person may wave it on before.
        max_drops: Metric between 0 and 1 -> tolerated drop of its mean against the champion's; a stage fails where the
            drop is surely larger. `helpful` (what users say of answers), another label of the family, or one of its
            `proxies`, which need no label. Without answers that have the metric nothing is judged.
        max_memory_growth_mb: How much the process that answers may grow: in the load check, where the candidate is
            alone in it, and in the gateway during a stage. None: memory is not looked at.
        max_crashes: Processes of the gateway that may die in a stage with a request of the candidate under way. One
            death may be the machine's or a person's doing; each takes the requests beside it along.
        error_budget: Share of the candidate's live requests that may fail in the whole rollout, all stages together.
            More, and the candidate comes down whatever the single stage says. None: stages are judged alone.
    """

    max_error_rate: Fraction = 0.01
    max_latency_ratio: Annotated[float, Field(gt=0)] = 1.5
    latency_floor_ms: Annotated[float, Field(ge=0)] = 100.0
    quality_metric: Name = "hit_at_10"
    max_quality_drop: Fraction = 0.05
    quality_proof: Proof = Proof.OBSERVED
    max_drops: dict[Name, Fraction] = {}
    max_memory_growth_mb: Annotated[float, Field(gt=0)] | None = None
    max_crashes: Annotated[int, Field(ge=0)] = 1
    error_budget: Fraction | None = None


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


class DrillSpec(SpecModel):
    """How the family's drill is held: a bad model is released to a target of its own.

    Attributes:
        schedule: When `drill__<family>` runs by itself (cron expression, UTC); None: by hand only.
        rate: Requests per second that the drill's users send.
        labelled: Share of answers that they give feedback on.
        stage_seconds: How long a stage of the drill may take.
    """

    schedule: str | None = None
    rate: Annotated[float, Field(gt=0, le=1000)] = 40.0
    labelled: Fraction = 1.0
    stage_seconds: Annotated[float, Field(ge=5)] = 60.0


class ReleaseSpec(SpecModel):
    """The staged rollout.

    Attributes:
        bootstrap: Baseline that serves before the first champion exists, so that even the first candidate is judged
            against an incumbent on live traffic; `none` sends all traffic to the candidate at every stage.
        unit: Request field that sticks to one variant.
        approval: Whether a person must approve before the first stage with traffic. Without a bootstrap that is the
            first stage of all, because the first candidate answers everything.
        approval_hours: How long a person has for that; no answer in time is a no.
        load_check_seconds: How long a candidate is asked in a process of its own before any traffic.
    """

    bootstrap: Name | None = None
    unit: Name = "unit_id"
    approval: bool = False
    approval_hours: Annotated[float, Field(gt=0)] = 24.0
    load_check_seconds: Annotated[float, Field(gt=0, le=600)] = 3.0
    guardrails: GuardrailSpec = GuardrailSpec()
    drill: DrillSpec = DrillSpec()
    stages: list[StageSpec] = Field(min_length=1)

    @property
    def first_live(self) -> int:
        """Index of the first stage in which the candidate may answer somebody."""
        live = (index for index, stage in enumerate(self.stages) if stage.traffic > 0)
        return 0 if self.bootstrap is None else next(live)

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
