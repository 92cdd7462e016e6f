"""A dataset version as the model sees it: passages by number, questions with the numbers of their relevant passages."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from include.errors import DataError
from include.families.contract import DatasetView


@dataclass(frozen=True)
class Corpus:
    """Passages in ascending order of their key; their position is their number everywhere else."""

    keys: tuple[str, ...]
    headings: tuple[str, ...]
    texts: tuple[str, ...]

    def indexed(self, with_headings: bool) -> list[str]:
        """What is embedded and searched, per passage."""
        if not with_headings:
            return list(self.texts)
        return [
            f"{heading}. {text}" if heading else text for heading, text in zip(self.headings, self.texts, strict=True)
        ]


@dataclass(frozen=True)
class Questions:
    """Questions of one split in ascending order of their id; `gold` holds passage numbers, ascending."""

    ids: tuple[str, ...]
    texts: tuple[str, ...]
    gold: tuple[tuple[int, ...], ...]
    answers: tuple[str | None, ...]
    documents: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.ids)

    def first(self, limit: int | None, seed: int) -> Questions:
        """At most `limit` of them: those whose id hashes lowest, so that a larger limit only adds questions."""
        if limit is None or limit >= len(self):
            return self
        order = sorted(range(len(self)), key=lambda i: hashlib.sha256(f"{seed}\0{self.ids[i]}".encode()).digest())
        kept = sorted(order[:limit])
        return Questions(
            tuple(self.ids[i] for i in kept),
            tuple(self.texts[i] for i in kept),
            tuple(self.gold[i] for i in kept),
            tuple(self.answers[i] for i in kept),
            tuple(self.documents[i] for i in kept),
        )


def read_corpus(dataset: DatasetView) -> Corpus:
    """All passages of the dataset.

    Raises:
        DataError: There is none.
    """
    columns = dataset.table("passages").select(["passage_key", "heading", "text"]).to_pydict()
    rows = sorted(zip(columns["passage_key"], columns["heading"], columns["text"], strict=True))
    if not rows:
        raise DataError(
            "the dataset has no passages", where=f"dataset {dataset.version}", hint="check the source of the rulebook"
        )
    return Corpus(
        tuple(key for key, _, _ in rows),
        tuple(heading or "" for _, heading, _ in rows),
        tuple(text for _, _, text in rows),
    )


def read_questions(dataset: DatasetView, split: str, corpus: Corpus) -> Questions:
    """The questions of a split. Citations of one passage given twice count once.

    Raises:
        DataError: The split is empty, or a question cites no passage or one that is not in the corpus.
    """
    numbers = {key: number for number, key in enumerate(corpus.keys)}
    names = ["question_id", "question", "answer", "citations", "document_id"]
    columns = dataset.table("questions", split).select(names).to_pydict()
    rows = sorted(zip(*(columns[name] for name in names), strict=True), key=lambda row: row[0])
    where = f"dataset {dataset.version}, split {split}"
    if not rows:
        raise DataError("there are no questions", where=where, hint="ingest more deliveries, or change the split")
    gold = tuple(_numbers(row[0], row[3], numbers, where) for row in rows)
    return Questions(
        tuple(row[0] for row in rows),
        tuple(row[1] for row in rows),
        gold,
        tuple(row[2] or None for row in rows),
        tuple(row[4] or "" for row in rows),
    )


def _numbers(question: str, citations: Sequence[str] | None, numbers: dict[str, int], where: str) -> tuple[int, ...]:
    missing = [key for key in citations or [] if key not in numbers]
    if missing or not citations:
        problem = f"cites {missing[0]!r}, which is not in the corpus" if missing else "cites no passage"
        raise DataError(
            f"question {question!r} {problem}", where=where, hint="the validation gate should have stopped this row"
        )
    return tuple(sorted({numbers[key] for key in citations}))
