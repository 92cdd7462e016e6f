"""The prediction log: what the gateway answered and what people said about it, as JSONL segments in the object store.

`include.serving.prediction_log` writes it, this module knows its form and reads it. A segment is written whole or not
at all, and lies under the day of its rows: `predictions/<family>/<YYYY-MM-DD>/<HHMMSS.ffffff>-<instance>-<n>.jsonl`.

A *prediction* row has `kind` ("prediction"), `request_id`, `at` (ISO 8601, UTC), `family`, `version`, `digest`,
`role` ("champion" or "challenger"), `generation`, `shadow` (the answer went nowhere), `direct` (the client chose
the version, so the row is no part of a comparison), `unit_id`, `inputs` (the family's request fields), `outputs` (the
answer record without quoted texts: scores, keys, confidence; null where the model failed), `latency_ms`, and `error`
(null or a sentence).
A *feedback* row has `kind` ("feedback"), `request_id`, `at`, `family`, `version`, `role`, `generation`, `truth`,
`helpful` and `labels` (metric -> value as labelled by the model's own rule; empty where only `helpful` came).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from include.errors import DataError
from include.store.objects import ObjectStore

PREFIX = "predictions"
PREDICTION, FEEDBACK = "prediction", "feedback"
_LISTED_DAYS = 62  # a longer window is cheaper to read from one listing than day by day


class PredictionLogError(DataError):
    """A segment of the prediction log does not hold what was written."""


def read_predictions(store: ObjectStore, family: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    """Prediction rows with `since` <= `at` < `until` (aware datetimes), in the order they were written.

    Raises:
        PredictionLogError: A segment is damaged.
        StoreError: The store cannot be read.
    """
    return _read(store, family, since, until, PREDICTION)


def read_feedback(store: ObjectStore, family: str, since: datetime, until: datetime) -> Iterator[dict[str, Any]]:
    """Feedback rows, as `read_predictions`."""
    return _read(store, family, since, until, FEEDBACK)


def _read(store: ObjectStore, family: str, since: datetime, until: datetime, kind: str) -> Iterator[dict[str, Any]]:
    for key in _keys(store, family, since.astimezone(UTC).date(), until.astimezone(UTC).date()):
        for number, line in enumerate(store.get(key).splitlines(), start=1):
            try:
                row = json.loads(line)
                wanted = row["kind"] == kind and since <= datetime.fromisoformat(row["at"]) < until
            except (ValueError, KeyError, TypeError) as error:
                place = f"{store.uri(key)}:{number}"
                raise PredictionLogError(
                    f"not a row of the prediction log: {error}", where=place, hint="remove the segment"
                ) from error
            if wanted:
                yield row


def _keys(store: ObjectStore, family: str, first: date, last: date) -> Iterator[str]:
    root = f"{PREFIX}/{family}/"
    if (last - first).days > _LISTED_DAYS:
        yield from (
            key for key in store.keys(root) if first.isoformat() <= key[len(root) :].split("/")[0] <= last.isoformat()
        )
        return
    for offset in range((last - first).days + 1):
        yield from store.keys(f"{root}{first + timedelta(days=offset)}/")
