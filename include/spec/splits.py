"""How examples are divided, and what must not be on both sides: the typed form of `split` in `family.yaml`.

| kind | who decides | when data grows |
|---|---|---|
| `hold_out` | a hash of `by` | nothing moves |
| `k_fold` | a hash of `by`; `test` of it is held out of all folds | nothing moves; with `stratify` see `stratified` |
| `stratified` | its rank within each value of `stratify`, so that shares are exact in each | rows at the cuts move |
| `group` | its rank among whole groups (values of `by`), weighted by their rows | groups at the cuts move |
| `time_series` | the order of `by` | cuts move forward: a row moves only towards training |

"Nothing moves" holds but for one case: a new near-duplicate that joins what stood on two sides takes both to the side
that is nearer to training, so that no example that a model learned from becomes one that judges it.

This module is imported when Airflow parses the DAG files: nothing heavy may be imported here.
"""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import Field, model_validator

from include.spec.base import Fraction, Name, SpecModel


class SplitKind(str, Enum):
    """Who decides where an example goes; see the module."""

    HOLD_OUT = "hold_out"
    K_FOLD = "k_fold"
    STRATIFIED = "stratified"
    GROUP = "group"
    TIME_SERIES = "time_series"


class NearDuplicates(str, Enum):
    """What becomes of near-duplicates that stand on two sides.

    `together`: all go to one side. `refuse`: the step stops and names them. `allow`: they are counted.
    """

    TOGETHER = "together"
    REFUSE = "refuse"
    ALLOW = "allow"


class LeakageSpec(SpecModel):
    """What must not be on both sides of a split.

    Attributes:
        text: Columns whose texts, taken together, must differ between the sides; none: texts are not compared.
        threshold: Texts at least this similar are near-duplicates (`include.data.neighbours`); the same text is 1. Of
            the pairs of ObliQA questions from 0.55 on, nearly all reword one question; below, mere kinship begins.
        near_duplicates: What becomes of them; None: `together`, and `refuse` where the order of time decides.
        groups: Columns whose every value must be on one side.
    """

    text: list[Name] = []
    threshold: Annotated[float, Field(ge=0.5, le=1.0)] = 0.55
    near_duplicates: NearDuplicates | None = None
    groups: list[Name] = []


class SplitSpec(SpecModel):
    """How examples are divided; see the module.

    Attributes:
        by: Column whose hash, or whose order in a time series, decides.
        train: Share of training examples; `k_fold` shares out what `test` leaves.
        folds: Folds of `k_fold`; of a time series, the windows that the validation share is cut into (rolling origin:
            each is judged by what was learned from all before it).
        fold: The fold that validates in this run; None: the first of `k_fold`, the last window of a time series.
        stratify: Column whose values must have the same share on every side.
        gap: Days (or units of `by` where that is a number) before each cut of a time series that belong to no side.
    """

    kind: SplitKind = SplitKind.HOLD_OUT
    table: Name
    by: Name
    train: Fraction = 0.0
    validation: Fraction = 0.0
    test: Fraction = 0.0
    seed: int = 0
    folds: Annotated[int, Field(ge=1, le=100)] = 1
    fold: Annotated[int, Field(ge=0)] | None = None
    stratify: Name | None = None
    gap: Annotated[float, Field(ge=0)] = 0.0
    leakage: LeakageSpec = LeakageSpec()

    @model_validator(mode="after")
    def _shares(self) -> SplitSpec:
        total = self.train + self.validation + self.test
        if self.kind is SplitKind.K_FOLD:
            if self.train or self.validation or self.test >= 1.0:
                raise ValueError("k_fold shares out what `test` leaves: give `test` below 1 and neither of the others")
        elif abs(total - 1.0) > 1e-9:
            raise ValueError(f"train + validation + test must be 1, not {total:g}")
        return self

    @model_validator(mode="after")
    def _fits_the_kind(self) -> SplitSpec:
        kind = self.kind.value
        folded = self.kind in {SplitKind.K_FOLD, SplitKind.TIME_SERIES}
        if self.kind is SplitKind.K_FOLD and self.folds < 2:
            raise ValueError("k_fold needs `folds`, two or more")
        if not folded and (self.folds != 1 or self.fold is not None):
            raise ValueError(f"{kind} has no folds")
        if self.fold is not None and self.fold >= self.folds:
            raise ValueError(f"there is no fold {self.fold}: the first of {self.folds} is 0")
        if (self.kind is SplitKind.STRATIFIED) > (self.stratify is not None):
            raise ValueError("stratified needs `stratify`, a column")
        if self.stratify and self.kind not in {SplitKind.STRATIFIED, SplitKind.K_FOLD}:
            raise ValueError(f"`stratify` goes with stratified and k_fold, not with {kind}")
        if self.kind is SplitKind.TIME_SERIES and self.folds > 1 and not self.validation:
            raise ValueError("`folds` cut the validation share: it must not be 0")
        if self.gap and self.kind is not SplitKind.TIME_SERIES:
            raise ValueError(f"`gap` goes with time_series, not with {kind}")
        if self.kind is SplitKind.TIME_SERIES and self.leakage.near_duplicates is NearDuplicates.TOGETHER:
            raise ValueError("near-duplicates cannot be kept together where the order of time decides")
        return self

    @property
    def near_duplicates(self) -> NearDuplicates:
        """What becomes of near-duplicates."""
        usual = NearDuplicates.REFUSE if self.kind is SplitKind.TIME_SERIES else NearDuplicates.TOGETHER
        return self.leakage.near_duplicates or usual
