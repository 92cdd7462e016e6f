"""Learning that starts from something: other weights, a teacher, several tasks. What comes out shows that it did."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from safetensors.torch import load_file, save_file
from sqlalchemy import insert
from torch.nn import functional

from include.errors import DataError, UserError
from include.settings import Settings
from include.spec import FamilySpec
from include.spec.transfer import TasksSpec, TeacherSpec
from include.steps.fingerprint import file_digest
from include.store import schema
from include.store.database import open_database
from include.store.objects import open_store
from include.training import weights
from include.training.build import build, start_from
from include.training.distilling import Distillation
from include.training.freezing import note, weight_names
from include.training.tasks import LOSSES, TaskLosses
from include.training.weights import INIT, TEACHER, Found, Origins, WeightsRecord, fetch_origins, keep_weights, resolve
from include.training.worker import make_trainer
from tests.fakes.tiny_torch import CODE, FAMILY, TinyModule, TinyPoints, TinyTorch, torch_spec
from tests.fakes.tiny_training import Fit
from tests.training.test_optimizing import Watch, seed_all

DIGESTS = {"1.0.0": "a" * 64, "2.0.0": "b" * 64}


def train(
    folder: Path, origins: Origins | None = None, shift: float = 0.0, **trainer: Any
) -> tuple[TinyModule, Trainer, list[float]]:
    """The module as it is in the end, and the validation loss after each epoch."""
    spec, losses = torch_spec(**trainer), list[float]()

    class Losses(Watch):
        def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
            losses.append(float(trainer.callback_metrics["loss"]))

    seed_all(1)
    module, data = build(
        TinyTorch(), spec, TinyPoints(shift=shift), spec.hyperparameters, 1, Origins() if origins is None else origins
    )
    assert isinstance(module, TinyModule)
    made = make_trainer(spec, [Losses()], devices=1, folder=folder)
    made.fit(module, datamodule=data)
    return module, made, losses


def found(module: TinyModule, folder: Path, spec: FamilySpec, data: tuple[str, ...] = ("1.0.0",)) -> Found:
    """The module's weights as another training finds them."""
    path = folder / "found.safetensors"
    save_file(module.state_dict(), path)
    record = WeightsRecord(
        digest=DIGESTS["1.0.0"], sha256=file_digest(path), code=CODE, model=spec.model, hyperparameters={}, data=[*data]
    )
    return Found(path, record, "1.0.0")


# Starting from other weights ------------------------------------------------------------------------------------------
def test_training_on_another_domain_begins_with_what_was_learned_before(tmp_path: Path) -> None:
    before, _, _ = train(tmp_path, max_epochs=30, batch_size=8)
    origins = Origins({INIT: found(before, tmp_path, torch_spec())})
    _, _, fresh = train(tmp_path, shift=0.3, max_epochs=2)
    _, _, adapted = train(tmp_path, origins, shift=0.3, max_epochs=2, transfer={"init_from": "1.0.0"})
    assert adapted[-1] < 0.9 * fresh[-1]


def test_what_was_brought_is_part_of_the_weights_though_it_does_not_learn(tmp_path: Path) -> None:
    before, _, _ = train(tmp_path, max_epochs=1)
    module = TinyTorch().module(torch_spec(), TinyPoints(), {})
    module.trunk.requires_grad_(False)  # by the family's own code: its export would take the trunk from elsewhere
    note(module)
    assert "trunk.0.weight" not in weight_names(module)
    start_from(module, found(before, tmp_path, torch_spec()).path, ["trunk.*"])
    assert "trunk.0.weight" in weight_names(module)
    assert torch.equal(module.trunk[0].weight, before.trunk[0].weight)
    assert not torch.equal(module.kind.weight, before.kind.weight)


