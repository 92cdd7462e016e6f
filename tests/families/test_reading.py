"""The layouts of compliance_qa: good files become rows, and broken ones errors with a place."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from include.errors import DataError, UserError
from include.families.compliance_qa.data_part import DataPart
from include.families.contract import RawRecord

OBLIQA = Path(__file__).resolve().parents[3] / "shared" / "data" / "compliance_qa" / "obliqa"
LIMIT = 10_000


def question(number: int = 1, **changes: Any) -> dict[str, Any]:
    made = {"question_id": f"q-{number}", "question": "Who?", "answer": "You.", "citations": ["AA-1.1"]}
    return made | changes


def lines(*records: object) -> bytes:
    return b"".join(r + b"\n" if isinstance(r, bytes) else json.dumps(r).encode() + b"\n" for r in records)


def deliver(source: Path, day: str = "2026-10-12", questions: bytes | None = None, **documents: object) -> Path:
    folder = source / day
    (folder / "documents").mkdir(parents=True)
    for name, document in documents.items():
        data = document if isinstance(document, bytes) else json.dumps(document).encode()
        (folder / "documents" / f"{name}.json").write_bytes(data)
    if questions is not None:
        (folder / "questions.jsonl").write_bytes(questions)
    return folder


def document(*texts: str) -> dict[str, Any]:
    passages = [{"passage_id": f"AA-1.{n}", "heading": "H", "text": text} for n, text in enumerate(texts, 1)]
    return {"document_id": "AA", "title": "T", "domain": "d", "passages": passages}


def read(source: Path, reader: str = "auto", limit: int = LIMIT) -> list[RawRecord]:
    part = DataPart()
    return [record for delivery in part.deliveries(source, reader) for record in part.records(delivery, limit)]


class TestDatedDeliveries:
    def test_documents_and_questions_become_rows(self, tmp_path: Path) -> None:
        asked = lines(question(), question(2, answer=None, citations=["AA:AA-1.2"]))
        deliver(tmp_path, questions=asked, AA=document("one", "two"))
        passages, questions = read(tmp_path)[:2], read(tmp_path)[2:]
        assert passages[0].values == {
            "passage_key": "AA:AA-1.1",
            "document_id": "AA",
            "passage_id": "AA-1.1",
            "heading": "H",
            "text": "one",
        }
        assert questions[0].values["citations"] == ["AA:AA-1.1"]
        assert questions[1].values["citations"] == ["AA:AA-1.2"]
        assert questions[1].values["document_id"] == "AA"
        assert questions[1].place == "2026-10-12/questions.jsonl:2"

    def test_deliveries_come_oldest_first(self, tmp_path: Path) -> None:
        for day in ("2026-10-26", "2026-10-12", "2026-10-19"):
            deliver(tmp_path, day, lines(question()))
        (tmp_path / "notes").mkdir()
        assert [d.delivered_on for d in DataPart().deliveries(tmp_path, "auto")] == [
            date(2026, 10, 12),
            date(2026, 10, 19),
            date(2026, 10, 26),
        ]

    @pytest.mark.parametrize(
        "wrong",
        [
            {"question_id": 7},
            {"question": None},
            {"answer": ["a"]},
            {"citations": "AA-1.1"},
            {"citations": [1]},
        ],
    )
    def test_a_wrong_type_is_a_problem_of_that_line_alone(self, tmp_path: Path, wrong: dict[str, Any]) -> None:
        deliver(tmp_path, questions=lines(question(1), question(2, **wrong), question(3)))
        problems = [record.problem for record in read(tmp_path)]
        assert problems == [None, "wrong_schema", None]
        assert next(iter(wrong)) in read(tmp_path)[1].detail

    @pytest.mark.parametrize("field", ["question_id", "question", "answer", "citations"])
    def test_a_missing_field_is_a_problem(self, tmp_path: Path, field: str) -> None:
        broken = question(2)
        del broken[field]
        deliver(tmp_path, questions=lines(question(1), broken))
        assert read(tmp_path)[1].problem == "wrong_schema"

    def test_a_file_of_another_kind_of_record_is_refused(self, tmp_path: Path) -> None:
        folder = deliver(tmp_path, questions=lines({"id": 1, "text": "a"}, {"id": 2, "text": "b"}))
        with pytest.raises(DataError, match="'question_id' is missing") as caught:
            read(tmp_path)
        assert caught.value.where == f"{folder}/questions.jsonl:1"

    def test_a_broken_passage_does_not_hide_its_neighbours(self, tmp_path: Path) -> None:
        made = document("one", "two", "three", "four")
        made["passages"][1] = "a string"
        made["passages"][2]["text"] = 5
        made["passages"][3]["text"] = "half \ud83d"
        deliver(tmp_path, AA=made)
        assert [r.problem for r in read(tmp_path)] == [None, "wrong_schema", "wrong_schema", "wrong_schema"]

    @pytest.mark.parametrize(
        "data",
        [[1], {}, {"document_id": "AA"}, {"document_id": "AA", "passages": []}, {"document_id": 3, "passages": [{}]}],
    )
    def test_a_file_that_is_no_document_is_refused(self, tmp_path: Path, data: object) -> None:
        folder = deliver(tmp_path, AA=data)
        with pytest.raises(DataError, match="not a document") as caught:
            read(tmp_path)
        assert caught.value.where == f"{folder}/documents/AA.json:1"

    def test_an_empty_delivery_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "2026-10-12").mkdir()
        with pytest.raises(DataError, match="the delivery is empty"):
            read(tmp_path)

    def test_a_day_that_does_not_exist_is_refused(self, tmp_path: Path) -> None:
        deliver(tmp_path, "2026-02-30", lines(question()))
        with pytest.raises(DataError, match="not a date"):
            read(tmp_path)

    def test_a_folder_in_the_place_of_a_file_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "2026-10-12" / "questions.jsonl").mkdir(parents=True)
        with pytest.raises(DataError, match="cannot be read"):
            read(tmp_path)


class TestSources:
    def test_a_missing_source_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="does not exist"):
            DataPart().deliveries(tmp_path / "none", "auto")

    def test_a_file_is_no_source(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("x")
        with pytest.raises(DataError, match="is a file"):
            DataPart().deliveries(tmp_path / "f", "auto")

    def test_an_empty_source_says_what_it_needs(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="is empty") as caught:
            DataPart().deliveries(tmp_path, "auto")
        assert "questions.jsonl" in caught.value.hint

    def test_an_unknown_layout_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "data.csv").write_text("a,b")
        with pytest.raises(DataError, match="holds no delivery"):
            DataPart().deliveries(tmp_path, "auto")
        with pytest.raises(DataError, match="holds no delivery"):
            DataPart().deliveries(tmp_path, "dated")

    def test_an_unknown_reader_is_the_users_error(self, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="no reader 'csv'"):
            DataPart().deliveries(tmp_path, "csv")


def obliqa(folder: Path, passages: list[dict[str, Any]], questions: object, source: str | None = None) -> Path:
    documents = folder / "StructuredRegulatoryDocuments"
    documents.mkdir(parents=True)
    (documents / "1.json").write_text(json.dumps(passages))
    (folder / "ObliQA_dev.json").write_text(questions if isinstance(questions, str) else json.dumps(questions))
    if source is not None:
        (folder / "SOURCE").write_text(source)
    return folder


def obliqa_passage(number: str, text: str) -> dict[str, Any]:
    return {"ID": f"x{number}{text}", "DocumentID": 1, "PassageID": number, "Passage": text}


class TestObliQA:
    def test_repeated_passage_ids_get_keys_of_their_own_and_quotes_tell_them_apart(self, tmp_path: Path) -> None:
        passages = [obliqa_passage("5.2", text) for text in ("", "first", "second")]
        cited = [{"DocumentID": 1, "PassageID": "5.2", "Passage": text} for text in ("second", "first", "others")]
        made = [{"QuestionID": "q", "Question": "What?", "Passages": cited, "Group": 1}]
        records = read(obliqa(tmp_path, passages, made, "commit: X @ 123 2024-12-08\n"))
        assert [r.values["passage_key"] for r in records[:3]] == ["1:5.2#3", "1:5.2", "1:5.2#2"]
        assert records[3].values["citations"] == ["1:5.2#2", "1:5.2"]
        assert records[3].values["answer"] is None
        assert records[3].values["document_id"] == "1"

    def test_the_date_is_the_commits_or_that_of_the_newest_file(self, tmp_path: Path) -> None:
        made = [{"QuestionID": "q", "Question": "?", "Passages": []}]
        with_source = obliqa(tmp_path / "a", [obliqa_passage("1", "t")], made, "commit: X @ 123 2024-12-08\n")
        without = obliqa(tmp_path / "b", [obliqa_passage("1", "t")], made)
        assert DataPart().deliveries(with_source, "auto")[0].delivered_on == date(2024, 12, 8)
        assert DataPart().deliveries(without, "obliqa")[0].delivered_on > date(2025, 1, 1)

    def test_a_truncated_file_is_refused_with_record_and_line(self, tmp_path: Path) -> None:
        made = json.dumps([{"QuestionID": str(n), "Question": "?", "Passages": []} for n in range(9)], indent=1)
        folder = obliqa(tmp_path, [obliqa_passage("1", "t")], made[:300])
        with pytest.raises(DataError, match=r"ends too early in record 5 \(byte 300\)"):
            read(folder)

    def test_one_wrong_record_is_a_problem_of_its_own(self, tmp_path: Path) -> None:
        made = [{"QuestionID": "q", "Question": "?", "Passages": []}, {"QuestionID": "r"}]
        records = read(obliqa(tmp_path, [obliqa_passage("1", "t"), {"DocumentID": None}], made))
        assert [(r.table, r.problem) for r in records] == [
            ("passages", None),
            ("passages", "wrong_schema"),
            ("questions", None),
            ("questions", "wrong_schema"),
        ]

    def test_questions_without_documents_are_refused(self, tmp_path: Path) -> None:
        (tmp_path / "ObliQA_dev.json").write_text("[]")
        with pytest.raises(DataError, match="StructuredRegulatoryDocuments"):
            read(tmp_path)

    @pytest.mark.skipif(not OBLIQA.is_dir(), reason="the shared ObliQA set is not here")
    def test_the_real_set(self) -> None:
        records = read(OBLIQA, limit=1_000_000)
        passages = [r.values for r in records if r.table == "passages"]
        questions = [r.values for r in records if r.table == "questions"]
        keys = {passage["passage_key"] for passage in passages}
        assert (len(passages), len(keys), len(questions)) == (13_732, 13_732, 2_788)
        assert sum(not passage["text"].strip() for passage in passages) == 720
        cited = [key for made in questions for key in made["citations"]]
        assert len(cited) == 3_677
        assert set(cited) <= keys
