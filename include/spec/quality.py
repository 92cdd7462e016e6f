"""What is asked of the quality of a family's data: the typed form of `quality` in `family.yaml`.

This module is imported when Airflow parses the DAG files: nothing heavy may be imported here.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from include.spec.base import Fraction, Name, SpecModel

_Column = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*\.[a-z][a-z0-9_]*$")]


class CoverageSpec(SpecModel):
    """How much of one column's values another column must speak of, such as passages that a question cites.

    Attributes:
        of: `table.column` whose values are to be covered.
        by: `table.column` that covers them; a list covers each of its items.
        at_least: Share of the values of `of` under which an alert is raised.
    """

    of: _Column
    by: _Column
    at_least: Fraction = 0.0


class TruthSpec(SpecModel):
    """What is compared with a benchmark: rows of other sources that have the same `match` as one of its rows.

    Attributes:
        match: Column of the split table that says what is asked; compared after normalisation (case, punctuation).
        label: Column of the split table that must agree; a list agrees whatever its order.
    """

    match: Name
    label: Name


class QualitySpec(SpecModel):
    """Thresholds of alerts. An alert tells; it does not stop a run: the gate of `validate` does that.

    Attributes:
        text: Column of the split table whose diversity is measured; None where examples are no texts.
        truth: How rows are compared with those of sources with the role `benchmark`; None: they are not.
        accuracy: Least share of compared rows that agree.
        validation_rate: Least share of rows that came in and were valid.
        near_duplicates: Largest share of texts that have a near-duplicate.
        newest_days, median_days: Oldest that the newest row, and the middle one, may be when a version is published.
    """

    text: Name | None = None
    coverage: list[CoverageSpec] = []
    truth: TruthSpec | None = None
    accuracy: Fraction = 0.95
    validation_rate: Fraction = 0.95
    near_duplicates: Fraction = 0.1
    newest_days: Annotated[int, Field(ge=0)] = 30
    median_days: Annotated[int, Field(ge=0)] = 365
