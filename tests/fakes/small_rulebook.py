"""A rulebook of a page, as a dataset version: people ask for its forms by nicknames that the rules never use."""

from __future__ import annotations

import hashlib

import pyarrow as pa

FORMS = [
    ("Attestation of Standing", "blue slip", "a licensee that opens a new branch"),
    ("Dormant Mandate", "sleeper", "an account without an instruction for two years"),
    ("Impaired Ledger", "cracked book", "a ledger that does not balance at close of business"),
    ("Harbour Bond", "rope money", "a warehouse that stores goods of others"),
    ("Passage Message", "luggage tag", "a payment to a payee in another port"),
    ("Proscribed Schedule", "black book", "a client whose name is listed by the tribunal"),
    ("Nominee Conduit", "husk", "a company that holds assets for somebody else"),
    ("Exposure Appraisal", "weather chart", "a firm that launches a new product"),
    ("Tidal Reserve", "ballast", "an insurer that takes on cargo risks"),
    ("Quiet Period Notice", "hush card", "a member of staff who knows of an unpublished result"),
    ("Salvage Levy", "wreck fee", "a broker that handles recovered cargo"),
    ("Cross-Berth Report", "dock sheet", "a dealer that trades in two venues on one day"),
]
_ASKED = [
    "When is the {name} due?",
    "Who has to keep the {name}, and for how long?",
    "We have {case}. Do we need the {name}?",
    "Can a case officer ask for the {name} at any time?",
    "What happens if the {name} is late?",
    "Is there a fee for the {name}?",
]


class SmallRulebook:
    """A `DatasetView` of 24 passages and 144 questions. `repeat` copies the passages under other keys, for size."""

    def __init__(self, version: str = "1.0.0", repeat: int = 1) -> None:
        self.version = version
        self.digest = hashlib.sha256(f"small-{version}-{repeat}".encode()).hexdigest()
        passages, questions = [], []
        for copy in range(repeat):
            for number, (formal, _, case) in enumerate(FORMS):
                document = "ABC"[number % 3]
                days = 3 + number + copy
                passages += [
                    _passage(
                        document,
                        f"{number}.1.{copy}",
                        formal,
                        f"The {formal} must be filed within {days} days by {case}.",
                    ),
                    _passage(
                        document,
                        f"{number}.2.{copy}",
                        "Records",
                        f"The {formal} is kept for {days} years and shown on request.",
                    ),
                ]
        for number, (formal, slang, case) in enumerate(FORMS):
            for form, template in enumerate(_ASKED):
                for name in (formal, f"{slang}"):
                    part = 2 if form in (1, 3) else 1
                    key = f"{'ABC'[number % 3]}:{number}.{part}.0"
                    questions.append(
                        _question(template.format(name=name, case=case), key, formal, number, form, name == slang)
                    )
        self._passages = pa.Table.from_pylist(passages)
        self._questions = pa.Table.from_pylist(questions)

    def table(self, name: str, split: str | None = None) -> pa.Table:
        if name == "passages":
            return self._passages
        rows = self._questions
        return rows if split is None else rows.filter(pa.compute.equal(rows.column("split"), split))


def _passage(document: str, number: str, heading: str, text: str) -> dict[str, str]:
    return {
        "passage_key": f"{document}:{number}",
        "document_id": document,
        "passage_id": number,
        "heading": heading,
        "text": text,
    }


def _question(text: str, key: str, formal: str, number: int, form: int, slang: bool) -> dict[str, object]:
    split = "train" if form < 4 else ("validation" if form == 4 else "test")
    return {
        "question_id": f"q{number:02d}-{form}-{int(slang)}", "question": text, "answer": f"See the {formal}.",
        "citations": [key], "document_id": key[0], "split": split,
    }  # fmt: skip
