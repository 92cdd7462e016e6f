"""Reviews: uncertain pairs go to people, and what they agree to be right is released.

A review is one run of `review__<family>`. Its batch and its outcome lie in the object store; the ledger has one entry
for the outcome. A pair that people found right or wrong is not asked about again; one that too few answered, or on
which they differ, stays in quarantine and may come up in a later review.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.compute as pc

from include.data.batches import stream_parquet
from include.data.qa.agreement import Answer, fleiss_kappa, observed_agreement, settled
from include.data.qa.gate import NEEDS_REVIEW
from include.data.qa.issues import confidence_in
from include.data.quarantine import (
    QuarantinedDelivery,
    QuarantinedRow,
    list_quarantine,
    newest_checks,
    quarantined_rows,
)
from include.data.readmit import Wish, release
from include.data.records import Record
from include.data.released import list_releases, released_rows
from include.release.ledger import Event, Ledger
from include.spec.models import BaseFamilySpec
from include.spec.pairs import QaSpec
from include.store.objects import ObjectStore

_ALL = 1_000_000


class ReviewPair(Record):
    """A pair as a reviewer sees it; `source`, `delivery` and `place` say where it is in quarantine."""

    source: str
    delivery: str
    place: str
    question: str
    answer: str
    evidence: str
    doubt: str

    @property
    def name(self) -> str:
        return f"{self.source}/{self.delivery}/{self.place}"


class Reviewed(Record):
    """What one reviewer said: name of a pair -> answer. A reviewer who gave no answer in time has none."""

    reviewer: str | None
    answers: dict[str, Answer]


class ReviewOutcome(Record):
    """What a review came to.

    Attributes:
        right, wrong, open: Names of the pairs that people found right or wrong, and of those that stay undecided.
        agreement: Share of equal answers among all couples of answers to one pair; `kappa` is Fleiss' kappa.
        releases: Deliveries that were made of the right ones.
    """

    right: list[str]
    wrong: list[str]
    open: list[str]
    reviewers: list[str]
    agreement: float | None
    kappa: float | None
    releases: list[str]


def choose_batch(store: ObjectStore, ledger: Ledger, spec: BaseFamilySpec, qa: QaSpec) -> list[ReviewPair]:
    """The pairs that people should look at next, at most `qa.review.budget`; empty where none waits."""
    from include.data.qa.selection import choose

    waiting = _waiting(store, ledger, spec.family)
    if not waiting:
        return []
    values = [json.loads(row.values) for _, row in waiting]
    texts = [f"{value[qa.question]} {value[qa.answer]}" for value in values]
    chosen = choose(texts, [confidence_in(row.detail) for _, row in waiting], qa.review.budget)
    cited = {key for number in chosen for key in values[number][qa.citations]}
    passages = _passages(store, spec, qa, cited)
    return [
        ReviewPair(
            source=waiting[number][0].source,
            delivery=waiting[number][0].delivery,
            place=waiting[number][1].place,
            question=values[number][qa.question],
            answer=values[number][qa.answer],
            evidence="\n\n".join(passages[key] for key in values[number][qa.citations] if key in passages),
            doubt=waiting[number][1].detail,
        )
        for number in chosen
    ]


def store_batch(store: ObjectStore, run: str, pairs: Sequence[ReviewPair]) -> str:
    """Keeps the batch of a review; returns its key."""
    key = f"reviews/{run}/batch.json"
    store.put(key, json.dumps([pair.model_dump(mode="json") for pair in pairs], indent=1).encode())
    return key


def read_batch(store: ObjectStore, key: str) -> list[ReviewPair]:
    """The batch of a review. Raises `ObjectNotFound`."""
    return [ReviewPair.model_validate(record) for record in json.loads(store.get(key))]


def settle(
    store: ObjectStore,
    ledger: Ledger,
    spec: BaseFamilySpec,
    qa: QaSpec,
    run: str,
    pairs: Sequence[ReviewPair],
    reviews: Sequence[Reviewed],
    *,
    at: datetime,
) -> ReviewOutcome:
    """Counts the answers, releases what people agree to be right, and keeps the outcome. Once, however often called."""
    answers = _answers(pairs, reviews)
    reviewers = sorted({review.reviewer for review in reviews if review.reviewer and review.answers})
    wanted = qa.review
    found = {name: settled(given, wanted.reviewers, wanted.agreement) for name, given in answers.items()}
    right = [pair for pair in pairs if found[pair.name] is Answer.RIGHT]
    agreement = observed_agreement(list(answers.values()))
    kappa = fleiss_kappa(list(answers.values()))
    outcome = ReviewOutcome(
        right=[pair.name for pair in right],
        wrong=[name for name, answer in found.items() if answer is Answer.WRONG],
        open=[name for name, answer in found.items() if answer is None],
        reviewers=reviewers,
        agreement=None if agreement is None else round(agreement, 4),
        kappa=None if kappa is None else round(kappa, 4),
        releases=_release(store, ledger, spec, run, right, reviewers, at),
    )
    record = outcome.model_dump(mode="json") | {"answers": {name: list(given) for name, given in answers.items()}}
    store.put(f"reviews/{run}/outcome.json", json.dumps(record, indent=1).encode())
    ledger.append(
        spec.family,
        Event.PAIRS_REVIEWED,
        key=f"pairs_reviewed:{run}",
        actor=run,
        at=at,
        record={"outcome": f"reviews/{run}/outcome.json", **outcome.model_dump(mode="json")},
    )
    return outcome


def _answers(pairs: Sequence[ReviewPair], reviews: Sequence[Reviewed]) -> dict[str, list[Answer]]:
    """Name of a pair -> the answers of different people; who answers twice counts once, with the first."""
    found: dict[str, dict[str, Answer]] = {pair.name: {} for pair in pairs}
    for review in reviews:
        for name, answer in review.answers.items():
            if review.reviewer and name in found:
                found[name].setdefault(review.reviewer, answer)
    return {name: list(given.values()) for name, given in found.items()}


def _release(
    store: ObjectStore,
    ledger: Ledger,
    spec: BaseFamilySpec,
    run: str,
    right: Sequence[ReviewPair],
    reviewers: Sequence[str],
    at: datetime,
) -> list[str]:
    made = []
    for entry in list_quarantine(store, spec.family):
        there = {row.place for row in quarantined_rows(store, entry.key, NEEDS_REVIEW)}
        places = {p.place for p in right if (p.source, p.delivery) == (entry.source, entry.delivery)} & there
        if places:
            by = f"{', '.join(reviewers)} (review {run})"
            wish = Wish(frozenset({NEEDS_REVIEW}), frozenset(places), None, by, "reviewers found them right")
            name = release(store, ledger, spec, entry, wish, binding=(), at=at).name
            made += [name] if name else []
    return made


def _waiting(store: ObjectStore, ledger: Ledger, family: str) -> list[tuple[QuarantinedDelivery, QuarantinedRow]]:
    """Quarantined pairs that wait for people: not released, and not judged right or wrong by people."""
    reviewed = ledger.entries(family, frozenset({Event.PAIRS_REVIEWED}), _ALL)
    done = {name for entry in reviewed for name in (*entry.record["right"], *entry.record["wrong"])}
    releases = list_releases(ledger, family)
    found = []
    for entry in list_quarantine(store, family):
        released = {row.place for row in released_rows(store, releases, entry.delivery)}
        for row in quarantined_rows(store, entry.key, NEEDS_REVIEW):
            if row.place not in released and f"{entry.source}/{entry.delivery}/{row.place}" not in done:
                found.append((entry, row))
    return found


def _passages(store: ObjectStore, spec: BaseFamilySpec, qa: QaSpec, keys: set[str]) -> Mapping[str, str]:
    """Texts of the cited passages, from the clean rows of the newest checks."""
    column, found = spec.data.tables[qa.passages].key, {}
    for _, check in newest_checks(store, spec.family):
        for piece in stream_parquet(store, check.tables[qa.passages].clean_key):
            wanted = piece.filter(pc.is_in(piece.column(column), value_set=pa.array(sorted(keys), pa.string())))
            for row in wanted.to_pylist():
                found[row[column]] = "\n".join(row[name] for name in qa.texts if row[name])
    return found
