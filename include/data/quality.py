"""The quality of a dataset version, measured once when it is published and kept beside its manifest.

| metric | what |
|---|---|
| validation rate | share of delivered rows with nothing wrong in themselves (repeated and late ones are not broken) |
| coverage | share of the values of one column that another speaks of, such as passages that a question cites |
| domains | examples per slice value: how many, how even (entropy over its maximum), the largest share |
| freshness | age in days of the newest and of the middle row when the version was published |
| diversity | share of different texts, share with a near-duplicate, share of different word pairs |
| accuracy | share of rows that agree with the benchmark's row on the same thing; not measured where there is none |

Nothing is estimated: what cannot be measured is None, with the reason. Of a large version the texts and slices of a
sample are measured, chosen by the digests of the rows, so that a row that is in the sample of one version is in that of
the next.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from itertools import pairwise

import pyarrow as pa
import pyarrow.compute as pc

from include.data.datasets import Dataset
from include.data.manifest import Manifest
from include.data.neighbours import near_duplicates, normalised
from include.data.records import LATE, Record
from include.errors import DataError, UserError
from include.spec.quality import CoverageSpec, QualitySpec, TruthSpec
from include.spec.sources import SourceRole

NO_TRUTH = "no source of these rows is a benchmark"
NEAR = 0.8  # Jaccard similarity of the pieces of two texts
MAX_TEXTS = 20_000  # some seconds of one core
_PAIRS = 20_000  # word pairs that are looked at: the share of different ones falls with their number
_WORD = re.compile(r"\w+")


class Coverage(Record):
    """Values of `of` that `by` speaks of; `missing` are the first few that it does not."""

    of: str
    by: str
    covered: int
    total: int
    at_least: float
    missing: list[str]

    @property
    def share(self) -> float:
        return self.covered / self.total if self.total else 1.0


class Domains(Record):
    """Examples per value of a slice. `evenness` is 1 where all values have as many, 0 where one has all."""

    slice: str
    values: int
    evenness: float
    largest: str
    largest_share: float


class Freshness(Record):
    """Days between a row's delivery and the publication."""

    newest_days: int
    median_days: int


class Diversity(Record):
    """Of the texts of one column.

    Attributes:
        measured: Texts that were looked at.
        distinct: Share of different texts after normalisation.
        near_duplicates: Share of texts that have another at least `NEAR` similar; None: see `why`.
        distinct_pairs: Share of different ones among the first word pairs (distinct-2; J. Li et al., "A
            Diversity-Promoting Objective Function for Neural Conversation Models", NAACL 2016).
    """

    column: str
    measured: int
    distinct: float
    near_duplicates: float | None
    why: str = ""
    distinct_pairs: float


class Quality(Record):
    """What the module says.

    Attributes:
        accuracy: None with the reason in `accuracy_why`, which otherwise says what was compared.
    """

    family: str
    version: str
    published_at: datetime
    rows: int
    validation_rate: float
    reasons: dict[str, int]
    coverage: list[Coverage]
    domains: list[Domains]
    freshness: Freshness
    diversity: Diversity | None
    accuracy: float | None = None
    accuracy_why: str = NO_TRUTH


def measure(dataset: Dataset, spec: QualitySpec, slices: Mapping[str, str], published_at: datetime) -> Quality:
    """The quality of a version.

    Args:
        slices: Slice -> column of the split table.

    Raises:
        UserError: The spec names a column that the data does not have.
    """
    manifest = dataset.manifest
    examples = next(name for name, table in manifest.tables.items() if table.splits)
    _require(manifest, [f"{examples}.{spec.text}"] if spec.text else [])
    _require(manifest, [f"{examples}.{name}" for name in (spec.truth.match, spec.truth.label)] if spec.truth else [])
    _require(manifest, [place for rule in spec.coverage for place in (rule.of, rule.by)])
    accuracy, why = _accuracy(dataset, examples, spec.truth)
    totals = manifest.totals
    valid = totals.rows_clean + totals.rows_duplicate + totals.reasons.get(LATE, 0)
    return Quality(
        family=manifest.family,
        version=manifest.version,
        published_at=published_at,
        rows=sum(table.rows for table in manifest.tables.values()),
        validation_rate=min(1.0, valid / totals.rows_in) if totals.rows_in else 1.0,
        reasons=totals.reasons,
        coverage=[_coverage(dataset, rule) for rule in spec.coverage],
        domains=[_domains(dataset, examples, name, column) for name, column in slices.items()],
        freshness=freshness(manifest, examples, published_at.date()),
        diversity=_diversity(dataset, examples, spec.text) if spec.text else None,
        accuracy=accuracy,
        accuracy_why=why,
    )


def _require(manifest: Manifest, places: Sequence[str]) -> None:
    for place in places:
        table, _, column = place.partition(".")
        known = [text.split(": ", 1)[0] for text in manifest.tables[table].columns]
        if column not in known:
            raise UserError(f"there is no column {place!r}", where="quality", hint=f"{table} has {', '.join(known)}")


