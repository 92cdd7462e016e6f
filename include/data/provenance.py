"""How a dataset version was made: the steps that its rows went through, with what decided their outcome.

Which deliveries came in, and which check each of them passed, stands beside the deliveries themselves (see
`CheckedDelivery`). The code's version covers every line that ran; what is listed here are the parameters, so that two
versions can be compared by a person.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from include.data.prepare.augment import describe_augmentations
from include.data.prepare.rows import describe_steps
from include.data.records import Record
from include.data.splits import describe_split
from include.spec.models import BaseFamilySpec
from include.steps.fingerprint import fingerprint

_WHERE = {"url", "connection"}  # where a source lies does not change what its rows become

#: Libraries whose release can change what a row becomes.
SOFTWARE = ("deltalake", "great-expectations", "pandas", "pyarrow")


class Transformation(Record):
    """One step on the way from delivered records to published rows.

    Attributes:
        name: What it is called, such as `read`.
        what: What it does, in words.
        parameters: Everything that can be set and changes its outcome.
        digest: sha256 (hex) of name and parameters: equal digests and equal code, equal outcome.
    """

    name: str
    what: str
    parameters: dict[str, Any]
    digest: str

    @classmethod
    def of(cls, name: str, what: str, **parameters: Any) -> Transformation:
        return cls(name=name, what=what, parameters=parameters, digest=fingerprint(name=name, parameters=parameters))


def transformations(spec: BaseFamilySpec) -> list[Transformation]:
    """The steps that every row of a version went through, in their order."""
    data = spec.data
    tables = {name: table.model_dump(mode="json") for name, table in data.tables.items()}
    split = spec.split.model_dump(mode="json", exclude={"fold"})  # which fold validates is no property of the rows
    return [
        Transformation.of(
            "read",
            "files become records of the family's tables",
            sources={name: source.model_dump(mode="json", exclude=_WHERE) for name, source in data.sources.items()},
            max_row_bytes=data.max_row_bytes,
        ),
        *(
            Transformation.of(name, "rows are prepared before the gate", **parameters)
            for name, parameters in describe_steps(spec)
        ),
        Transformation.of(
            "validate", "rows that fail an expectation go to quarantine", suite=data.suite, tables=tables
        ),
        Transformation.of(
            "deduplicate",
            "a row with a key or with values that were clean before goes to quarantine",
            keys={name: table.key for name, table in data.tables.items()},
        ),
        Transformation.of("split", f"examples are divided: {describe_split(spec.split)}", **split),
        *(
            Transformation.of(name, "training rows get changed copies", **parameters)
            for name, parameters in describe_augmentations(spec)
        ),
    ]


def software() -> dict[str, str]:
    """Library -> installed version, of `SOFTWARE`; a library that is not installed is left out."""
    found = {}
    for name in SOFTWARE:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
