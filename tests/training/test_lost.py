"""Work lost: counted from the mark of the last try to the checkpoint that the next one goes on from, once."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from include.settings import Settings
from include.store.objects import ObjectStore, open_store
from include.training.lost import LostWork, Mark, MarkWriter

MARK = "steps/x/fit/1/mark.json"


@pytest.fixture
def store(settings: Settings) -> ObjectStore:
    return open_store(settings.store_url)


def _lost(store: ObjectStore, tmp_path: Path, machine: str = "a") -> LostWork:
    return LostWork(store, "steps/x/fit/1", tmp_path / machine / "mark")


def _try(lost: LostWork, store: ObjectStore, start: int, end: int, every: int, *, publish: bool = True) -> None:
    """A try from step `start` to `end`, at two seconds a step, with a checkpoint every so many steps."""
    writer = MarkWriter(store, "steps/x/fit/1", lost.path, lost.begin(start))
    writer.saved(start, 2.0 * start)
    for step in range(start + 1, end + 1):
        writer.step(step, 2.0 * step)
        if step % every == 0:
            writer.saved(step, 2.0 * step)
        if publish:
            writer.publish()


def test_an_undisturbed_training_lost_nothing(store: ObjectStore, tmp_path: Path) -> None:
    lost = _lost(store, tmp_path)
    _try(lost, store, 0, 30, 10)
    assert lost.total() == {"tries": 0, "steps": 0, "seconds": 0.0}
    lost.forget()
    assert lost.begin(0) and lost.total()["tries"] == 0


def test_what_was_done_after_the_checkpoint_is_lost_and_summed_over_tries(store: ObjectStore, tmp_path: Path) -> None:
    lost = _lost(store, tmp_path)
    _try(lost, store, 0, 17, 10)
    _try(lost, store, 10, 23, 10)
    _try(lost, store, 20, 30, 10)
    assert lost.total() == {"tries": 2, "steps": 7 + 3, "seconds": 20.0}


def test_a_try_is_counted_once_however_often_the_next_one_begins(store: ObjectStore, tmp_path: Path) -> None:
    lost = _lost(store, tmp_path)
    _try(lost, store, 0, 17, 10)
    for _ in range(3):  # tries that die before their first step
        lost.begin(10)
    assert lost.total() == {"tries": 1, "steps": 7, "seconds": 14.0}


def test_on_another_machine_the_mark_in_the_store_counts(store: ObjectStore, tmp_path: Path) -> None:
    _try(_lost(store, tmp_path, "a"), store, 0, 17, 10)
    other = _lost(store, tmp_path, "b")
    _try(other, store, 10, 14, 10)
    back = _lost(store, tmp_path, "a")  # where a stale file of the first try lies
    back.begin(10)
    assert back.total()["steps"] == 7 + 4


def test_on_the_same_machine_no_step_is_missed(store: ObjectStore, tmp_path: Path) -> None:
    lost = _lost(store, tmp_path)
    _try(lost, store, 0, 17, 10, publish=False)  # it died within its first second
    lost.begin(10)
    assert lost.total()["steps"] == 7


def test_where_the_store_knows_more_than_the_machine_it_is_believed(store: ObjectStore, tmp_path: Path) -> None:
    lost = _lost(store, tmp_path)
    _try(lost, store, 0, 17, 10)
    before = lost.path.read_bytes()
    writer = MarkWriter(store, "steps/x/fit/1", lost.path, Mark(**json.loads(store.get(MARK))).attempt)
    writer.step(19, 38.0)
    writer.publish()
    lost.path.write_bytes(before)  # the same try, two steps ago
    lost.begin(10)
    assert lost.total()["steps"] == 9


def test_a_training_that_begins_anew_lost_everything(store: ObjectStore, tmp_path: Path) -> None:
    lost = _lost(store, tmp_path)
    _try(lost, store, 0, 17, 10)
    lost.begin(0)
    assert lost.total() == {"tries": 1, "steps": 17, "seconds": 34.0}


def test_saving_on_the_way_out_loses_nothing() -> None:
    assert Mark("a", 17, 34.0, 17, 34.0).lost_after(17) == (0, 0.0)
    assert Mark("a", 20, 50.0, 18, 45.0).lost_after(10) == (10, 25.0)  # the newest checkpoint was damaged
    assert Mark("a", 0, 0.0, 0, 0.0).lost_after(3) == (0, 0.0)
