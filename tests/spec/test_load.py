"""A wrong spec is refused with the file, the line and the field; a right one is frozen."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import ValidationError

from include.errors import UserError
from include.spec import (
    DataFamilySpec,
    SpecError,
    all_family_names,
    family_names,
    load_any_family,
    load_data_families,
    load_families,
    load_family,
    load_pair_families,
    profile_names,
)
from include.spec.resolve import parse_params
from include.steps.document import RunDocument, make_document

GOOD = """\
family: toy
title: Toy
description: A toy.
owner: {team: toys}
code: include.families.compliance_qa.family:ComplianceQA
data:
  suite: compliance_qa
  tables:
    questions: {key: question_id}
split: {table: questions, by: question_id, train: 0.8, validation: 0.1, test: 0.1}
sweep:
  metric: map_at_10
  space:
    learning_rate: {kind: float, low: 1.0e-5, high: 1.0e-4, log: true}
evaluation:
  gates:
    - {name: floor, metric: recall_at_10, operator: gte, threshold: 0.5}
release:
  stages:
    - {name: shadow, traffic: 0.0, shadow: true, min_seconds: 1, max_seconds: 10}
    - {name: full, traffic: 1.0, min_seconds: 1, max_seconds: 10}
profiles:
  quick:
    sweep: {trials: 2}
"""

DATA_ONLY = """\
family: rows
title: Rows
description: Rows, and no model.
owner: {team: toys}
code: include.families.compliance_qa.family:ComplianceQA
schedule: {ingest: "0 4 * * 2"}
data:
  suite: compliance_qa
  tables:
    questions: {key: question_id}
split: {table: questions, by: question_id, train: 0.8, validation: 0.1, test: 0.1}
profiles:
  small:
    data: {max_row_bytes: 2048}