@pytest.mark.parametrize(
    ("width", "patterns", "message"),
    [(8, (), "such as "), (16, ("head.*",), "none is called 'head.\\*'"), (8, ("trunk.*",), "such as trunk")],
)
def test_weights_that_do_not_fit_are_refused(
    width: int, patterns: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    before = TinyTorch().module(torch_spec(), TinyPoints(), {})
    module = TinyTorch().module(torch_spec(model={"width": width}), TinyPoints(), {})
    with pytest.raises(UserError, match=message):
        start_from(module, found(before, tmp_path, torch_spec()).path, patterns)


# A teacher ------------------------------------------------------------------------------------------------------------
def test_a_distilled_student_is_closer_to_its_teacher_than_one_that_is_not(tmp_path: Path) -> None:
    large = torch_spec(model={"width": 64})
    teacher, _, _ = train(tmp_path, max_epochs=30, model={"width": 64})
    origins = Origins({TEACHER: found(teacher, tmp_path, large)})
    small: dict[str, Any] = {"model": {"width": 6}, "max_epochs": 10}
    alone, _, _ = train(tmp_path, **small)
    taught, _, _ = train(tmp_path, origins, **small, teacher={"model": "1.0.0", "weight": 0.9})
    assert taught.distillation is not None
    assert taught.state_dict().keys() == alone.state_dict().keys()  # the teacher is no part of it

    values = TinyPoints().points("test", 200).values

    def divergence(student: TinyModule) -> float:
        with torch.no_grad():
            ours, theirs = (
                functional.log_softmax(module.eval().logits(values), dim=-1) for module in (student, teacher)
            )
            return float(functional.kl_div(ours, theirs, reduction="batchmean", log_target=True))

    assert divergence(taught) < 0.8 * divergence(alone)


def test_a_teacher_of_embeddings_pulls_towards_them_and_does_not_learn(tmp_path: Path) -> None:
    teacher = TinyTorch().module(torch_spec(), TinyPoints(), {})
    distillation = Distillation(teacher, TeacherSpec(model="champion", weight=1.0))
    theirs = distillation.ask(lambda module: module.trunk(torch.ones(4, 8)))
    assert not theirs.requires_grad
    assert not any(parameter.requires_grad for parameter in teacher.parameters())
    ours = torch.randn(4, 16, requires_grad=True)
    before = distillation.embeddings(torch.zeros(()), ours, theirs)
    before.backward()
    with torch.no_grad():
        after = distillation.embeddings(torch.zeros(()), ours - ours.grad, theirs)  # type: ignore[operator]
    assert float(after) < float(before.detach())
    assert float(distillation.embeddings(torch.zeros(()), theirs, theirs)) == pytest.approx(0.0, abs=1e-6)


def test_a_model_that_cannot_be_taught_is_refused(tmp_path: Path) -> None:
    class Plain(TinyTorch):
        def module(self, *arguments: Any) -> Any:
            module = super().module(*arguments)
            module.__class__ = type("PlainModule", (torch.nn.Module,), {})  # without `distillation`
            return module

    spec = torch_spec(teacher={"model": "1.0.0"})
    origins = Origins({TEACHER: found(TinyTorch().module(spec, TinyPoints(), {}), tmp_path, spec)})
    with pytest.raises(UserError, match="PlainModule cannot learn from a teacher"):
        build(Plain(), spec, TinyPoints(), {}, 1, origins)


# Several tasks --------------------------------------------------------------------------------------------------------
def test_fixed_weights_and_what_is_shown() -> None:
    tasks = TaskLosses(TasksSpec(weights={"b": 0.5, "c": 0.0}), ["a", "b", "c"])
    step = tasks({"a": torch.tensor(1.0), "b": torch.tensor(4.0), "c": torch.tensor(float("nan"))})
    assert float(step["loss"]) == 3.0
    assert set(step[LOSSES]) == {"a", "b", "c"}
    assert list(tasks.parameters()) == []


def test_uncertainty_weighs_a_loss_down_to_one() -> None:
    """For constant losses the best s is their logarithm, and each then counts as 1."""
    tasks = TaskLosses(TasksSpec(balance="uncertainty"), ["easy", "hard"])
    losses = {"easy": torch.tensor(0.1), "hard": torch.tensor(5.0)}
    assert float(tasks(losses)["loss"].detach()) == pytest.approx(5.1)  # as if fixed, before anything was learned
    optimizer = torch.optim.Adam(tasks.parameters(), lr=0.1)
    for _ in range(200):
        optimizer.zero_grad()
        tasks(losses)["loss"].backward()
        optimizer.step()
    learned = {name: float(value.detach()) for name, value in tasks.log_variances.items()}
    assert learned == pytest.approx({"easy": math.log(0.1), "hard": math.log(5.0)}, abs=0.02)


def test_a_family_learns_both_tasks_or_the_one_that_counts(tmp_path: Path) -> None:
    _, both, _ = train(tmp_path, max_epochs=6)
    _, one, _ = train(tmp_path, max_epochs=6, tasks={"weights": {"amount": 0.0}})
    assert float(both.callback_metrics["amount"]) < float(one.callback_metrics["amount"])


@pytest.mark.parametrize(
    ("wanted", "message"), [({"c": 1.0}, "there is no task 'c'"), ({"a": 0.0, "b": 0.0}, "all tasks have the weight 0")]
)
def test_weights_of_no_task_are_refused(wanted: dict[str, float], message: str) -> None:
    with pytest.raises(UserError, match=message):
        TaskLosses(TasksSpec(weights=wanted), ["a", "b"])


# Where weights are found ----------------------------------------------------------------------------------------------
def _register(settings: Settings, version: str, **record: Any) -> None:
    values = {
        "family": FAMILY, "version": version, "fingerprint": version, "digest": DIGESTS[version], "verdict": "PASS",
        "releasable": 1, "mlflow_version": "1", "dataset_version": "1.0.0", "record": record,
        "registered_at": datetime(2026, 11, 2, tzinfo=UTC),
    }  # fmt: skip
    with open_database(settings.database_url).begin() as connection:
        connection.execute(insert(schema.model_versions).values(**values))


def _kept(settings: Settings, folder: Path) -> Found:
    spec = torch_spec()
    made = found(TinyTorch().module(spec, TinyPoints(), {}), folder, spec, ("1.0.0", "0.9.0"))
    keep_weights(open_store(settings.store_url), FAMILY, made.path, made.record)
    return made


def test_a_version_is_resolved_once_and_its_weights_are_fetched_and_checked(
    settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = torch_spec(transfer={"init_from": "1.0.0"}, teacher={"model": DIGESTS["1.0.0"]})
    _register(settings, "1.0.0")
    kept = _kept(settings, tmp_path)
    named = resolve(settings, spec)
    assert named == {
        INIT: {"version": "1.0.0", "digest": DIGESTS["1.0.0"]},
        TEACHER: {"version": None, "digest": DIGESTS["1.0.0"]},
    }
    fetched = fetch_origins(settings, spec, {"origins": named}, tmp_path)
    assert fetched.facts()[INIT] == {
        "version": "1.0.0",
        "digest": DIGESTS["1.0.0"],
        "weights": kept.record.sha256,
        "data": ["1.0.0", "0.9.0"],
    }

    def refuse(settings: Settings, family: str, *versions: str) -> None:
        raise DataError(f"{versions} are recalled")

    monkeypatch.setattr(weights, "refuse_recalled", refuse)
    with pytest.raises(DataError, match=r"\('1.0.0', '0.9.0'\) are recalled"):
        fetch_origins(settings, spec, {"origins": named}, tmp_path)


def test_the_champion_is_none_before_there_is_one_and_while_a_baseline_serves(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = torch_spec(transfer={"init_from": "champion"})
    assert resolve(settings, spec) == {}
    _register(settings, "1.0.0", baseline="guess")
    _register(settings, "2.0.0")
    for version, expected in (("1.0.0", {}), ("2.0.0", {INIT: {"version": "2.0.0", "digest": DIGESTS["2.0.0"]}})):
        serving = {"version": version, "digest": DIGESTS[version]}
        monkeypatch.setattr(weights, "champion", lambda settings, family, serving=serving: serving)
        assert resolve(settings, spec) == expected


def test_missing_and_altered_weights_are_named(settings: Settings, tmp_path: Path) -> None:
    spec = torch_spec(transfer={"init_from": DIGESTS["1.0.0"]})
    with pytest.raises(UserError, match="no trained weights of the model aaaa"):
        fetch_origins(settings, spec, {}, tmp_path)
    _kept(settings, tmp_path)
    open_store(settings.store_url).put(f"weights/{FAMILY}/{DIGESTS['1.0.0']}.safetensors", b"other")
    with pytest.raises(DataError, match="are not what was kept"):
        fetch_origins(settings, spec, {}, tmp_path)


@pytest.mark.slow
def test_a_training_goes_on_from_the_weights_that_another_one_left(settings: Settings, tmp_path: Path) -> None:
    """Both as real steps, over two processes, the second one on another dataset version."""
    first = Fit(settings, torch_spec(devices=2, max_epochs=6), "first", tmp_path / "first.log").finish()
    assert first["origins"] == {}
    changes: dict[str, Any] = {
        "transfer": {"init_from": first["digest"], "learn_only": ["kind.*", "amount.*"]},
        "teacher": {"model": first["digest"]},
    }
    spec = torch_spec(devices=2, max_epochs=1, **changes)
    second = Fit(settings, spec, "second", tmp_path / "second.log", version="2.0.0").finish()
    assert second["metrics"]["loss"] < first["metrics"]["loss"] * 1.1
    for role in (INIT, TEACHER):
        assert second["origins"][role]["digest"] == first["digest"]
        assert second["origins"][role]["data"] == ["1.0.0"]
    store = open_store(settings.store_url)
    kept = [weights.fetch_weights(store, FAMILY, outputs["digest"], tmp_path) for outputs in (first, second)]
    assert kept[1][0].data == ["2.0.0", "1.0.0"]
    before, after = (load_file(path) for _, path in kept)
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"kind.weight", "kind.bias", "amount.weight", "amount.bias"}
