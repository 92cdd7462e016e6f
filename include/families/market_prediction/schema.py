"""The table of the family: one row per credit-card client of a bank in Taiwan, April to September 2005.

Yeh, Lien: The comparisons of data mining techniques for the predictive accuracy of probability of default of credit
card clients, Expert Systems with Applications 36(2), 2009; UCI Machine Learning Repository, doi:10.24432/C55S3H. The
source numbers the months backwards (1 is September, 6 is April) and calls the status of September `PAY_0`, though the
bill and the payment of that month are `BILL_AMT1` and `PAY_AMT1`. Here a month has one number in all three.
"""

from __future__ import annotations

from collections.abc import Mapping

import pyarrow as pa

CLIENTS = "clients"
#: The newest month first: 1 is September 2005, 6 is April.
MONTHS = (1, 2, 3, 4, 5, 6)
STATUSES = tuple(f"pay_status_{month}" for month in MONTHS)
BILLS = tuple(f"bill_amount_{month}" for month in MONTHS)
PAYMENTS = tuple(f"paid_amount_{month}" for month in MONTHS)

GENDERS: Mapping[int, str] = {1: "male", 2: "female"}
EDUCATIONS: Mapping[int, str] = {1: "graduate school", 2: "university", 3: "high school", 4: "others"}
MARRIAGES: Mapping[int, str] = {1: "married", 2: "single", 3: "others"}
#: The documentation knows -1 (paid duly) and 1 to 9 (months of delay, 9 and more). The data also has 0 (the minimum was
#: paid, the rest revolves) and -2 (nothing to pay), in more than half of all cells: they are in order.
PAY_STATUSES = range(-2, 10)

SCHEMAS: Mapping[str, pa.Schema] = {
    CLIENTS: pa.schema(
        [
            pa.field("client_id", pa.string(), nullable=False),
            pa.field("credit_limit", pa.int64(), nullable=False),  # NT dollars, like every amount
            pa.field("gender", pa.int64(), nullable=False),
            pa.field("education", pa.int64(), nullable=False),
            pa.field("marriage", pa.int64(), nullable=False),
            pa.field("age", pa.int64(), nullable=False),  # years
            *(pa.field(name, pa.int64(), nullable=False) for name in STATUSES),
            *(pa.field(name, pa.int64(), nullable=False) for name in BILLS),  # negative: the bank owes the client
            *(pa.field(name, pa.int64(), nullable=False) for name in PAYMENTS),
            pa.field("defaults", pa.bool_(), nullable=False),  # does not pay in October 2005
        ]
    )
}
