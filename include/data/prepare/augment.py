"""Makes changed copies of training rows. No other row is copied, and no copy is ever validated or tested on.

A copy carries the key of its row in `augmented_from` and the step in `augmented_by`; its own key is made of both. What
changes is drawn from the row's key and the step's seed alone: the same row always has the same copy. A copy whose text
a row of another side has is left out.
"""

from __future__ import annotations

import random
from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import BaseModel, ConfigDict

from include.data.batches import write_parquet
from include.data.neighbours import normalised
from include.data.prepare.slips import misspelt
from include.data.splits import TRAIN, marks_of, split_point
from include.errors import UserError
from include.spec.models import BaseFamilySpec
from include.spec.prepare import AUGMENTATIONS, Augmentation, LetterCase, Phrasing, TypingErrors
from include.steps.fingerprint import fingerprint
from include.store.objects import ObjectStore

FROM, BY = "augmented_from", "augmented_by"
VERSIONS = {"typing_errors": 1, "letter_case": 1, "phrasing": 1}
_DIGEST, _SPLIT = "digest", "split"


class Augmented(BaseModel):
    """The copies of a version, as the manifest tells of them.

    Attributes:
        key: Object key of the copies (Parquet); None where there are none.
        digest: sha256 (hex) over them.
        copies: Step -> copies. left_out: Step -> rows whose copy would be the row itself, or is on another side.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str | None
    digest: str
    copies: dict[str, int]
    left_out: dict[str, int]


def augmentations(spec: BaseFamilySpec) -> list[Augmentation]:
    """The augmentations of the spec, in their order."""
    return [step for step in spec.data.prepare if isinstance(step, AUGMENTATIONS)]


def describe_augmentations(spec: BaseFamilySpec) -> list[tuple[str, dict[str, Any]]]:
    """Every augmentation with the version of its code and its parameters, as the manifest has it."""
    return [
        (step.transform, {"version": VERSIONS[step.transform], **step.model_dump(mode="json", exclude={"transform"})})
        for step in augmentations(spec)
    ]


def augment(store: ObjectStore, spec: BaseFamilySpec, rows: pa.Table, key: str, location: str) -> Augmented:
    """Makes the copies for `rows`, whose column `split` has the marks that count, and stores them.

    Raises:
        UserError: The key, or a column to change, is no text.
    """
    for column in {key, *(step.column for step in augmentations(spec))}:
        if column not in rows.column_names or not pa.types.is_string(rows.schema.field(column).type):
            raise UserError(f"{column!r} is no column of text", where="data.prepare", hint="augmentations copy texts")
    split = spec.split
    train = frozenset[str]().union(*(marks_of(split.kind, split.folds, n, TRAIN) for n in range(split.folds)))
    learnable = rows.filter(pc.is_in(rows.column(_SPLIT), pa.array(sorted(train)))).sort_by(key)
    copies: list[dict[str, Any]] = []
    made: Counter[str] = Counter()
    left_out: Counter[str] = Counter()
    for step in augmentations(spec):
        sides = _sides(rows, step.column)
        for row in _chosen(learnable, key, step):
            text = _changed(step, row[step.column], f"{step.seed}\0{row[key]}")
            if text == row[step.column] or sides[normalised(text)] - {row[_SPLIT]}:
                left_out[step.transform] += 1
                continue
            digest = fingerprint(origin=row[_DIGEST], step=step.transform, text=text)
            name = f"{row[key]}~{step.transform}"
            copies.append({**row, step.column: text, key: name, _DIGEST: digest, FROM: row[key], BY: step.transform})
            made[step.transform] += 1
    digest = fingerprint(copies=[[row[_DIGEST], row[_SPLIT]] for row in copies])
    place = f"{location}-augmented/{digest[:20]}.parquet" if copies else None
    if place and not store.exists(place):
        schema = pa.schema([*learnable.schema, (FROM, pa.string()), (BY, pa.string())])
        write_parquet(store, place, pa.Table.from_pylist(copies, schema))
    return Augmented(key=place, digest=digest, copies=dict(made), left_out=dict(left_out))


def _chosen(rows: pa.Table, key: str, step: Augmentation) -> list[dict[str, Any]]:
    """The rows that get a copy: those whose key has its point under the share."""
    keys = rows.column(key).to_pylist()
    chosen = [split_point(step.seed, f"{step.transform}\0{value}") < step.share for value in keys]
    return [row for row in rows.filter(pa.array(chosen, pa.bool_())).to_pylist() if row[step.column]]


def _sides(rows: pa.Table, column: str) -> Mapping[str, set[str]]:
    """Normalised text -> marks of the rows that have it."""
    found: defaultdict[str, set[str]] = defaultdict(set)
    for text, mark in zip(rows.column(column).to_pylist(), rows.column(_SPLIT).to_pylist(), strict=True):
        if text:
            found[normalised(text)].add(mark)
    return found


def _changed(step: Augmentation, text: str, draw: str) -> str:
    rng = random.Random(f"{step.transform}\0{draw}")
    match step:
        case LetterCase():
            return text.upper() if step.case == "upper" else text.lower()
        case Phrasing():
            return rng.choice(step.templates).replace("{text}", text.strip())
        case TypingErrors():
            return misspelt(rng, text, step.rate)
