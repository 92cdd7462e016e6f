"""The records that the data steps hand to each other, as they stand in results, XComs and the object store."""

from __future__ import annotations

from collections import Counter
from datetime import date, datetime

from pydantic import BaseModel, ConfigDict

from include.steps.fingerprint import fingerprint

SAMPLES = 3  # places that are kept of the rows with a reason
LATE = "late"  # the reason of rows that came after newer ones, where the source's rule does not let them in


class Record(BaseModel):
    """Base of the records: immutable, closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IngestedDelivery(Record):
    """A delivery whose raw batch lies in the object store.

    Attributes:
        delivery: Its name at the source.
        delivered_on: The day it belongs to.
        digest: sha256 (hex) of its files.
        rows_in: Records in it, those that could not be parsed included.
        batch_key: Object-key prefix of the raw batch.
        earlier: Key of the list of deliveries before this run's interval; None where there are none.
    """

    delivery: str
    delivered_on: date
    digest: str
    rows_in: int
    batch_key: str
    earlier: str | None = None

    @property
    def source(self) -> str:
        """Id of its source."""
        return self.batch_key.split("/")[2]


class RowCounts(Record):
    """Rows that came in and what became of them: `rows_in = rows_clean + rows_quarantined + rows_duplicate`, always."""

    rows_in: int = 0
    rows_clean: int = 0
    rows_quarantined: int = 0
    rows_duplicate: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        names = RowCounts.model_fields
        return RowCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})


class ExpectationCount(Record):
    """How one expectation went on one table.

    Attributes:
        warns: Whether a row that fails it stays clean: it is counted and shown, and nothing else.
        samples: Places of the first few rows that a warning is about; those of other reasons are in `TableCheck`.
    """

    reason: str
    description: str
    evaluated: int
    failed: int
    warns: bool = False
    samples: list[str] = []

    def plus(self, other: ExpectationCount) -> ExpectationCount:
        """The count over the rows of both."""
        update = {"evaluated": self.evaluated + other.evaluated, "failed": self.failed + other.failed}
        return self.model_copy(update={**update, "samples": [*self.samples, *other.samples][:SAMPLES]})


class ClassifierScore(Record):
    """Area under the ROC curve on held-out pairs, with its 95% interval."""

    auc: float
    low: float
    high: float


class PairReport(Record):
    """How the validation of question and answer pairs went (see `include.data.qa`), and how well its classifiers do.

    Attributes:
        judged: Pairs that were judged: none where there were fewer than `needed` to learn from.
        without_answer: Rows that have no answer to judge.
        released: Pairs that are not judged because people did.
        uncertain: Judged pairs that wait for people; `bad` are those that went to quarantine for good.
        trained_on: Pairs that the classifiers learnt from, earlier deliveries included.
        classifiers: Name of a validator or classifier -> how well it tells sound from corrupted pairs.
        sound_passed: Share of the pairs of the training that are judged sound, each by models that have not seen it.
        caught: Kind of corruption -> share of the corrupted copies that are not; `corrupted` says of how many.
    """

    judged: int = 0
    without_answer: int = 0
    released: int = 0
    needed: int = 0
    uncertain: int = 0
    bad: int = 0
    trained_on: int = 0
    classifiers: dict[str, ClassifierScore] = {}
    sound_passed: float = 0.0
    caught: dict[str, float] = {}
    corrupted: dict[str, int] = {}


class TableCheck(Record):
    """What became of one table of a delivery.

    Attributes:
        rows_in: Records that came in for the table.
        rows_clean: Rows that passed.
        rows_duplicate: Rows that lie in quarantine only because the same row is already there.
        min_valid_rate: From the spec.
        reasons: Reason -> rows that have it; a row may have several.
        samples: Reason -> places of the first few rows.
        prepared: Step of `data.prepare` -> rows that it changed.
        waived: Reason -> clean rows that have it and that a person released in spite of it.
        pairs: Of the validation of pairs, where the spec asks for it.
        clean_key: Key of the clean rows (Parquet).
        content: sha256 (hex) of the clean rows, whatever their order.
        expectations: Every expectation with its counts.
    """

    rows_in: int
    rows_clean: int
    rows_duplicate: int
    min_valid_rate: float
    reasons: dict[str, int]
    samples: dict[str, list[str]]
    clean_key: str
    content: str
    expectations: list[ExpectationCount] = []
    waived: dict[str, int] = {}
    prepared: dict[str, int] = {}
    pairs: PairReport | None = None

    @property
    def counts(self) -> RowCounts:
        """What became of the rows."""
        return RowCounts(
            rows_in=self.rows_in,
            rows_clean=self.rows_clean,
            rows_quarantined=self.rows_in - self.rows_clean - self.rows_duplicate,
            rows_duplicate=self.rows_duplicate,
        )

    @property
    def valid_rate(self) -> float:
        """Share of rows with nothing wrong in themselves: a repeated or a late row is not a broken one."""
        held = self.rows_clean + self.rows_duplicate + self.reasons.get(LATE, 0)
        return 1.0 if self.rows_in == 0 else held / self.rows_in

    @property
    def passed(self) -> bool:
        return self.valid_rate >= self.min_valid_rate


class DeliveryCheck(Record):
    """What became of a delivery: the content of `check.json`, written last of all of its files.

    Attributes:
        suite: Name of the suite; `suite_version` is the number that its author gave it, and `suite_digest` the sha256
            (hex) of its source.
        batch_key: Object-key prefix of the raw batch that was checked.
        checked_at: When; of several checks of one delivery the newest counts for people.
    """

    delivery: str
    delivered_on: date
    digest: str
    suite: str
    suite_version: str = ""
    suite_digest: str = ""
    tables: dict[str, TableCheck]
    quarantine_key: str
    keys_key: str
    batch_key: str = ""
    checked_at: datetime | None = None

    @property
    def passed(self) -> bool:
        return all(table.passed for table in self.tables.values())

    def summary(self, check_key: str, earlier: str | None) -> CheckedDelivery:
        """The record that goes on to `publish`."""
        reasons: Counter[str] = Counter()
        waived: Counter[str] = Counter()
        for table in self.tables.values():
            reasons.update(table.reasons)
            waived.update(table.waived)
        tables = {name: table.counts for name, table in self.tables.items()}
        return CheckedDelivery(
            delivery=self.delivery,
            delivered_on=self.delivered_on,
            digest=self.digest,
            suite=self.suite,
            suite_version=self.suite_version,
            suite_digest=self.suite_digest,
            check_key=check_key,
            check_digest=fingerprint(check=self.model_dump(mode="json", exclude={"checked_at"})),
            clean_keys={name: table.clean_key for name, table in self.tables.items()},
            content={name: table.content for name, table in self.tables.items()},
            quarantine_key=self.quarantine_key,
            **sum(tables.values(), RowCounts()).model_dump(),
            tables=tables,
            reasons=dict(sorted(reasons.items())),
            waived=dict(sorted(waived.items())),
            prepared={name: table.prepared for name, table in sorted(self.tables.items()) if table.prepared},
            earlier=earlier,
        )


class CheckedDelivery(RowCounts):
    """A delivery that passed the gate, with its rows over all tables.

    Attributes:
        suite, suite_version, suite_digest: The expectation suite that it passed, its number, and the sha256 (hex) of
            its source.
        check_key: Key of its `check.json`, which holds the counts of every expectation.
        check_digest: sha256 (hex) of that check's content.
        clean_keys: Table -> key of its clean rows (Parquet).
        content: Table -> sha256 (hex) of the clean rows, whatever their order.
        quarantine_key: Key of its quarantined rows and duplicates (Parquet).
        tables: Table -> what became of its rows.
        reasons: Reason -> quarantined rows of all tables that have it.
        waived: Reason -> clean rows of all tables that have it and were released in spite of it.
        prepared: Table -> step of `data.prepare` -> rows that it changed.
        earlier: Key of the list of checked deliveries before this run's interval; None where there are none.
    """

    delivery: str
    delivered_on: date
    digest: str
    suite: str = ""
    suite_version: str = ""
    suite_digest: str = ""
    check_key: str
    check_digest: str = ""
    clean_keys: dict[str, str]
    content: dict[str, str]
    quarantine_key: str
    tables: dict[str, RowCounts] = {}
    reasons: dict[str, int]
    waived: dict[str, int] = {}
    prepared: dict[str, dict[str, int]] = {}
    earlier: str | None = None

    @property
    def source(self) -> str:
        """Id of its source."""
        return self.check_key.split("/")[2]

    @property
    def names(self) -> tuple[str, str]:
        """What people may call it: its whole name, and that without the source that may stand before it."""
        return self.delivery, self.delivery.removeprefix(f"{self.source}.")


class Totals(RowCounts):
    """Rows over several deliveries, and the reasons of those that are not clean."""

    reasons: dict[str, int]

    @classmethod
    def of(cls, deliveries: list[CheckedDelivery]) -> Totals:
        reasons: Counter[str] = Counter()
        for delivery in deliveries:
            reasons.update(delivery.reasons)
        counts = sum(deliveries, RowCounts())
        return cls(**counts.model_dump(), reasons=dict(sorted(reasons.items())))
