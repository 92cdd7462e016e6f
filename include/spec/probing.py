"""The spec of what a candidate is asked beyond the test split: changed requests, groups, and what its package holds.

Every change is drawn from its seed and the example's id alone, so that two models meet the same changed requests. The
metrics that come out are named after the change, and gates ask for them like for any other:

* `<metric>_under_<name>`: the metric on changed requests. With `reference: clean` a gate compares it with the same
  requests unchanged, in pairs.
* `handled_under_<name>`: share of the changed requests that got a well-formed answer or a clear refusal.

This module is imported when Airflow parses the DAG files: nothing heavy may be imported here.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from include.spec.base import Fraction, Name, SpecModel
from include.spec.prepare import PersonalData

#: What gates call the same requests without the change.
CLEAN = "clean"
#: Joins a metric and the name of a change.
UNDER = "_under_"
HANDLED = "handled"
SMALLEST_GROUP = 20

_Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]


class _Change(SpecModel):
    """A way to change requests.

    Attributes:
        name: Names its metrics.
        fields: Inputs that are changed; none: all texts, and of `missing` and `empty` any input.
        seed: Another seed changes the same requests in another way.
    """

    name: _Name
    fields: list[Name] = []
    seed: int = 0


class Misspelling(_Change):
    """Letters of longer words are swapped, dropped or doubled; `rate` is the share of the words."""

    change: Literal["misspelling"]
    rate: Annotated[float, Field(gt=0.0, le=1.0)] = 0.15


class Case(_Change):
    """All capitals, all small letters, or either by the letter."""

    change: Literal["case"]
    case: Literal["upper", "lower", "mixed"] = "lower"


class Rewording(_Change):
    """The same said in other words: phrases that are replaced, and sentences that are put around it.

    Attributes:
        phrases: Phrase -> what it is replaced by, one of them at a time; whole words, in any case.
        templates: Each holds `{text}` once.
    """

    change: Literal["rewording"]
    phrases: dict[str, Annotated[list[str], Field(min_length=1)]] = {}
    templates: list[str] = []

    @model_validator(mode="after")
    def _says_something_else(self) -> Rewording:
        if not self.phrases and not self.templates:
            raise ValueError("give `phrases`, `templates`, or both")
        if any(not re.search(r"\w", phrase) for phrase in self.phrases):
            raise ValueError("a phrase to replace must hold a word")
        for template in self.templates:
            if template.count("{text}") != 1:
                raise ValueError(f"a template must hold {{text}} once: {template!r}")
        return self


class Truncation(_Change):
    """Only the beginning is left: this share of the words, and one at least."""

    change: Literal["truncation"]
    keep: Annotated[float, Field(gt=0.0, lt=1.0)] = 0.5


class Empty(_Change):
    """A text is empty or white space; a number is null."""

    change: Literal["empty"]


class Missing(_Change):
    """An input is not sent."""

    change: Literal["missing"]


class OutOfScope(_Change):
    """Requests that the model cannot know the answer to. It should not be sure of one.

    Their metrics are `unsure_under_<name>`, the share with a confidence below `below`, and `told_apart_under_<name>`,
    the chance that an example of the split has more confidence than such a request (the area under the ROC curve).

    Attributes:
        requests: Inputs by name, as a client sends them.
        confidence: Number of the answer record that says how sure the model is.
    """

    change: Literal["out_of_scope"]
    requests: Annotated[list[dict[str, Any]], Field(min_length=1, max_length=1000)]
    confidence: Name = "confidence"
    below: Fraction = 0.5


Change = Annotated[
    Misspelling | Case | Rewording | Truncation | Empty | Missing | OutOfScope, Field(discriminator="change")
]
#: pydantic puts these into the location of an error; the file has no such level.
CHANGES = frozenset({"misspelling", "case", "rewording", "truncation", "empty", "missing", "out_of_scope"})
#: Changes after which the truth is still the truth, so that quality can be measured.
SAME_TRUTH = (Misspelling, Case, Rewording, Truncation)


class RobustnessSpec(SpecModel):
    """How requests are changed, and how many of the test split are.

    Attributes:
        examples: So many of the split, the same for every candidate on a dataset; where a gate that blocks stays open,
            three times as many, up to the whole split.
        importance: Whether families with several inputs are asked which of them matter: each input is shuffled among
            the examples, and what that costs in quality is its importance.
    """

    changes: list[Change] = []
    examples: Annotated[int, Field(ge=10)] = 100
    importance: bool = True

    @field_validator("changes")
    @classmethod
    def _unique_names(cls, changes: list[Any]) -> list[Any]:
        names = [change.name for change in changes]
        if repeated := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"names of changes must differ; repeated: {', '.join(repeated)}")
        return changes


class FairnessSpec(SpecModel):
    """Which groups should fare alike.

    Their metrics are `<metric>_gap_<slice>`, the best group's minus the worst's, and `<metric>_worst_<slice>`, the
    worst group's own. Both intervals hold for all groups at once.

    Attributes:
        slices: Slices whose groups are compared.
        metrics: None: all of the family's evaluation.
        smallest: Groups with fewer examples are shown, and not compared.
    """

    slices: Annotated[list[Name], Field(min_length=1)]
    metrics: list[Name] = []
    smallest: Annotated[int, Field(ge=2)] = SMALLEST_GROUP


class PersonalDataSpec(SpecModel):
    """Looks for personal data in what ships: the package's texts, the model card, known cases. Needs the extra `pii`.

    The metric is `personal_data`, the number of places.

    Attributes:
        kinds: What to look for; none: all that needs no language model.
        names: An installed spaCy pipeline that marks persons; goes with the kind `name`.
        allow: Regular expressions of texts that may ship, such as the rulebook's own telephone number.
    """

    kinds: list[PersonalData] = []
    names: str | None = None
    allow: list[str] = []

    @field_validator("allow")
    @classmethod
    def _compile(cls, allow: list[str]) -> list[str]:
        for pattern in allow:
            try:
                re.compile(pattern)
            except re.error as error:
                raise ValueError(f"{pattern!r} is no regular expression: {error}") from None
        return allow
