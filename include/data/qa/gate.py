"""The validation of pairs as a part of the gate: learns from a delivery and those before it, then judges each piece.

Rows that failed an expectation are not judged, and neither are rows without an answer, nor those that people released
in spite of what was found here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq

from include.data.batches import PLACE, read_parquet, stream_batch, stream_parquet
from include.data.qa.pairs import Pair
from include.data.records import DeliveryCheck, PairReport
from include.data.released import Waivers
from include.spec.pairs import QaSpec
from include.store.objects import ObjectStore

if TYPE_CHECKING:
    from include.data.qa.assess import Assessor

NEEDS_REVIEW, UNSOUND = "needs_review", "unsound_answer"
REASONS = (NEEDS_REVIEW, UNSOUND)
MOST_TRAINED = 2_000  # pairs of this delivery; more teach nothing and cost time
MOST_EARLIER = 300


class PairGate:
    """Judges the pairs of one delivery.

    Args:
        key: The pairs' key column; `passage_key` is that of the passages.
        passages: The delivery's clean passages.
        earlier: Checks of earlier deliveries that passed, oldest first.
    """

    def __init__(
        self,
        store: ObjectStore,
        spec: QaSpec,
        key: str,
        passage_key: str,
        passages: Path,
        batch_key: str,
        earlier: Sequence[DeliveryCheck],
        waivers: Waivers,
    ) -> None:
        self._store, self._spec, self._key, self._waivers = store, spec, key, waivers
        self._texts: dict[str, str] = {}
        self._groups: dict[str, str] = {}
        columns = [passage_key, spec.group, *spec.texts]
        for check in earlier:
            self._add_passages(read_parquet(store, check.tables[spec.passages].clean_key).select(columns), passage_key)
        self._add_passages(pq.read_table(passages, columns=columns), passage_key)
        self._batch_key, self._earlier = batch_key, earlier
        self._assessor: Assessor | None = None
        self._too_few = False
        self._counts = dict.fromkeys(("judged", "without_answer", "released", "uncertain", "bad"), 0)

    def judge(
        self, piece: pa.RecordBatch, failed: Mapping[int, Any]
    ) -> tuple[dict[int, tuple[str, str]], dict[int, list[str]]]:
        """Of a piece: number of a row -> reason and detail, for those that do not pass; number -> reasons waived.

        Args:
            failed: Numbers of the rows that are not judged.
        """
        from include.data.qa.assess import Verdict

        pairs: dict[int, Pair] = {}
        waived: dict[int, list[str]] = {}
        for number, row in enumerate(piece.to_pylist()):
            if number in failed:
                continue
            found = self._waivers.waives(self._spec.table, row[PLACE], REASONS)
            if found:
                waived[number] = found
            elif (pair := self._pair(row)) is not None:
                pairs[number] = pair
            else:
                self._counts["without_answer"] += 1
        self._counts["released"] += len(waived)
        if pairs and self._assessor is None and not self._too_few:  # a release has seldom anything to judge
            self._learn()
        if self._assessor is None:
            return {}, waived
        judged = dict(zip(pairs, self._assessor.judge(list(pairs.values())), strict=True))
        self._counts["judged"] += len(judged)
        self._counts["uncertain"] += sum(item.verdict is Verdict.UNCERTAIN for item in judged.values())
        self._counts["bad"] += sum(item.verdict is Verdict.BAD for item in judged.values())
        reasons = {Verdict.UNCERTAIN: NEEDS_REVIEW, Verdict.BAD: UNSOUND}
        return {n: (reasons[item.verdict], str(item)) for n, item in judged.items() if item.verdict in reasons}, waived

    def report(self) -> PairReport:
        """How the pairs of all pieces went."""
        made = self._assessor.report() if self._assessor else PairReport()
        if self._too_few:
            made = PairReport(needed=self._spec.min_pairs)
        return made.model_copy(update=self._counts)

    def _learn(self) -> None:
        spec, earlier = self._spec, reversed(self._earlier)
        own = islice(self._pairs(stream_batch(self._store, self._batch_key, spec.table)), MOST_TRAINED)
        before = (
            pair
            for check in earlier
            for pair in self._pairs(stream_parquet(self._store, check.tables[spec.table].clean_key))
        )
        taught = dict.fromkeys(own) | dict.fromkeys(islice(before, MOST_EARLIER))
        self._too_few = len(taught) < spec.min_pairs
        if not self._too_few:
            from include.data.qa.assess import Assessor

            self._assessor = Assessor(list(taught), self._texts, spec)

    def _add_passages(self, rows: pa.Table, key: str) -> None:
        for row in rows.to_pylist():
            self._texts[row[key]] = "\n".join(row[name] for name in self._spec.texts if row[name])
            self._groups[row[key]] = str(row[self._spec.group])

    def _pairs(self, pieces: Iterator[pa.RecordBatch]) -> Iterator[Pair]:
        for piece in pieces:
            for row in piece.to_pylist():
                pair = self._pair(row)
                if pair is not None:
                    yield pair

    def _pair(self, row: Mapping[str, Any]) -> Pair | None:
        """The pair that a row holds; None without question, answer or a passage that is known."""
        spec = self._spec
        question, answer, cited = row[spec.question], row[spec.answer], row[spec.citations] or []
        if not (question and question.strip() and answer and answer.strip()) or not cited:
            return None
        if any(key not in self._texts for key in cited):
            return None
        evidence = "\n".join(self._texts[key] for key in cited)
        return Pair(str(row[self._key]), question, answer, evidence, cited[0], self._groups[cited[0]])
