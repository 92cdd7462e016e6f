"""What rows go through before the gate, and how training rows are multiplied: `data.prepare` in `family.yaml`.

The steps of a table run in the order of the file, each on one row at a time, before the gate, so that the suite judges
what a model will see. A row that a step cannot handle goes to quarantine with the step's name. Augmentations come last:
they make changed copies of training rows when a version is named, and touch no other row.

This module is imported when Airflow parses the DAG files: nothing heavy may be imported here.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from include.spec.base import Fraction, Name, SpecModel

Columns = Annotated[list[Name], Field(min_length=1)]
PersonalData = Literal["email", "phone", "card", "iban", "ip", "mac", "ssn", "nino", "vin", "name"]


class _Step(SpecModel):
    table: Name


class NormaliseText(_Step):
    """Unicode NFKC; runs of white space become one space; none at the ends. Null stays null."""

    transform: Literal["normalise_text"]
    columns: Columns


class TextLength(_Step):
    """The length of a text as a new column: 0 for null."""

    transform: Literal["text_length"]
    column: Name
    into: Name
    unit: Literal["characters", "words"] = "characters"


class DateParts(_Step):
    """Parts of a date, a time or an ISO 8601 text as new columns `<column>_<part>`; weekday: Monday is 0."""

    transform: Literal["date_parts"]
    column: Name
    parts: Annotated[list[Literal["year", "quarter", "month", "day", "weekday", "hour"]], Field(min_length=1)]


class OneHot(_Step):
    """A 0/1 column `<column>_<value>` for every value; another value cannot be handled, unless `unknown` is zeros."""

    transform: Literal["one_hot"]
    column: Name
    values: Annotated[list[str], Field(min_length=1, max_length=1000)]
    unknown: Literal["quarantine", "zeros"] = "quarantine"


class Ratio(_Step):
    """`numerator` over `denominator` as a new column; a missing value or a denominator of 0 cannot be handled."""

    transform: Literal["ratio"]
    numerator: Name
    denominator: Name
    into: Name


class MaskPersonalData(_Step):
    """Personal data in texts becomes `[email]`, `[phone]`, ... ; needs the extra `pii`.

    Attributes:
        kinds: What to look for; none: all that needs no language model.
        names: An installed spaCy pipeline that marks persons; goes with the kind `name`.
        keyed: Adds a keyed hash, `[email:3f9a1c2b]`: equal values stay equal, and only the key can tell which.
    """

    transform: Literal["mask_personal_data"]
    columns: Columns
    kinds: list[PersonalData] = []
    names: str | None = None
    keyed: bool = False


class Pseudonymise(_Step):
    """Whole values become keyed hashes (HMAC-SHA-256, 32 hex digits); equal values stay equal. Null stays null."""

    transform: Literal["pseudonymise"]
    columns: Columns


class Blank(_Step):
    """Values become null: for columns that the gate must have seen to be there, and nobody else may see."""

    transform: Literal["blank"]
    columns: Columns


class _Augmentation(_Step):
    """A changed copy of training rows.

    Attributes:
        share: Share of the training rows that get one.
    """

    column: Name
    share: Fraction = 0.5
    seed: int = 0


class TypingErrors(_Augmentation):
    """A copy in which letters of longer words are swapped, dropped or doubled."""

    transform: Literal["typing_errors"]
    rate: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1


class LetterCase(_Augmentation):
    """A copy in capitals or in small letters."""

    transform: Literal["letter_case"]
    case: Literal["upper", "lower"] = "lower"


class Phrasing(_Augmentation):
    """A copy that puts the text into one of the `templates`, each with `{text}` once."""

    transform: Literal["phrasing"]
    templates: Annotated[list[str], Field(min_length=1)]

    @model_validator(mode="after")
    def _have_a_place(self) -> Phrasing:
        for template in self.templates:
            if template.count("{text}") != 1 or template.strip() == "{text}":
                raise ValueError(f"a template must say something, with {{text}} once: {template!r}")
        return self


RowStep = NormaliseText | TextLength | DateParts | OneHot | Ratio | MaskPersonalData | Pseudonymise | Blank
Augmentation = TypingErrors | LetterCase | Phrasing
PrepareStep = Annotated[RowStep | Augmentation, Field(discriminator="transform")]

AUGMENTATIONS = (TypingErrors, LetterCase, Phrasing)
#: pydantic puts these into the location of an error; the file has no such level.
TRANSFORMS = frozenset(
    step.model_fields["transform"].annotation.__args__[0] for step in (*RowStep.__args__, *AUGMENTATIONS)
)
