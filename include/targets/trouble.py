"""Why gateways do not come up, by what Kubernetes says of their Deployment and pods. Pure.

Some of it mends itself, sooner or later (a node is added, a registry comes back); `stuck` is what hardly will.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from include.failures import pod_status
from include.failures.endings import Ending
from include.failures.log_lines import cause, last_line

Record = Mapping[str, Any]

_HINTS = {
    Ending.IMAGE: "check `image` and `image_pull_secrets` in the serving spec, and that the registry has this digest",
    Ending.USER: "check the secret and the pod that the serving spec names",
    Ending.OUT_OF_MEMORY: "raise `memory` in the serving spec: the gateway needs more than its limit",
    Ending.UNSCHEDULABLE: "add nodes, or ask for less `cpu` and `memory` in the serving spec",
}
_CRASH_HINT = "mend what the line says and deploy again; `kubectl logs --previous` shows the rest"
_QUOTA_HINT = "raise the namespace's quota, or ask for fewer or smaller gateways in the serving spec"
_CRASHES = 2
_EXCEPTION = re.compile(r"([a-zA-Z_]\w*\.)*[A-Z]\w*(Error|Exception)\b.*: ")


@dataclass(frozen=True)
class Trouble:
    """One reason why a gateway does not serve.

    Attributes:
        line: The words that tell it.
        stuck: Waiting will hardly help.
    """

    kind: str
    line: str
    hint: str = ""
    stuck: bool = False

    def __str__(self) -> str:
        return f"{self.kind}: {self.line}"


def of_deployment(deployment: Record) -> Trouble | None:
    """What keeps pods from being made at all: a quota, an admission rule, an account that is not there."""
    for condition in (deployment.get("status") or {}).get("conditions") or []:
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True":
            line = str(condition.get("message") or condition.get("reason") or "")
            if "exceeded quota" in line:
                return Trouble("quota", line, _QUOTA_HINT, stuck=True)
            hint = "the namespace refuses the pod that the serving spec makes"
            return Trouble("refused", line, hint, stuck=True)
    return None


def of_pod(pod: Record, container: str, log: Sequence[str] = ()) -> Trouble | None:
    """Why this pod is not ready; None where nothing is told yet.

    Args:
        log: The last lines of the container that ended, where one crashed, else of the one that runs.
    """
    found = pod_status.container(pod, container)
    if found is not None and found.ending is not Ending.OUT_OF_MEMORY:
        kind = "image" if found.ending is Ending.IMAGE else "cannot start"
        return Trouble(kind, found.line, _HINTS.get(found.ending, ""), stuck=True)
    if (crashed := _crash(pod, container, log)) is not None:
        return crashed
    gone = pod_status.disruption(pod, ())
    if gone is not None:
        kind = "unschedulable" if gone.ending is Ending.UNSCHEDULABLE else gone.ending.value
        return Trouble(kind, gone.line, _HINTS.get(gone.ending, ""))
    if log and _EXCEPTION.match(line := telling(log)):  # its processes end and are started again inside of it
        return Trouble("does not start", line, _CRASH_HINT)
    return None


def telling(log: Sequence[str]) -> str:
    """The line that matters: of a known cause, of an exception, or the last."""
    if found := cause(log):
        return found[1]
    said = [line.strip() for line in log if line.strip()]
    if len(said) > 1 and said[-1].startswith("what to do: "):  # an error of ours, in two lines
        return f"{said[-2]} ({said[-1]})"
    return next((line for line in reversed(said) if _EXCEPTION.match(line)), last_line(said))


def restarts(pod: Record, container: str) -> int:
    """How often the container was started again."""
    return int(_entry(pod, container).get("restartCount") or 0)


def ready(pod: Record) -> bool:
    """Whether clients are led to the pod."""
    conditions = (pod.get("status") or {}).get("conditions") or []
    return not pod_status.deleted(pod) and any(
        found.get("type") == "Ready" and found.get("status") == "True" for found in conditions
    )


def begun(pod: Record, container: str) -> bool:
    """Whether the container runs and passed its startup probe: it would serve if there were something to serve."""
    entry = _entry(pod, container)
    return bool(entry.get("started")) and "running" in (entry.get("state") or {})


def crashed(pod: Record, container: str) -> bool:
    """Whether the container ended at least once, and its log is worth a look."""
    entry = _entry(pod, container)
    return bool((entry.get("lastState") or {}).get("terminated") or (entry.get("state") or {}).get("terminated"))


def _crash(pod: Record, container: str, log: Sequence[str]) -> Trouble | None:
    entry = _entry(pod, container)
    now = (entry.get("state") or {}).get("terminated")
    last = now or (entry.get("lastState") or {}).get("terminated")
    if not last or entry.get("ready"):
        return None
    reason, code = str(last.get("reason") or "Error"), last.get("exitCode")
    line = telling(log)
    told = f"{reason}, exit code {code}" + (f": {line}" if line else "")
    memory = reason == "OOMKilled"
    hint = _HINTS[Ending.OUT_OF_MEMORY] if memory else _CRASH_HINT
    return Trouble("crash loop", told, hint, stuck=restarts(pod, container) >= _CRASHES)


def _entry(pod: Record, container: str) -> Record:
    entries = (pod.get("status") or {}).get("containerStatuses") or []
    return next((entry for entry in entries if entry.get("name") == container), {})
