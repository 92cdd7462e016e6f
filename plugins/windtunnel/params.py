"""The form that the Airflow UI shows when a person triggers a run: validated fields with explanations."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Param

from include.spec import BaseFamilySpec, FamilySpec, family_folder, profile_names

_DATE = "^\\d{4}-\\d{2}-\\d{2}$"


def _profiles(spec: BaseFamilySpec) -> list[str]:
    return profile_names(family_folder(spec.family) / "family.yaml")


def profile_param(spec: BaseFamilySpec, default: str) -> Param:
    """Choice of the spec's profiles; `default` where the family has it."""
    names = _profiles(spec)
    return Param(
        default if default in names else "default",
        type="string",
        enum=names,
        title="Profile",
        description="Named set of values in family.yaml, such as `demo` for a laptop.",
    )


def source_param(spec: BaseFamilySpec) -> Param:
    """Which sources the run looks at."""
    return Param(
        None,
        type=["null", "string"],
        minLength=1,
        maxLength=1024,
        title="Source",
        description=f"One of the family's sources ({', '.join(spec.data.sources)}), or another folder or URL instead "
        "of them. Empty: all of the family's sources.",
    )


def data_params(spec: BaseFamilySpec, profile: str) -> dict[str, Any]:
    """Parameters of `data__<family>`, and the data part of those of `train__<family>`."""
    return {
        "profile": profile_param(spec, profile),
        "source": source_param(spec),
        "since": Param(
            None,
            type=["null", "string"],
            format="date",
            pattern=_DATE,
            title="Deliveries from",
            description="First delivery day to ingest. Empty: no lower bound. A backfill uses its own interval.",
        ),
        "until": Param(
            None,
            type=["null", "string"],
            format="date",
            pattern=_DATE,
            title="Deliveries before",
            description="Deliveries of this day and later are left for another run. Empty: all there are.",
        ),
        "reason": Param(
            None,  # not "": the UI's form takes an empty text for a missing one and shows an error
            type=["null", "string"],
            maxLength=500,
            title="Reason",
            description="Why this run was started; kept with everything that it makes.",
        ),
    }


def train_params(spec: FamilySpec, profile: str) -> dict[str, Any]:
    """Parameters of `train__<family>`; `include.spec.RunParams` is their typed form."""
    return {
        **data_params(spec, profile),
        "seed": Param(
            0,
            type="integer",
            minimum=0,
            maximum=2**31 - 1,
            title="Seed",
            description="Another seed makes another candidate from the same data.",
        ),
        "trials": Param(
            None,
            type=["null", "integer"],
            minimum=1,
            maximum=1000,
            title="Sweep trials",
            description=f"Empty: the profile's own (the spec says {spec.sweep.trials}).",
        ),
        "fold": Param(
            None,
            type=["null", "integer"],
            minimum=0,
            maximum=99,
            title="Fold",
            description=f"The fold that validates (the spec has {spec.split.folds}). Empty: the spec's own.",
        ),
        "releasable": Param(
            True,
            type="boolean",
            title="May be released",
            description="Off: build, evaluate and register for comparison only. A backfill is never released.",
        ),
        "attempt": Param(
            1,
            type="integer",
            minimum=1,
            maximum=5,
            title="Attempt",
            description="Round of sweep and training; a failed gate starts the next one by itself.",
        ),
        "adjust": Param(
            {},
            type="object",
            additionalProperties={"type": "number"},
            title="Adjustments",
            description='What a failed gate changed for this round, such as {"lr_scale": 0.5}.',
        ),
    }
