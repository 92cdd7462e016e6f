"""Runs Great Expectations over a table and says which rows fail what.

The library is used as a library: an ephemeral context, no files and no network. Importing it takes
seconds, so only this module and the suites do, and `validate` imports them only when there is something to check.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import great_expectations as gx  # noqa: TID253
import pyarrow as pa
from great_expectations.data_context.types.base import ProgressBarsConfig  # noqa: TID253
from great_expectations.expectations.expectation import Expectation  # noqa: TID253
from great_expectations.expectations.metadata_types import FailureSeverity  # noqa: TID253

from include.data.batches import PLACE
from include.data.records import SAMPLES, ExpectationCount
from include.errors import UserError

logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.WARNING)  # it sets itself to INFO
ROWS_PER_BATCH = 50_000
_ROW = "__row"


class SuiteError(UserError):
    """An expectation suite cannot be run: an expectation has no reason, or raised an error."""


@dataclass(frozen=True)
class Outcome:
    """What a suite found in one table.

    Attributes:
        reasons: Row number -> reasons of the expectations that the row failed, in the order of the suite; what only
            warns is not among them.
        counts: Every expectation with its counts.
    """

    reasons: dict[int, list[str]] = field(default_factory=dict)
    counts: list[ExpectationCount] = field(default_factory=list)


def run_suite(name: str, expectations: Sequence[Expectation], rows: pa.Table) -> Outcome:
    """Checks every row of `rows`; each expectation says in `meta["reason"]` what a failure of it is called.

    Raises:
        SuiteError: An expectation is not about rows, has no reason, or could not be evaluated.
    """
    suite = _suite(name, expectations)
    found: dict[str, set[int]] = {
        str(expectation.meta["reason"]): set() for expectation in suite.expectations if expectation.meta
    }
    evaluated: defaultdict[str, int] = defaultdict(int)
    for start in range(0, rows.num_rows, ROWS_PER_BATCH):
        for result in _validate(suite, rows.slice(start, ROWS_PER_BATCH), start):
            reason = result.expectation_config.meta["reason"]
            evaluated[reason] += int(result.result["element_count"])
            found[reason].update(int(entry[_ROW]) for entry in result.result.get("unexpected_index_list") or [])
    by_row: defaultdict[int, list[str]] = defaultdict(list)
    counts: list[ExpectationCount] = []
    for expectation in suite.expectations:
        reason = str((expectation.meta or {})["reason"])
        numbers, warns = found[reason], _warns(expectation)
        for number in () if warns else numbers:
            by_row[number].append(reason)
        counts.append(
            ExpectationCount(
                reason=reason,
                description=expectation.description or expectation.expectation_type,
                evaluated=evaluated[reason],
                failed=len(numbers),
                warns=warns,
                samples=_places(rows, numbers) if warns else [],
            )
        )
    return Outcome(dict(by_row), counts)


def _warns(expectation: Expectation) -> bool:
    return bool(expectation.severity < FailureSeverity.CRITICAL)


def _places(rows: pa.Table, numbers: set[int]) -> list[str]:
    first = sorted(numbers)[:SAMPLES]
    return [rows.column(PLACE)[number].as_py() for number in first]


def _suite(name: str, expectations: Sequence[Expectation]) -> gx.ExpectationSuite:
    reasons = [(expectation.meta or {}).get("reason") for expectation in expectations]
    if None in reasons or len(set(reasons)) < len(reasons):
        raise _suite_error(name, f"every expectation needs a reason of its own in its `meta`: {reasons}")
    return gx.ExpectationSuite(name=name, expectations=list(expectations))


def _validate(suite: gx.ExpectationSuite, rows: pa.Table, start: int) -> list[Any]:
    columns = sorted({column for expectation in suite.expectations if (column := getattr(expectation, "column", None))})
    frame = rows.select(columns).to_pandas()
    frame[_ROW] = range(start, start + rows.num_rows)
    batch = _rows().get_batch(batch_parameters={"dataframe": frame})
    form = {
        "result_format": "COMPLETE",
        "unexpected_index_column_names": [_ROW],
        "return_unexpected_index_query": False,
    }
    results = batch.validate(suite, result_format=form).results
    for result in results:
        kind = result.expectation_config.type if result.expectation_config else "an expectation"
        if result.exception_info and result.exception_info.get("raised_exception", True):
            message = result.exception_info.get("exception_message") or result.exception_info
            raise _suite_error(suite.name, f"{kind} could not be evaluated: {message}")
        if "element_count" not in result.result:
            raise _suite_error(suite.name, f"{kind} is not about rows")
    return list(results)


@lru_cache(maxsize=1)
def _rows() -> Any:
    """Where frames are handed to the library; making a context anew for every table takes longer than the checks."""
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    return (
        context.data_sources.add_pandas("rows").add_dataframe_asset("rows").add_batch_definition_whole_dataframe("rows")
    )


def _suite_error(name: str, message: str) -> SuiteError:
    return SuiteError(message, where=f"include/expectations/{name}.py", hint="mend the suite")
