"""Processes that train together: they fail together, stop together and leave nobody behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from include.errors import DataError, FailureKind
from include.training.process_group import process_group
from include.training.ranks import Rank, RankError, run_ranks
from include.training.stop import Stop, Stopped
from tests.training.conftest import ROOT, alive, children, wait_for


@dataclass(frozen=True)
class Work:
    """What the ranks do, by name."""

    kind: str
    folder: Path

    def __call__(self, rank: Rank) -> None:
        with process_group(rank):
            self._work(rank)

    def _work(self, rank: Rank) -> None:
        import torch

        (self.folder / f"rank-{rank.number}").write_text(f"{os.getpid()}")
        if self.kind == "sum":
            values = torch.tensor([float(rank.number + 1)])
            torch.distributed.all_reduce(values)
            (self.folder / f"sum-{rank.number}").write_text(str(values.item()))
        elif self.kind == "fail" and rank.number == 1:
            raise DataError("the data is bad", where="row 7", hint="mend it")
        elif self.kind == "crash" and rank.number == 1:
            raise ZeroDivisionError("by chance")
        elif self.kind == "steps":
            for step in range(1, 10_000):
                values = torch.ones(1)
                torch.distributed.all_reduce(values)
                if rank.stop.due(step, rank.number, rank.world):
                    (self.folder / f"stopped-{rank.number}").write_text(str(step))
                    raise Stopped("asked to")
                time.sleep(0.005)
        else:
            time.sleep(600)


def _pids(folder: Path) -> list[int]:
    files = sorted(folder.glob("rank-*"))
    return [int(file.read_text()) for file in files if file.read_text()]


def test_ranks_meet_and_exchange_values(tmp_path: Path) -> None:
    run_ranks(Work("sum", tmp_path), 2, 1, tmp_path)
    assert [(tmp_path / f"sum-{rank}").read_text() for rank in (0, 1)] == ["3.0", "3.0"]


@pytest.mark.parametrize(("accelerator", "backend"), [("cpu", "gloo"), ("auto", "nccl"), ("gpu", "nccl")])
def test_gpus_are_left_alone_where_the_spec_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, accelerator: str, backend: str
) -> None:
    import torch

    begun: list[str] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: begun.append(f"device {number}"))
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda name, **_: begun.append(name))
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: None)
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "GLOO_SOCKET_IFNAME"):
        monkeypatch.setenv(name, "")  # so that what is set here does not stay
    with process_group(Rank(1, 2, 1, tmp_path, Stop(), local=1), accelerator):
        pass
    assert begun == (["gloo"] if backend == "gloo" else ["device 1", "nccl"])


def test_an_error_keeps_its_kind_place_and_hint_and_ends_the_others(tmp_path: Path) -> None:
    with pytest.raises(RankError, match="the data is bad") as caught:
        run_ranks(Work("fail", tmp_path), 2, 1, tmp_path)
    assert caught.value.kind is FailureKind.DATA
    assert (caught.value.where, caught.value.hint, caught.value.fields["rank"]) == ("row 7", "mend it", 1)
    assert not any(alive(pid) for pid in _pids(tmp_path))


def test_a_bug_is_a_system_error(tmp_path: Path) -> None:
    with pytest.raises(RankError, match="ZeroDivisionError: by chance") as caught:
        run_ranks(Work("crash", tmp_path), 2, 1, tmp_path)
    assert caught.value.kind is FailureKind.SYSTEM


def test_a_killed_rank_is_named_and_takes_the_others_along(tmp_path: Path) -> None:
    def kill_one() -> None:
        if len(_pids(tmp_path)) == 2:
            os.kill(_pids(tmp_path)[0], signal.SIGKILL)

    with pytest.raises(RankError, match="process 0 was killed by signal 9"):
        run_ranks(Work("sleep", tmp_path), 2, 1, tmp_path, kill_one)
    assert not any(alive(pid) for pid in _pids(tmp_path))


def test_sigterm_stops_all_ranks_after_the_same_step(tmp_path: Path) -> None:
    sent: list[float] = []

    def terminate() -> None:
        if len(_pids(tmp_path)) == 2 and not sent:
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(Stopped):
        run_ranks(Work("steps", tmp_path), 2, 1, tmp_path, terminate)
    steps = {(tmp_path / f"stopped-{rank}").read_text() for rank in (0, 1)}
    assert len(steps) == 1


_PARENT = """
    import sys
    from pathlib import Path
    from include.training.ranks import run_ranks
    from tests.training.test_ranks import Work
    run_ranks(Work("sleep", Path(sys.argv[1])), 2, 1, Path(sys.argv[1]))
"""


def test_no_rank_outlives_a_parent_that_is_killed(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PARENT), str(tmp_path)], cwd=ROOT, env=environment
    )
    wait_for(lambda: len(_pids(tmp_path)) == 2, 120)
    ranks = children(parent.pid)
    assert len(ranks) == 2
    parent.kill()
    parent.wait()
    wait_for(lambda: not any(alive(pid) for pid in ranks), 10)


def test_one_rank_alone_stops_at_once_and_several_after_the_next_step() -> None:
    alone, several = Stop(), Stop()
    assert not alone.due(4, 0, 1)
    alone.request()
    several.request()
    assert alone.due(5, 0, 1)
    assert not several.due(5, 1, 2)  # rank 1 does not decide
    assert not several.due(5, 0, 2)  # rank 0 does: after step 6
    assert several.due(6, 1, 2) and several.due(6, 0, 2)
