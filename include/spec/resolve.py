"""What one run may change about its family's spec: the parameters of `train__<family>`, typed."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import Field, ValidationError

from include.errors import UserError
from include.spec.load import DEFAULT_PROFILE, load_family
from include.spec.models import FamilySpec, SpecModel


class RunParams(SpecModel):
    """Parameters of a training run.

    Attributes:
        profile: Profile of the spec.
        source: Where deliveries lie, instead of the spec's source.
        since: First delivery day to ingest (None: no lower bound).
        until: Day before which deliveries are ingested (None: all there are).
        seed: Seed of splits, sweep and training; another seed is another candidate.
        trials: Trials of the sweep, instead of the spec's.
        releasable: Whether the candidate may be released; a backfill's never may.
        attempt: Which round this is; a failed gate starts the next one.
        adjust: What the failed gate changed for this round.
        reason: Why the run was started, for people.
    """

    profile: str = DEFAULT_PROFILE
    source: str | None = None
    since: date | None = None
    until: date | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    trials: Annotated[int, Field(ge=1, le=1000)] | None = None
    releasable: bool = True
    attempt: Annotated[int, Field(ge=1)] = 1
    adjust: dict[str, float] = {}
    reason: str = ""


def parse_params(values: dict[str, Any]) -> RunParams:
    """The parameters in `values`.

    Raises:
        UserError: A value has the wrong type or an unknown name.
    """
    try:
        params = RunParams.model_validate(values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"run parameter {field!r}: {first['msg']}", where="params", hint="correct it and trigger again"
        ) from None
    if params.since and params.until and params.since >= params.until:
        raise UserError(
            f"since ({params.since}) is not before until ({params.until})", where="params", hint="swap them"
        )
    return params


def resolve_spec(family: str, params: RunParams) -> FamilySpec:
    """The family's spec with the run's profile and parameters applied."""
    spec = load_family(family, params.profile)
    if params.trials is not None:
        spec = spec.model_copy(update={"sweep": spec.sweep.model_copy(update={"trials": params.trials})})
    return spec
