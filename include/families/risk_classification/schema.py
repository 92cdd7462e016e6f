"""The tables of the family: reports of accidents in construction in the US, and what experts say they are.

Goh, Ubeynarayana: Construction accident narrative classification: An evaluation of text mining techniques, Accident
Analysis & Prevention 108, 2017. The narratives are those of the US Occupational Safety and Health Administration. The
source has blanks where commas were, and a blank or `[]` where nothing is known.

`activity` and `fatal_cause` come from the same inspection that the expert read about: a model that is given them is
told a part of the answer. They carry the metadata `HINDSIGHT`, and figures must be given with and without them.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

INCIDENTS, LABELS = "incidents", "labels"
HINDSIGHT = {b"hindsight": b"known only to who judged the accident"}

SCHEMAS: Mapping[str, pa.Schema] = {
    INCIDENTS: pa.schema(
        [
            pa.field("incident_id", pa.string(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("summary", pa.string(), nullable=False),
            pa.field("industry", pa.string(), nullable=False),
            pa.field("injuries", pa.string()),  # of every employee, with a comma before each
            pa.field("occupations", pa.string()),  # the same, but occupations have commas of their own
            pa.field("first_occupation", pa.string()),
            pa.field("fall_feet", pa.int64()),
            pa.field("activity", pa.string(), metadata=HINDSIGHT),
            pa.field("fatal_cause", pa.string(), metadata=HINDSIGHT),
        ]
    ),
    LABELS: pa.schema(
        [
            pa.field("incident_id", pa.string(), nullable=False),
            pa.field("title", pa.string(), nullable=False),
            pa.field("summary", pa.string(), nullable=False),
            pa.field("keywords", pa.string()),
            pa.field("fatal_cause", pa.string(), metadata=HINDSIGHT),  # the sheet calls it `cause`
            pa.field("label", pa.string(), nullable=False),
        ]
    ),
}
