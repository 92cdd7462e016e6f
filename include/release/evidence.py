"""What a stage of a rollout is judged on: what both variants did, and what people said. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict, Field

from include.release.budget import Account
from include.release.control import Word
from include.spec.rollout import GuardrailSpec, StageSpec


class Quality(BaseModel):
    """Mean of a labelled metric over n answers, and the standard deviation of one answer."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    mean: float
    n: int = Field(ge=0)
    sd: float | None = None


class Observed(BaseModel):
    """What one variant did in a stage.

    Attributes:
        crashes: Deaths of a gateway process that had a request of this variant under way.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    requests: int = 0
    errors: int = 0
    crashes: int = 0
    latency_p50_ms: float | None = None
    latency_p95_ms: float | None = None
    labels: int = 0
    quality: dict[str, Quality] = {}


class Memory(BaseModel):
    """Memory of the gateway that answers in a stage, in MB; of several processes, their sum."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    opened_mb: float
    now_mb: float


class StageInput(BaseModel):
    """Everything that the verdict on a stage depends on.

    Attributes:
        seconds: Since the stage was entered.
        champion: The champion in the same stage, or (when the candidate has all traffic) in the stages before; None
            where nothing served before.
        paired: Metric -> candidate minus champion on the same requests, from a shadow stage.
        memory: Of the gateway, since the stage's table was loaded; None where it does not tell.
        proven_in: The stage in which the candidate was surely not worse than tolerated; empty where there was none.
        account: The rollout's error budget before this stage.
        paused: Who paused the rollout; None while it runs.
        paused_seconds: For how long of `seconds` it was paused; the stage's time stands still then.
        waved_on: Who ended the wait for evidence; None where nobody did.
        unreachable: Why the gateway could not be asked; empty when it could.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    stage: StageSpec
    guardrails: GuardrailSpec
    seconds: float = Field(ge=0)
    candidate: Observed = Observed()
    champion: Observed | None = None
    paired: dict[str, Quality] = {}
    memory: Memory | None = None
    proven_in: str = ""
    account: Account = Account()
    paused: Word | None = None
    paused_seconds: float = Field(default=0.0, ge=0)
    waved_on: Word | None = None
    unreachable: str = ""

    @property
    def running(self) -> float:
        """Seconds in which the stage was not paused."""
        return max(0.0, self.seconds - self.paused_seconds)


def pooled(observations: Iterable[Observed]) -> Observed | None:
    """Several stages of one variant as one; of the latencies, the newest that are known. None for no stage at all."""
    result: Observed | None = None
    for item in observations:
        result = item if result is None else _merged(result, item)
    return result


def _merged(first: Observed, second: Observed) -> Observed:
    quality = dict(first.quality)
    for metric, more in second.quality.items():
        quality[metric] = _added(quality[metric], more) if metric in quality else more
    return Observed(
        requests=first.requests + second.requests,
        errors=first.errors + second.errors,
        crashes=first.crashes + second.crashes,
        latency_p50_ms=second.latency_p50_ms if second.latency_p50_ms is not None else first.latency_p50_ms,
        latency_p95_ms=second.latency_p95_ms if second.latency_p95_ms is not None else first.latency_p95_ms,
        labels=first.labels + second.labels,
        quality=quality,
    )


def _added(first: Quality, second: Quality) -> Quality:
    n = first.n + second.n
    if n == 0:
        return first
    return Quality(mean=(first.mean * first.n + second.mean * second.n) / n, n=n)
