"""The data that is used out of the box: the sample that ships."""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise

from include.data.quarantine import list_quarantine
from include.settings import PROJECT_ROOT, Settings
from include.spec import load_family

from .conftest import FAMILY, Pipeline, make_spec

SAMPLE = PROJECT_ROOT / "include" / "families" / FAMILY / "sample" / "deliveries"


def strict(passages: float, questions: float) -> dict[str, object]:
    tables = {
        "passages": {"key": "passage_key", "min_valid_rate": passages},
        "questions": {"key": "question_id", "min_valid_rate": questions},
    }
    return {"suite": "compliance_qa", "tables": tables}


def test_the_spec_that_ships_accepts_the_sample_that_ships(settings: Settings) -> None:
    pipeline = Pipeline(settings, "sample", load_family(FAMILY))
    made = pipeline.run()
    review = made["reasons"]["needs_review"]
    assert (made["rows_in"], made["rows_clean"]) == (1212, 1173 - review)
    assert 0 < review <= 35 and "unsound_answer" not in made["reasons"]  # answers that calculate, most of them
    splits = pipeline.dataset(made["dataset_version"]).manifest.tables["questions"].splits
    assert min(splits[name] for name in ("train", "validation", "test")) >= 100


def test_the_sample_is_large_enough_and_has_the_faults_of_real_feeds(settings: Settings) -> None:
    pipeline = Pipeline(settings, SAMPLE, make_spec(data=strict(0.95, 0.95)))
    made = pipeline.run()
    dataset = pipeline.dataset(made["dataset_version"])
    passages, questions = dataset.table("passages"), dataset.table("questions")
    assert len(set(passages.column("document_id").to_pylist())) == 12
    assert passages.num_rows >= 200
    assert questions.num_rows >= 800
    assert (made["rows_in"], made["rows_clean"], made["rows_quarantined"], made["rows_duplicate"]) == (
        1212,
        1173,
        29,
        10,
    )
    assert made["reasons"] == {
        "duplicate": 10,
        "empty_answer": 6,
        "empty_passage": 1,
        "malformed_json": 1,
        "missing_citation": 6,
        "not_utf8": 2,
        "personal_data": 6,
        "unknown_passage": 5,
        "wrong_encoding": 2,
    }
    assert len(list_quarantine(pipeline.store, FAMILY)) == 4


def test_every_week_of_the_sample_is_a_version_of_its_own(settings: Settings) -> None:
    pipeline = Pipeline(settings, SAMPLE, make_spec(data=strict(0.95, 0.95)))
    weeks = ["2026-10-12", "2026-10-19", "2026-10-26", "2026-11-02", "2026-11-09"]
    made = [pipeline.run(since, since, until) for since, until in pairwise(weeks)]
    assert [entry["dataset_version"] for entry in made] == ["1.0.0", "2.0.0", "3.0.0", "3.1.0"]  # new rules come twice
    assert pipeline.run("all")["dataset_version"] == "3.1.0"


def test_the_sample_reads_like_text(settings: Settings) -> None:
    pipeline = Pipeline(settings, SAMPLE)
    dataset = pipeline.dataset(pipeline.run()["dataset_version"])
    texts = dataset.table("passages").column("text").to_pylist()
    questions = dataset.table("questions").column("question").to_pylist()
    assert min(len(text.split()) for text in texts) >= 45
    assert len(set(texts)) == len(texts)
    assert len(set(questions)) == len(questions)
    openings = Counter(" ".join(question.split()[:4]) for question in questions)
    assert openings.most_common(1)[0][1] < len(questions) / 50, "questions of one mould"
    assert not [text for text in [*texts, *questions] if re.search(r"lorem|placeholder|\{|\}|TODO", text)]


def test_every_passage_is_asked_about(settings: Settings) -> None:
    pipeline = Pipeline(settings, SAMPLE)
    dataset = pipeline.dataset(pipeline.run()["dataset_version"])
    cited = Counter(key for keys in dataset.table("questions").column("citations").to_pylist() for key in keys)
    assert set(dataset.table("passages").column("passage_key").to_pylist()) == set(cited)