def freshness(manifest: Manifest, examples: str, today: date) -> Freshness:
    """Ages by the rows that each delivery brought clean."""
    days = sorted(((today - delivery.delivered_on).days, delivery.rows_clean) for delivery in manifest.deliveries)
    half, seen, median = sum(rows for _, rows in days) / 2, 0, days[-1][0]
    for age, rows in days:
        seen += rows
        if seen >= half:
            median = age
            break
    return Freshness(newest_days=days[0][0], median_days=median)


def evenness(counts: Iterable[int]) -> float:
    """Shannon entropy over its maximum (Pielou's index); 1.0 for a single value."""
    found = [count for count in counts if count]
    if len(found) < 2:
        return 1.0
    total = sum(found)
    return -sum(count / total * math.log(count / total) for count in found) / math.log(len(found))


def _accuracy(dataset: Dataset, examples: str, truth: TruthSpec | None) -> tuple[float | None, str]:
    """Share of the rows of other sources that agree with the benchmark, and what was compared.

    A benchmark's row stands for its question whatever other sources say; of several, the first by key does. An exact
    copy of a row never gets into a version, so what is compared was written by somebody.
    """
    benchmarks = {name for name, role in dataset.manifest.sources.items() if role == SourceRole.BENCHMARK.value}
    others = set(dataset.manifest.sources) - benchmarks
    if truth is None or not benchmarks or not others:
        return None, NO_TRUTH if not benchmarks else "no other source to compare" if not others else "no quality.truth"
    key = dataset.manifest.tables[examples].key
    rows = dataset.columns(examples, [key, truth.match, truth.label, "source"]).sort_by(key).to_pylist()
    rows = [row for row in rows if row[truth.match] is not None and row[truth.label] is not None]
    known: dict[str, str] = {}
    for row in rows:
        if row["source"] in benchmarks:
            known.setdefault(normalised(str(row[truth.match])), _label(row[truth.label]))
    compared = [
        (_label(row[truth.label]), known[asked])
        for row in rows
        if row["source"] not in benchmarks and (asked := normalised(str(row[truth.match]))) in known
    ]
    if not compared:
        return None, f"no row of another source has the {truth.match} of a benchmark row"
    agree = sum(label == wanted for label, wanted in compared)
    said = f"{agree} of {len(compared)} rows have the {truth.label} of {', '.join(sorted(benchmarks))}"
    return agree / len(compared), said


def _label(value: object) -> str:
    """A label as it is compared."""
    if isinstance(value, list):
        return "\n".join(sorted(str(item) for item in value))
    return normalised(str(value))


def _coverage(dataset: Dataset, rule: CoverageSpec) -> Coverage:
    wanted, by = (_distinct(dataset, column) for column in (rule.of, rule.by))
    missing = wanted - by
    return Coverage(
        of=rule.of, by=rule.by, covered=len(wanted) - len(missing), total=len(wanted), at_least=rule.at_least,
        missing=sorted(missing)[:5],
    )  # fmt: skip


def _distinct(dataset: Dataset, place: str) -> set[str]:
    """Different values of `table.column`, those in lists included."""
    table, _, column = place.partition(".")
    found: set[str] = set()
    for batch in dataset.stream(table, [column]):
        values = batch.column(0)
        if pa.types.is_list(values.type) or pa.types.is_large_list(values.type):
            values = pc.list_flatten(values)
        found.update(str(value) for value in pc.unique(values).to_pylist() if value is not None)
    return found


def _domains(dataset: Dataset, examples: str, name: str, column: str) -> Domains:
    counts: Counter[str] = Counter()
    for batch in dataset.stream(examples, [column]):
        for entry in pc.value_counts(batch.column(0)).to_pylist():
            if entry["values"] is not None:
                counts[str(entry["values"])] += entry["counts"]
    largest, most = counts.most_common(1)[0] if counts else ("", 0)
    share = most / counts.total() if counts else 0.0
    even = evenness(counts.values())
    return Domains(slice=name, values=len(counts), evenness=even, largest=largest, largest_share=share)


def _diversity(dataset: Dataset, examples: str, column: str) -> Diversity:
    rows = dataset.sample(examples, [column], MAX_TEXTS)
    texts = [str(text) for text in rows.column(column).to_pylist() if text is not None]
    why, near = "", None
    try:
        pairs = near_duplicates(texts, NEAR)
        near = len({*pairs.first.tolist(), *pairs.second.tolist()}) / len(texts) if texts else 0.0
    except DataError as error:  # so many are alike that comparing them would not end: that is a finding as well
        why = error.message
    return Diversity(
        column=column,
        measured=len(texts),
        distinct=len({normalised(text) for text in texts}) / len(texts) if texts else 1.0,
        near_duplicates=near,
        why=why,
        distinct_pairs=distinct_pairs(texts),
    )


def distinct_pairs(texts: Sequence[str]) -> float:
    """Share of different ones among the first `_PAIRS` pairs of neighbouring words; 1.0 without any."""
    pairs: list[tuple[str, str]] = []
    for text in texts:
        words = _WORD.findall(text.casefold())
        pairs += pairwise(words)
        if len(pairs) >= _PAIRS:
            break
    return len(set(pairs[:_PAIRS])) / len(pairs[:_PAIRS]) if pairs else 1.0
