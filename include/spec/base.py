"""What all parts of a spec share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Fraction = Annotated[float, Field(ge=0.0, le=1.0)]


class SpecModel(BaseModel):
    """Base of all parts of a spec: immutable, and closed to unknown keys."""

    # What was given is not repeated in errors: it may hold a secret that does not belong there. Most parts are checked
    # as parts of the whole only, and every process that reads a DAG file would build a validator for each.
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, defer_build=True)
