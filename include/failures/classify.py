"""How a run of a step ended: from exit code, pod status, the step's own error record and the end of its log.

A pure function of what was found. Whoever takes the place away is asked first (a preempted training ends with an error
of its own, which is not the cause), then the container's state, then the step's own words, then the log, and only then
the bare exit code. The one exception: a step that ended with a user or data error said all there is to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.errors import FailureKind, clip
from include.failures import pod_status
from include.failures.endings import WORDS, Ending
from include.failures.log_lines import cause, last_line
from include.failures.pod_status import Finding

_SIGNALS = {6: "SIGABRT", 7: "SIGBUS", 9: "SIGKILL", 11: "SIGSEGV", 15: "SIGTERM"}
_EXIT_FINAL = 2  # of the contract in include/steps/entry.py: a person must change something
_ADVICE_OF_ITS_OWN = frozenset({Ending.DATA, Ending.USER, Ending.DIVERGED, Ending.UNKNOWN})


@dataclass(frozen=True)
class Evidence:
    """What is known about a run that ended badly.

    Attributes:
        exit_code: Of the step's process (128 + n where signal n ended it); None where it is not known.
        error: The record that the step left (`include.errors`), if any.
        log_tail: Last lines of its log.
        lost: The pod is gone without an exit status, and nobody deleted it.
        deleted: The pod is gone because somebody deleted it, or it was told to stop.
        timed_out: Airflow's time limit for the task was reached.
        oom_kills: Processes that the kernel killed for want of memory in the pod's control group while it ran.
        pod: The Kubernetes pod as the API gives it.
        events: The Kubernetes pod's events as the API gives them, oldest first.
        container: Name of the container that runs the step.
        incomplete: Not all pods of those that train together found a place in time.
    """

    exit_code: int | None = None
    error: Mapping[str, Any] | None = None
    log_tail: Sequence[str] = ()
    lost: bool = False
    deleted: bool = False
    timed_out: bool = False
    oom_kills: int = 0
    pod: Mapping[str, Any] | None = None
    events: Sequence[Mapping[str, Any]] = ()
    container: str = "base"
    incomplete: bool = False


@dataclass(frozen=True)
class Diagnosis:
    """How the run ended.

    Attributes:
        line: The line that matters, as it was found.
        where: Where it was found.
        advice: What the person on call should do.
    """

    ending: Ending
    line: str
    where: str
    advice: str

    @property
    def text(self) -> str:
        """What, where, and what to do, for the log and the alert."""
        place = f" ({self.where})" if self.where else ""
        said = f": {self.line}" if self.line else ""
        return f"{WORDS[self.ending][0]}{said}{place}. What to do: {self.advice}"


def classify(evidence: Evidence) -> Diagnosis:
    """How the run ended, with the line that matters."""
    found = (
        _final_words(evidence)
        or _from_gang(evidence)
        or _from_pod(evidence)
        or _from_circumstances(evidence)
        or _from_error(evidence)
        or _from_log(evidence)
        or _from_exit_code(evidence)
    )
    return Diagnosis(found.ending, clip(found.line), found.where, _advice(found.ending, evidence.error))


def _final_words(evidence: Evidence) -> Finding | None:
    """The step's own user or data error, where its exit status agrees: the record may be of an earlier run."""
    error, code = evidence.error or {}, _code(evidence)
    if code == _EXIT_FINAL and error.get("kind") in (FailureKind.USER.value, FailureKind.DATA.value):
        return Finding(Ending(error["kind"]), str(error.get("message", "")), str(error.get("where", "")))
    return None


def most_telling(gang: Sequence[Evidence]) -> Evidence:
    """Of pods that trained together, the one whose end explains those of the others.

    A pod that lost its place takes the others along, and they say only that it left them; so what befell a pod goes
    before what a pod did, and that before what it did later.
    """

    def order(evidence: Evidence) -> tuple[int, str]:
        code, pod = _code(evidence), evidence.pod or {}
        at = pod_status.finished_at(pod, evidence.container)
        if _from_pod(evidence) is not None:
            return 0, at
        if evidence.lost or evidence.deleted or evidence.timed_out or pod_status.deleted(pod):
            return 1, at
        if code:
            return (2 if code == _EXIT_FINAL else 3), at
        return 4, at

    return min(gang, key=order)