"""


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "family.yaml").write_text(GOOD)
    return tmp_path


def change(root: Path, old: str, new: str) -> None:
    path = root / "toy" / "family.yaml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def problems(root: Path, profile: str = "default") -> dict[str, dict[str, object]]:
    with pytest.raises(SpecError) as caught:
        load_family("toy", profile, root)
    return {str(found["field"]): found for found in caught.value.fields["problems"]}


def test_a_good_spec_loads_and_is_frozen(root: Path) -> None:
    spec = load_family("toy", root=root)
    assert spec.sweep.trials == 8
    assert spec.hyperparameters["learning_rate"] > 0, "defaults of the family's own models are filled in"
    with pytest.raises(ValidationError):
        spec.family = "other"  # type: ignore[misc]


def test_a_profile_overrides_key_by_key(root: Path) -> None:
    spec = load_family("toy", "quick", root)
    assert spec.sweep.trials == 2
    assert spec.sweep.metric == "map_at_10"
    assert profile_names(root / "toy" / "family.yaml") == ["default", "quick"]


@pytest.mark.parametrize(
    ("old", "new", "line", "field", "message"),
    [
        ("title: Toy", "titel: Toy", 2, "titel", "unknown key"),
        ("title: Toy\n", "", 1, "title", "required"),
        ("threshold: 0.5", "threshold: high", 17, "evaluation.gates.0.threshold", "number"),
        ("low: 1.0e-5", "low: 1.0", 14, "sweep.space.learning_rate", "above high"),
        ("low: 1.0e-5", "lwo: 1.0e-5", 14, "sweep.space.learning_rate.lwo", "unknown key"),
        ("operator: gte", "operator: at_least", 17, "evaluation.gates.0.operator", "gt"),
        ("learning_rate: {kind", "learning_rat: {kind", 14, "sweep.space.learning_rat", "no hyperparameter"),
        ("train: 0.8", "train: 0.9", 10, "split", "must be 1"),
        ("traffic: 1.0", "traffic: 0.5", 18, "release", "all traffic"),
        ("family: toy", "family: game", 1, "family", "must be the same"),
        ("title: Toy", "title: Toy\ntitle: Twice", 3, "", "given twice"),
        ("table: questions, by", "table: answers, by", 1, "", "not among data.tables"),
        ("code: include.families.compliance_qa", "code: include.families.nowhere", 5, "code", "no module"),
    ],
)
def test_a_wrong_spec_names_line_and_field(root: Path, old: str, new: str, line: int, field: str, message: str) -> None:
    change(root, old, new)
    found = problems(root)
    assert field in found
    assert found[field]["line"] == line
    assert message in str(found[field]["message"])


def test_pairs_are_those_of_tables_that_there_are(root: Path) -> None:
    change(root, "  suite: compliance_qa\n", "  suite: compliance_qa\n  qa: {passages: papers}\n")
    with pytest.raises(SpecError, match="the table 'papers' is not among tables"):
        load_family("toy", root=root)
    change(root, "{passages: papers}", "{passages: questions}")
    assert [(spec.family, qa.passages) for spec, qa in load_pair_families(root=root)] == [("toy", "questions")]


def test_an_error_in_a_profile_points_into_the_profile(root: Path) -> None:
    change(root, "sweep: {trials: 2}", "sweep: {trials: many}")
    load_family("toy", root=root)
    assert problems(root, "quick")["sweep.trials"]["line"] == 24


def test_an_unknown_profile_and_family_are_named(root: Path) -> None:
    assert "known: default, quick" in str(problems(root, "fast")["profiles"]["message"])
    with pytest.raises(SpecError, match="known families: toy"):
        load_family("toys", root=root)


@pytest.mark.parametrize(
    "content", [b"", b"- a list", b"a: [1, 2", b"\xff\xfe\x00", b"a: b: c", b"!!python/object:os.system {}"]
)
def test_garbage_is_a_spec_error(root: Path, content: bytes) -> None:
    (root / "toy" / "family.yaml").write_bytes(content)
    with pytest.raises(SpecError) as caught:
        load_family("toy", root=root)
    assert "family.yaml" in str(caught.value)
    assert len(str(caught.value)) < 2000


def test_every_problem_is_listed_at_once(root: Path) -> None:
    change(root, "title: Toy", "titel: Toy")
    change(root, "metric: map_at_10", "metrik: map_at_10")
    with pytest.raises(SpecError) as caught:
        load_family("toy", root=root)
    assert {p["field"] for p in caught.value.fields["problems"]} == {"titel", "title", "sweep.metrik", "sweep.metric"}


@pytest.mark.parametrize(
    "values",
    [
        {"seed": -1},
        {"seed": "x"},
        {"colour": 1},
        {"since": "yesterday"},
        {"since": "2026-02-02", "until": "2026-02-01"},
    ],
)
def test_wrong_run_parameters_are_refused(values: dict[str, object]) -> None:
    with pytest.raises(UserError, match="what to do"):
        parse_params(values)


@pytest.fixture
def mixed(root: Path) -> Path:
    """A family with a model and one without."""
    (root / "rows").mkdir()
    (root / "rows" / "family.yaml").write_text(DATA_ONLY)
    return root


def test_a_family_may_be_only_data(mixed: Path) -> None:
    spec = load_any_family("rows", "small", mixed)
    assert isinstance(spec, DataFamilySpec)
    assert (spec.schedule.ingest, spec.data.max_row_bytes) == ("0 4 * * 2", 2048)
    assert (all_family_names(mixed), family_names(mixed)) == (["rows", "toy"], ["toy"])
    assert [spec.family for spec in load_families(root=mixed)] == ["toy"]
    assert [spec.family for spec in load_data_families(root=mixed)] == ["rows"]


def test_a_family_that_is_only_data_cannot_be_loaded_as_a_model(mixed: Path) -> None:
    with pytest.raises(SpecError, match="only data: it has no model"):
        load_family("rows", root=mixed)


@pytest.mark.parametrize(
    ("added", "field", "message"),
    [
        ("colour: red", "colour", "unknown key"),
        ("release: {stages: []}", "sweep", "required, but not given"),
        ("code: include.families.nowhere:Rows", "code", "there is no module include.families.nowhere"),
    ],
)
def test_a_mistake_in_a_family_of_data_is_told_with_its_line(mixed: Path, added: str, field: str, message: str) -> None:
    path = mixed / "rows" / "family.yaml"
    kept = [line for line in DATA_ONLY.splitlines() if line.partition(":")[0] != added.partition(":")[0]]
    path.write_text("\n".join([added, *kept]))
    with pytest.raises(SpecError) as caught:
        load_any_family("rows", root=mixed)
    found = {problem["field"]: problem for problem in caught.value.fields["problems"]}
    assert found[field]["message"] == message
    assert found[field]["line"] == 1


def test_a_profile_cannot_make_a_model_of_data(mixed: Path) -> None:
    path = mixed / "rows" / "family.yaml"
    path.write_text(DATA_ONLY + "    trainer: {max_epochs: 2}\n")
    with pytest.raises(SpecError, match="trainer: unknown key"):
        load_any_family("rows", "small", mixed)


def test_a_run_document_keeps_which_kind_of_family_it_is_for(mixed: Path) -> None:
    made = {
        name: make_document(
            "ingest", "r", load_any_family(name, root=mixed), {}, spec_parts=("data",), code_version="c",
            created_at=datetime(2026, 11, 2, tzinfo=UTC),
        )
        for name in ("rows", "toy")
    }  # fmt: skip
    read = {name: RunDocument.model_validate_json(document.model_dump_json()) for name, document in made.items()}
    assert read == made
    assert read["toy"].model_spec.sweep.metric == "map_at_10"
    with pytest.raises(UserError, match="only data"):
        _ = read["rows"].model_spec
