"""The serving runtime: what it answers, to whom, and what it does with input from hell."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from include.errors import DataError
from include.families.compliance_qa.answers import quote, sentence_words, sentences
from include.families.compliance_qa.runtime import RetrievalRuntime, RuntimeFault
from tests.families.conftest import Packages

QUESTION = "Who has to keep the Harbour Bond, and for how long?"


def test_an_answer_quotes_the_best_passage_and_cites_three(packages: Packages) -> None:
    runtime = RetrievalRuntime(packages.trained)
    outputs = runtime.predict({"question": [QUESTION]})
    assert outputs.keys() == runtime.outputs.keys() | {"why"}
    record = runtime.answer(outputs, 0)
    assert record["passages"][0] == "A:3.2.0"
    assert record["answer"] == "The Harbour Bond is kept for 6 years and shown on request."
    assert [citation["passage"] for citation in record["citations"]] == record["passages"][:3]
    assert record["citations"][0]["heading"] == "Records"
    assert record["score"] == outputs["scores"][0][0] == max(outputs["scores"][0])
    assert 0 < record["confidence"] < 1
    json.dumps(record)


@pytest.mark.parametrize("kind", ["trained", "bm25"])
def test_an_answer_says_what_its_score_is_made_of(packages: Packages, kind: str) -> None:
    runtime = RetrievalRuntime(getattr(packages, kind))
    questions = [QUESTION, "bond bond harbour", "zzzz", ""]
    outputs = runtime.predict({"question": questions})
    for row in range(len(questions)):
        record = runtime.answer(outputs, row)
        parts, terms = record["why"]["parts"], record["why"]["terms"]
        assert parts["words"] + parts["meaning"] == pytest.approx(record["score"], abs=1e-5)
        assert set(terms) <= set(runtime.words([questions[row]])[0])
        assert sum(terms.values()) <= parts["words"] + 1e-5
        if kind == "bm25":
            assert parts["meaning"] == pytest.approx(0.0, abs=1e-6)
    said = runtime.answer(outputs, 1)["why"]
    assert set(said["terms"]) == {"bond", "harbour"}
    assert sum(said["terms"].values()) == pytest.approx(said["parts"]["words"], abs=1e-5)
    assert runtime.answer(outputs, 2)["why"]["terms"] == {}


def test_a_batch_answers_as_one_by_one(packages: Packages) -> None:
    runtime = RetrievalRuntime(packages.trained)
    questions = [
        QUESTION,
        "sleeper?",
        "Can a case officer ask for the rope money at any time, and what if we are late with it?",
    ]
    together = runtime.predict({"question": questions})
    for index, question in enumerate(questions):
        alone = runtime.predict({"question": [question]})
        assert alone["passage_ids"][0] == together["passage_ids"][index]
        assert alone["scores"][0] == pytest.approx(together["scores"][index], abs=1e-5)


@pytest.mark.parametrize(
    "question",
    ["", " ", "\x00\x00", "?" * 50_000, "a " * 20_000, "\ud800 broken", "🚢" * 300, "שלום", "<script>", "zzzz qqqq"],
)
@pytest.mark.parametrize("kind", ["trained", "bm25"])
def test_any_text_gets_ten_passages(packages: Packages, question: str, kind: str) -> None:
    outputs = RetrievalRuntime(getattr(packages, kind)).predict({"question": [question]})
    assert len(outputs["passage_ids"][0]) == len(set(outputs["passage_ids"][0])) == 10
    assert np.isfinite(outputs["scores"][0]).all() and np.isfinite(outputs["confidence"]).all()
    json.dumps(outputs).encode()


def test_bytes_are_text_too(packages: Packages) -> None:
    runtime = RetrievalRuntime(packages.bm25)
    as_bytes = runtime.predict({"question": [QUESTION.encode(), b"\xff\xfe"]})
    assert as_bytes["passage_ids"][0] == runtime.predict({"question": [QUESTION]})["passage_ids"][0]


@pytest.mark.parametrize("inputs", [{}, {"question": []}, {"question": [3]}, {"question": [None]}])
def test_what_is_no_question_is_refused(packages: Packages, inputs: dict[str, list[object]]) -> None:
    with pytest.raises(DataError):
        RetrievalRuntime(packages.bm25).predict(inputs)


def test_the_baseline_ranks_as_bm25_and_has_no_encoder(packages: Packages) -> None:
    runtime = RetrievalRuntime(packages.bm25)
    assert not (packages.bm25 / "encoder.onnx").exists()
    raw = packages.prepared.bm25.scores([QUESTION])
    best = packages.prepared.corpus.keys[int(raw[0].argmax())]
    assert runtime.predict({"question": [QUESTION]})["passage_ids"][0][0] == best
    with pytest.raises(RuntimeFault, match="no encoder"):
        runtime.embed([QUESTION])


def test_labels(packages: Packages) -> None:
    runtime = RetrievalRuntime(packages.bm25)
    record = {"passages": list("abcdefghij")}
    assert runtime.label(record, {"citations": ["b", "x"]}) == {"hit_at_1": 0.0, "hit_at_10": 1.0, "recall_at_10": 0.5}
    for truth in ({}, {"citations": []}, {"citations": "b"}, {"citations": [1]}):
        with pytest.raises(DataError, match="must name passages"):
            runtime.label(record, truth)


def test_threads_may_share_a_runtime(packages: Packages) -> None:
    runtime = RetrievalRuntime(packages.trained)
    questions = packages.prepared.validation.texts
    expected = [runtime.predict({"question": [question]})["passage_ids"] for question in questions]
    wrong: list[str] = []

    def ask() -> None:
        for question, keys in zip(questions, expected, strict=True):
            if runtime.predict({"question": [question]})["passage_ids"] != keys:
                wrong.append(question)

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_files_that_do_not_belong_together_are_refused(packages: Packages, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(packages.trained, folder)
    np.save(folder / "embeddings.npy", np.zeros((3, 384), dtype=np.float32))
    with pytest.raises(RuntimeFault, match="differ in number"):
        RetrievalRuntime(folder)


def test_an_array_that_would_execute_code_is_not_loaded(packages: Packages, tmp_path: Path) -> None:
    folder = tmp_path / "package"
    shutil.copytree(packages.trained, folder)
    np.save(folder / "embeddings.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    with pytest.raises(ValueError, match="allow_pickle"):
        RetrievalRuntime(folder)


def test_serving_needs_neither_torch_nor_lightning(packages: Packages) -> None:
    code = (
        "import sys; from pathlib import Path; from include.families.contract import load_code;"
        "runtime = load_code('include.families.compliance_qa.family:ComplianceQA').load(Path(sys.argv[1]));"
        "runtime.predict({'question': ['Is there a fee?']});"
        "heavy = {'torch', 'lightning', 'transformers', 'mlflow', 'pandas', 'great_expectations'} & set(sys.modules);"
        "sys.exit(', '.join(heavy) or 0)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(packages.trained)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_quotes_are_sentences_of_the_passage_that_share_rare_words() -> None:
    text = "Firms must file. The Tidal Reserve is held in cash; it is renewed each year. Nothing else applies."
    assert sentences(text) == [
        "Firms must file.",
        "The Tidal Reserve is held in cash; it is renewed each year.",
        "Nothing else applies.",
    ]

    def words(texts: Sequence[str]) -> list[list[str]]:
        return [text.lower().strip(".?").split() for text in texts]

    def quoted(question: str, text: str, rarity: dict[str, float]) -> str:
        return quote(words([question])[0], sentence_words(text, words), rarity)

    rarity = {"tidal": 3.0, "reserve": 2.0, "firms": 0.1}
    assert quoted("Is the Tidal Reserve for firms?", text, rarity) == (
        "Firms must file. The Tidal Reserve is held in cash; it is renewed each year."
    )
    assert quoted("Unheard of?", text, {}).startswith("Firms must file.")
    assert len(quoted("x", "word " * 1000, {})) <= 600
    assert quoted("x", "", {}) == ""