def _from_gang(evidence: Evidence) -> Finding | None:
    """Whether it was for want of places; an image that cannot be pulled, for one, is another thing."""
    found = _from_pod(evidence)
    if not evidence.incomplete or (found is not None and found.ending is not Ending.UNSCHEDULABLE):
        return None
    said = found.line if found else last_line(evidence.log_tail)
    return Finding(Ending.INCOMPLETE, said, found.where if found else "resources.pending_minutes")


def _from_pod(evidence: Evidence) -> Finding | None:
    if evidence.pod is None:
        return None
    return pod_status.disruption(evidence.pod, evidence.events) or pod_status.container(
        evidence.pod, evidence.container
    )


def _from_circumstances(evidence: Evidence) -> Finding | None:
    """What whoever watched the pod knows."""
    code = _code(evidence)
    if evidence.timed_out:
        return Finding(Ending.TIMED_OUT, "", "execution_timeout of the task")
    if evidence.oom_kills and (code == 137 or "signal 9" in str((evidence.error or {}).get("message", ""))):
        line = f"the kernel killed {evidence.oom_kills} process(es) of the pod's control group"
        return Finding(Ending.OUT_OF_MEMORY, line, "memory events of the control group")
    if evidence.lost:
        return Finding(Ending.NODE_LOST, "the pod left no exit status", "pod")
    if evidence.deleted or (evidence.pod is not None and pod_status.deleted(evidence.pod)):
        return Finding(Ending.KILLED, "the pod was deleted or told to stop", "pod")
    return None


def _from_error(evidence: Evidence) -> Finding | None:
    """The record that the step left: its kind, or what its text tells."""
    error = evidence.error
    if not error:
        return None
    message, where, kind = str(error.get("message", "")), str(error.get("where", "")), error.get("kind")
    if kind == FailureKind.TRAINING.value:
        return Finding(Ending.DIVERGED, message, where)
    known = cause([f"{error.get('error', '')}: {message}", message])
    if known:
        return Finding(known[0], message or known[1], where or "error of the step")
    if error.get("error") == "Stopped":
        return Finding(Ending.KILLED, message, "SIGTERM")
    if kind in (FailureKind.USER.value, FailureKind.DATA.value):
        return Finding(Ending(kind), message, where)
    return None


def _from_log(evidence: Evidence) -> Finding | None:
    known = cause(evidence.log_tail)
    return Finding(*known, "log") if known else None


def _from_exit_code(evidence: Evidence) -> Finding:
    code, said = _code(evidence), str((evidence.error or {}).get("message", "")) or last_line(evidence.log_tail)
    if code in (137, 143):
        return Finding(Ending.KILLED, said, f"{_SIGNALS[code - 128]}, and nothing says from whom")
    if "was killed by signal 9" in said:  # one of several training processes
        return Finding(Ending.KILLED, said, "SIGKILL, and nothing says from whom")
    if code == _EXIT_FINAL:  # such as a command line that the program refuses
        return Finding(Ending.USER, said, "exit status 2")
    if code is not None and code > 128:
        return Finding(Ending.UNKNOWN, said, _SIGNALS.get(code - 128, f"signal {code - 128}"))
    place = str((evidence.error or {}).get("where", ""))
    return Finding(Ending.UNKNOWN, said, place or f"exit status {'unknown' if code is None else code}")


def _code(evidence: Evidence) -> int | None:
    if evidence.exit_code is not None or evidence.pod is None:
        return evidence.exit_code
    return pod_status.exit_code(evidence.pod, evidence.container)


def _advice(ending: Ending, error: Mapping[str, Any] | None) -> str:
    """The step's own advice where the ending is of its own making, else the general one."""
    own = str((error or {}).get("hint") or "")
    return own if own and ending in _ADVICE_OF_ITS_OWN else WORDS[ending][1]
