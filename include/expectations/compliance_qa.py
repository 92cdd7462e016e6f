"""What passages and questions of compliance_qa must satisfy.

Personal data is looked for in questions and answers, which people wrote, and not in passages: a published rule book
may give an address of the regulator.

Imports Great Expectations, which takes seconds: `validate` loads a suite only when there is something to check.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from great_expectations.expectations.core.expect_column_value_lengths_to_be_between import (  # noqa: TID253
    ExpectColumnValueLengthsToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_between import (  # noqa: TID253
    ExpectColumnValuesToBeBetween,
)
from great_expectations.expectations.core.expect_column_values_to_be_null import (  # noqa: TID253
    ExpectColumnValuesToBeNull,
)
from great_expectations.expectations.core.expect_column_values_to_match_regex import (  # noqa: TID253
    ExpectColumnValuesToMatchRegex,
)
from great_expectations.expectations.expectation import Expectation  # noqa: TID253

from include.expectations.forms import matches
from include.expectations.known import Known
from include.expectations.text_faults import personal_data, wrong_encoding

VERSION = "1.0.0"
TABLES = ("passages", "questions")
#: A waiver cannot lift these: keys name the rows, and every question needs a passage that exists.
BINDING = frozenset(
    {"wrong_key", "missing_key", "empty_passage", "empty_question", "missing_citation", "unknown_passage"}
)
MAX_PASSAGE = 200_000
MAX_QUESTION = 4_000
MAX_ANSWER = 20_000


def prepare(table: str, rows: pa.Table, known: Known) -> pa.Table:
    """`rows` with the columns that only expectations look at; `known` holds the passages a question may cite."""
    columns = ("heading", "text") if table == "passages" else ("question", "answer")
    texts = [rows.column(name).to_pylist() for name in columns]
    rows = rows.append_column("wrong_encoding", _first(wrong_encoding, texts))
    if table == "passages":
        return rows
    citations = rows.column("citations").combine_chunks()
    rows = rows.append_column("personal_data", _first(personal_data, texts))
    rows = rows.append_column("number_of_citations", pc.fill_null(pc.list_value_length(citations), 0))
    return rows.append_column("unknown_passage", _unknown(citations, known))


def suite(table: str) -> list[Expectation]:
    """The expectations of a table."""
    return _passages() if table == "passages" else _questions()


def _passages() -> list[Expectation]:
    return [
        ExpectColumnValuesToMatchRegex(
            column="passage_key",
            regex=r"^[^\s:][^:]*:\S",
            description="the key is document:passage",
            meta={"reason": "wrong_key"},
        ),
        ExpectColumnValuesToMatchRegex(
            column="text", regex=r"\S", description="the passage has a text", meta={"reason": "empty_passage"}
        ),
        ExpectColumnValueLengthsToBeBetween(
            column="text",
            max_value=MAX_PASSAGE,
            description=f"at most {MAX_PASSAGE} characters",
            meta={"reason": "passage_too_long"},
        ),
        _no_wrong_encoding(),
        matches(
            "passage_id",
            "^[^#]*$",
            "repeated_passage_id",
            "the document uses the id once (a repeated one gets a number: the texts differ, and questions cite them)",
            warns=True,
        ),
    ]


def _questions() -> list[Expectation]:
    return [
        ExpectColumnValuesToMatchRegex(
            column="question_id", regex=r"\S", description="the question has an id", meta={"reason": "missing_key"}
        ),
        ExpectColumnValuesToMatchRegex(
            column="question", regex=r"\S", description="the question has a text", meta={"reason": "empty_question"}
        ),
        ExpectColumnValueLengthsToBeBetween(
            column="question",
            max_value=MAX_QUESTION,
            description=f"at most {MAX_QUESTION} characters",
            meta={"reason": "question_too_long"},
        ),
        ExpectColumnValuesToMatchRegex(
            column="answer",
            regex=r"\S",
            description="an answer, where one is given, has a text",
            meta={"reason": "empty_answer"},
        ),
        ExpectColumnValueLengthsToBeBetween(
            column="answer",
            max_value=MAX_ANSWER,
            description=f"at most {MAX_ANSWER} characters",
            meta={"reason": "answer_too_long"},
        ),
        ExpectColumnValuesToBeBetween(
            column="number_of_citations",
            min_value=1,
            description="at least one passage is cited",
            meta={"reason": "missing_citation"},
        ),
        ExpectColumnValuesToBeNull(
            column="unknown_passage",
            description="every cited passage came with this delivery or an earlier one",
            meta={"reason": "unknown_passage"},
        ),
        ExpectColumnValuesToBeNull(
            column="personal_data",
            description="no e-mail address, telephone, account or card number",
            meta={"reason": "personal_data"},
        ),
        _no_wrong_encoding(),
    ]


def _no_wrong_encoding() -> Expectation:
    return ExpectColumnValuesToBeNull(
        column="wrong_encoding",
        description="no sign of text that was decoded wrongly",
        meta={"reason": "wrong_encoding"},
    )


def _unknown(citations: pa.ListArray, known: Known) -> pa.Array:
    """The first passage that a row cites and that is not known, or null."""
    keys, rows = citations.flatten(), pc.list_parent_indices(citations)
    found: list[str | None] = [None] * len(citations)
    for number in reversed(np.flatnonzero(~known.has_keys("passages", keys))):
        found[rows[number].as_py()] = str(keys[number])
    return pa.array(found, pa.string())


def _first(fault: Callable[[str | None], str | None], texts: list[list[str | None]]) -> pa.Array:
    """The first fault that a row's texts have, or null."""
    found = [next((word for text in row if (word := fault(text))), None) for row in zip(*texts, strict=True)]
    return pa.array(found, pa.string())
