"""What one run may change about its family's spec: the parameters of `train__` and `data__<family>`, typed."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator

from include.errors import UserError
from include.spec.base import SpecModel
from include.spec.load import DEFAULT_PROFILE, load_any_family, load_family
from include.spec.models import AnyFamilySpec, FamilySpec
from include.spec.sources import require_no_secret


class RunParams(SpecModel):
    """Parameters of a training run; a run of `data__<family>` has the first four and the last.

    Attributes:
        profile: Profile of the spec.
        source: One of the family's sources, or another place (folder or URL) instead of them. None: all of them.
        since: First delivery day to ingest (None: no lower bound).
        until: Day before which deliveries are ingested (None: all there are).
        seed: Seed of splits, sweep and training; another seed is another candidate.
        trials: Trials of the sweep, instead of the spec's.
        fold: The fold that validates, where the spec's split has folds; None: the spec's.
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
    fold: Annotated[int, Field(ge=0, le=99)] | None = None
    releasable: bool = True
    attempt: Annotated[int, Field(ge=1)] = 1
    adjust: dict[str, float] = {}
    reason: str = ""

    @field_validator("reason", mode="before")
    @classmethod
    def _may_be_left_out(cls, reason: str | None) -> str:
        return reason or ""

    @field_validator("source")
    @classmethod
    def _holds_no_secret(cls, source: str | None) -> str | None:
        require_no_secret(source or "")
        return source or None


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
    """The spec of a family with a model, with the run's profile and parameters applied.

    Raises:
        UserError: The spec's split has no such fold.
    """
    return _apply(load_family(family, params.profile), params)


def resolve_any_spec(family: str, params: RunParams) -> AnyFamilySpec:
    """The spec of any family, with the run's profile and parameters applied."""
    spec = load_any_family(family, params.profile)
    return _apply(spec, params) if isinstance(spec, FamilySpec) else spec


def _apply(spec: FamilySpec, params: RunParams) -> FamilySpec:
    if params.fold is not None:
        if params.fold >= spec.split.folds or spec.split.folds == 1:
            raise UserError(
                f"{spec.family} has no fold {params.fold}: its split is {spec.split.kind.value}",
                where="params",
                hint=f"leave `fold` empty, or set split.folds in family.yaml (now {spec.split.folds})",
            )
        spec = spec.model_copy(update={"split": spec.split.model_copy(update={"fold": params.fold})})
    if params.trials is not None:
        spec = spec.model_copy(update={"sweep": spec.sweep.model_copy(update={"trials": params.trials})})
    return spec
