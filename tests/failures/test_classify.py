"""How a run ended, from what real clusters, libraries and kernels leave behind."""

from __future__ import annotations

from typing import Any

import pytest

from include.errors import DataError, Diverged, UserError
from include.failures.classify import Evidence, classify
from include.failures.endings import WORDS, Ending
from tests.failures.pods import (
    LOW_MEMORY,
    NO_NODE,
    SHUTDOWN,
    disrupted,
    event,
    pod,
    terminated,
    waiting,
)

STOPPED = {"error": "Stopped", "kind": "system", "message": "training was asked to stop", "where": "", "hint": ""}
BAD_ROW = DataError("row 7 has no answer", where="a.jsonl:7", hint="mend it").to_json()


def rank_error(message: str, kind: str = "system") -> dict[str, Any]:
    return {"error": "RankError", "kind": kind, "message": message, "where": "", "hint": "", "fields": {"rank": 1}}


PODS = [
    # Node-pressure eviction: the same words in v1.20 and today; the condition came with v1.26.
    (pod(reason="Evicted", message=LOW_MEMORY), (), Ending.EVICTED, "low on resource: memory"),
    (
        pod(
            reason="Evicted",
            message=LOW_MEMORY,
            state=terminated(137),
            conditions=disrupted("TerminationByKubelet", LOW_MEMORY),
        ),
        (),
        Ending.EVICTED,
        "low on resource: memory",
    ),
    # The pod's own limit on disk: it would fill it again.
    (
        pod(reason="Evicted", message="Pod ephemeral local storage usage exceeds the total limit of containers 20Gi. "),
        (),
        Ending.USER,
        "20Gi",
    ),
    # Priority preemption: before v1.26 the pod is merely deleted, and an event says why.
    (
        pod(
            phase="Running",
            deleted=True,
            conditions=disrupted(
                "PreemptionByScheduler", "default-scheduler: preempting to accommodate a higher priority pod"
            ),
        ),
        (),
        Ending.PREEMPTED,
        "higher priority pod",
    ),
    (
        pod(phase="Running", deleted=True, state=terminated(143)),
        (event("Scheduled", "ok"), event("Preempted", "by serving/gateway-1 on node n1")),
        Ending.PREEMPTED,
        "by serving/gateway-1",
    ),
    (
        pod(reason="Preempting", message="Preempted in order to admit critical pod"),
        (),
        Ending.PREEMPTED,
        "critical pod",
    ),
    # Drain.
    (
        pod(deleted=True, conditions=disrupted("EvictionByEvictionAPI", "Eviction API: evicting")),
        (),
        Ending.PREEMPTED,
        "evicting",
    ),
    # The node is gone, unreachable, or goes down in an orderly way.
    (
        pod(phase="Unknown", reason="NodeLost", message="Node n1 which was running pod train-x is unresponsive"),
        (),
        Ending.NODE_LOST,
        "unresponsive",
    ),
    (
        pod(
            phase="Running",
            deleted=True,
            conditions=disrupted("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint"),
        ),
        (),
        Ending.NODE_LOST,
        "NoExecute",
    ),
    (
        pod(conditions=disrupted("DeletionByPodGC", "PodGC: node no longer exists")),
        (),
        Ending.NODE_LOST,
        "no longer exists",
    ),
    (
        pod(phase="Running", deleted=True),
        (event("TaintManagerEviction", "Marking for deletion Pod windtunnel/train-x"),),
        Ending.NODE_LOST,
        "Marking for deletion",
    ),
    (
        pod(reason="Terminated", message=SHUTDOWN, conditions=disrupted("TerminationByKubelet", SHUTDOWN)),
        (),
        Ending.NODE_LOST,
        "imminent node shutdown",
    ),
    (pod(reason="Shutdown", message="Node is shutting, evicting pods"), (), Ending.NODE_LOST, "shutting"),
    (pod(state=terminated(137, "ContainerStatusUnknown")), (), Ending.NODE_LOST, "ContainerStatusUnknown"),
    # Memory.
    (pod(state=terminated(137, "OOMKilled")), (), Ending.OUT_OF_MEMORY, "OOMKilled, exit code 137"),
    # Time.
    (
        pod(reason="DeadlineExceeded", message="Pod was active on the node longer than the specified deadline"),
        (),
        Ending.TIMED_OUT,
        "longer than",
    ),
    # Never started.
    (
        pod(phase="Pending", state=waiting("ImagePullBackOff", 'Back-off pulling image "trainer:9"')),
        (),
        Ending.IMAGE,
        "trainer:9",
    ),
    (
        pod(
            phase="Pending",
            state=waiting("PodInitializing", ""),
            init=waiting("ErrImageNeverPull", 'Container image "x" is not present with pull policy of Never'),
        ),
        (),
        Ending.IMAGE,
        "not present",
    ),
    (
        pod(
            phase="Pending",
            conditions=[{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": NO_NODE}],
        ),
        (),
        Ending.UNSCHEDULABLE,
        "Insufficient nvidia.com/gpu",
    ),
    (pod(phase="Pending"), (event("FailedScheduling", NO_NODE),), Ending.UNSCHEDULABLE, "Insufficient"),
    (
        pod(
            reason="OutOfcpu",
            message="Pod Node didn't have enough resource: cpu, requested: 2000, used: 3000, capacity: 4000",
        ),
        (),
        Ending.UNSCHEDULABLE,
        "enough resource: cpu",
    ),
    (
        pod(phase="Pending", state=waiting("CreateContainerConfigError", 'secret "windtunnel-env" not found')),
        (),
        Ending.USER,
        "windtunnel-env",
    ),
    (
        pod(state=terminated(128, "StartError", 'exec: "pythn": executable file not found in $PATH')),
        (),
        Ending.USER,
        "pythn",
    ),
    # Somebody deleted it, and nothing else is said.
    (pod(phase="Running", deleted=True, state=terminated(143)), (), Ending.KILLED, "deleted"),
    # It waited for a node, got one, and failed by itself.
    (pod(state=terminated(1)), (event("FailedScheduling", NO_NODE),), Ending.UNKNOWN, ""),
]


@pytest.mark.parametrize(("status", "events", "ending", "line"), PODS)
def test_pods(status: dict[str, Any], events: tuple[Any, ...], ending: Ending, line: str) -> None:
    found = classify(Evidence(pod=status, events=events, error=STOPPED if ending is not Ending.UNKNOWN else None))
    assert found.ending is ending
    assert line in found.line
    assert found.where


LOGS = [
    (
        [
            "progress fit 3/10 steps loss=0.4",
            "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
            "79.11 GiB of which 1.02 GiB is free.",
            "[rank1]: RuntimeError: [../third_party/gloo/gloo/transport/tcp/pair.cc:598] Connection closed by peer",
        ],
        Ending.OUT_OF_MEMORY,
        "79.11 GiB",
    ),
    (["Traceback (most recent call last):", "MemoryError"], Ending.OUT_OF_MEMORY, "MemoryError"),
    (
        [
            "numpy._core._exceptions._ArrayMemoryError: Unable to allocate 8.00 GiB for an array with shape "
            "(1073741824,) and data type float64"
        ],
        Ending.OUT_OF_MEMORY,
        "8.00 GiB",
    ),
    (
        ["terminate called after throwing an instance of 'std::bad_alloc'", "  what():  std::bad_alloc"],
        Ending.OUT_OF_MEMORY,
        "bad_alloc",
    ),
    (
        ["OSError: [Errno 12] Cannot allocate memory"],
        Ending.OUT_OF_MEMORY,
        "Errno 12",
    ),
    (
        [
            "RuntimeError: DataLoader worker (pid 77) is killed by signal: Bus error. It is possible that dataloader's "
            "workers are out of shared memory. Please try to raise your shared memory limit."
        ],
        Ending.OUT_OF_MEMORY,
        "shared memory",
    ),
    (
        [
            "[rank0]:[E626 06:24:44.903 ProcessGroupNCCL.cpp:616] [Rank 0] Watchdog caught collective operation "
            "timeout: WorkNCCL(SeqNum=808, OpType=ALLREDUCE, Timeout(ms)=600000) ran for 600020 milliseconds",
            "terminate called after throwing an instance of 'c10::DistBackendError'",
            "Fatal Python error: Aborted",
        ],
        Ending.COMMUNICATION,
        "DistBackendError",
    ),
    (
        ["RuntimeError: NCCL error in: /opt/pytorch/NCCLUtils.hpp:317, ncclSystemError: System call failed"],
        Ending.COMMUNICATION,
        "ncclSystemError",
    ),
    (
        ["torch.distributed.elastic.rendezvous.api.RendezvousTimeoutError", "", ""],
        Ending.COMMUNICATION,
        "RendezvousTimeoutError",
    ),
    (
        ["RuntimeError: [../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] Timed out waiting 1800000ms for "
         "recv operation to complete"],
        Ending.COMMUNICATION,
        "recv operation",
    ),
    (["RuntimeError: CUDA error: uncorrectable ECC error encountered"], Ending.NODE_LOST, "ECC"),
    (["step 31 loss=nan lr=0.1", "ValueError: bad"], Ending.DIVERGED, "loss=nan"),
    (["RuntimeError: Function 'MulBackward0' returned nan values in its 0th output."], Ending.DIVERGED, "Mul"),
    (["ModuleNotFoundError: No module named 'include'"], Ending.USER, "No module named"),
    (["OSError: [Errno 28] No space left on device"], Ending.USER, "No space left"),
    (["RuntimeError: DataLoader worker (pid 9) is killed by signal: Killed."], Ending.KILLED, "worker"),
    (["it was fine", "KeyError: 'x'", "   ", ""], Ending.UNKNOWN, "KeyError: 'x'"),
    ([], Ending.UNKNOWN, ""),
]  # fmt: skip


@pytest.mark.parametrize(("lines", "ending", "line"), LOGS)
def test_logs(lines: list[str], ending: Ending, line: str) -> None:
    found = classify(Evidence(exit_code=1, log_tail=lines))
    assert found.ending is ending
    assert line in found.line


@pytest.mark.parametrize(
    "line",
    [
        "progress fit 3/10 steps epoch=1 loss=0.4",
        "loss function: nanmean over tokens",
        "INFO saved loss_inference.json",
        "NCCL INFO comm 0x55 rank 0 nranks 2 - Init COMPLETE",
        "cache_mb = 1024: Memory for the hidden states",
        "gloo: 2 ranks meet through a file",
    ],
)
def test_harmless_lines_accuse_nobody(line: str) -> None:
    assert classify(Evidence(exit_code=1, log_tail=[line])).ending is Ending.UNKNOWN


ERRORS = [
    (Evidence(exit_code=2, error=BAD_ROW), Ending.DATA, "row 7 has no answer"),
    (Evidence(exit_code=2, error=UserError("no such profile").to_json()), Ending.USER, "no such profile"),
    (Evidence(exit_code=1, error=Diverged("map is nan after epoch 2").to_json()), Ending.DIVERGED, "map is nan"),
    (Evidence(exit_code=1, error=rank_error("map is nan after epoch 2", "training")), Ending.DIVERGED, "map is nan"),
    (
        Evidence(exit_code=1, error=rank_error("OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.")),
        Ending.OUT_OF_MEMORY,
        "2.00 GiB",
    ),
    (
        Evidence(exit_code=1, error={"error": "MemoryError", "kind": "system", "message": "", "where": "", "hint": ""}),
        Ending.OUT_OF_MEMORY,
        "MemoryError",
    ),
    (Evidence(exit_code=1, error=rank_error("DistBackendError: NCCL error in x")), Ending.COMMUNICATION, "NCCL"),
    (Evidence(exit_code=1, error=STOPPED), Ending.KILLED, "asked to stop"),
    (Evidence(exit_code=143, error=STOPPED, deleted=True), Ending.KILLED, "told to stop"),
    (
        Evidence(exit_code=1, error=rank_error("training process 1 was killed by signal 9")),
        Ending.KILLED,
        "process 1",
    ),
    (
        Evidence(exit_code=1, error=rank_error("training process 1 was killed by signal 9"), oom_kills=1),
        Ending.OUT_OF_MEMORY,
        "the kernel killed 1",
    ),
    (Evidence(exit_code=137), Ending.KILLED, ""),
    (Evidence(exit_code=137, oom_kills=2), Ending.OUT_OF_MEMORY, "killed 2"),
    (Evidence(exit_code=1, oom_kills=2), Ending.UNKNOWN, ""),  # somebody else's process in the same control group
    (Evidence(exit_code=139, log_tail=["boom"]), Ending.UNKNOWN, "boom"),
    (Evidence(exit_code=2, log_tail=["error: argument --run: expected one argument"]), Ending.USER, "--run"),
    (Evidence(lost=True, log_tail=["CUDA out of memory"]), Ending.NODE_LOST, "no exit status"),
    (Evidence(exit_code=143, timed_out=True), Ending.TIMED_OUT, ""),
]


@pytest.mark.parametrize(("evidence", "ending", "line"), ERRORS)
def test_errors_and_exit_codes(evidence: Evidence, ending: Ending, line: str) -> None:
    found = classify(evidence)
    assert found.ending is ending
    assert line in found.line


def test_a_final_error_is_not_blamed_on_the_node_that_left_afterwards() -> None:
    gone = pod(state=terminated(2), conditions=disrupted("DeletionByPodGC", "PodGC: node no longer exists"))
    assert classify(Evidence(pod=gone, error=BAD_ROW)).ending is Ending.DATA
    assert classify(Evidence(pod=gone, error=STOPPED)).ending is Ending.NODE_LOST


def test_an_old_final_error_does_not_explain_another_exit() -> None:
    assert classify(Evidence(exit_code=137, error=BAD_ROW, oom_kills=1)).ending is Ending.OUT_OF_MEMORY


def test_the_text_says_what_where_and_what_to_do() -> None:
    assert classify(Evidence(exit_code=2, error=BAD_ROW)).text == (
        "the data cannot be used: row 7 has no answer (a.jsonl:7). What to do: mend it"
    )
    text = classify(Evidence(pod=pod(state=terminated(137, "OOMKilled")))).text
    assert text.startswith("memory ran out: OOMKilled, exit code 137 (container base, terminated). What to do: lower")
    assert WORDS.keys() == set(Ending)


def test_a_line_of_any_length_stays_short() -> None:
    assert len(classify(Evidence(exit_code=1, log_tail=["MemoryError " + "x" * 10**6])).line) <= 600
