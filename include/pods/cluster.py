"""Pods of one namespace through the Kubernetes API, for whoever may wait: an API server that is away is waited for.

Answers are taken raw, as JSON: the client's classes refuse what they do not know, and no cluster has their version.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

import tenacity

from include.errors import UserError, clip
from include.failures.pod_status import ended
from include.pods.contract import PodError
from include.pods.manifest import CONTAINER, PART_OF

if TYPE_CHECKING:
    from kubernetes.client import CoreV1Api

Record = dict[str, Any]

#: For how many hours an ended pod stays to be looked at, unless it says otherwise.
KEEP_HOURS = "windtunnel/keep-hours"
_PATIENCE_SECONDS = 300.0
_ASK_SECONDS = 10.0
_TAIL_LINES = 500
_NOT_FOUND, _CONFLICT, _SERVER_ERROR, _TOO_MANY = 404, 409, 500, 429
#: 403: the account may not, or admission refuses (a priority class that is not there); trying again changes neither.
_REFUSED = frozenset({400, 403, 422})


class NoRoom(PodError):
    """The namespace's quota leaves no room for the pod now."""


class Cluster:
    """See the module.

    Args:
        client: Of the package `kubernetes`.
        patience_seconds: For how long an API server is waited for.
    """

    def __init__(self, client: CoreV1Api, namespace: str, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self.namespace = namespace
        self._client, self._patience = client, patience_seconds

    def create(self, manifest: Record) -> bool:
        """Creates the pod; False where there is one of this name.

        Raises:
            NoRoom: The namespace's quota is used up.
            UserError: The API refuses the manifest.
        """
        from kubernetes.client.exceptions import ApiException

        try:
            self._ask(self._client.create_namespaced_pod, self.namespace, manifest)
        except ApiException as error:
            if error.status == _CONFLICT:
                return False
            said, where = _message(error), f"namespace {self.namespace}"
            if "exceeded quota" in said:
                raise NoRoom(f"the quota leaves no room for the pod: {said}", where=where) from error
            if error.status in _REFUSED or error.status == _NOT_FOUND:
                hint = "look at the family's resources, the pod template (WINDTUNNEL_POD_TEMPLATE) and who may do what"
                raise UserError(f"Kubernetes refuses the pod: {said}", where=where, hint=hint) from error
            raise PodError(f"cannot create the pod ({error.status}): {said}", where=where) from error
        return True

    def get(self, name: str) -> Record | None:
        """The pod as the API gives it; None where there is none."""
        found: Record | None = self._or_none(self._client.read_namespaced_pod, name, self.namespace)
        return found

    def delete(self, name: str) -> None:
        """Tells the pod to end; nothing happens where there is none."""
        self._or_none(self._client.delete_namespaced_pod, name, self.namespace)

    def events(self, name: str) -> list[Record]:
        """What was said about pods of this name, the oldest first."""
        from kubernetes.client.exceptions import ApiException

        try:
            found = self._ask(
                self._client.list_namespaced_event, self.namespace, field_selector=f"involvedObject.name={name}"
            )
        except ApiException:  # a help, and not every site lets Airflow read them
            return []
        return list(json.loads(found)["items"])

    def tail(self, name: str, container: str = CONTAINER) -> list[str]:
        """The last lines of the pod's log; none where they cannot be had (any more)."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            response = self._client.read_namespaced_pod_log(
                name,
                self.namespace,
                container=container,
                tail_lines=_TAIL_LINES,
                _preload_content=False,
                _request_timeout=(_ASK_SECONDS, _ASK_SECONDS),
            )
        except (ApiException, HTTPError):  # not waited for: it is the node that is asked, and that may be gone for good
            return []
        return bytes(response.data).decode("utf-8", "replace").splitlines()

    def tidy(self, now: datetime) -> int:
        """Deletes Windtunnel's ended pods that were kept for long enough; returns how many."""
        selector = ",".join(f"{key}={value}" for key, value in PART_OF.items())
        found = self._ask(self._client.list_namespaced_pod, self.namespace, label_selector=selector)
        old = [pod["metadata"]["name"] for pod in json.loads(found)["items"] if _kept_enough(pod, now)]
        for name in old:
            self.delete(name)
        return len(old)

    def _or_none(self, call: Callable[..., Any], *arguments: Any) -> Any:
        from kubernetes.client.exceptions import ApiException

        try:
            return json.loads(self._ask(call, *arguments))
        except ApiException as error:
            if error.status == _NOT_FOUND:
                return None
            raise PodError(
                f"Kubernetes refuses ({error.status}): {_message(error)}", where=f"namespace {self.namespace}"
            ) from error

    def _ask(self, call: Callable[..., Any], *arguments: Any, **more: Any) -> bytes:
        """The raw answer, waited for where the API server is away or overwhelmed.

        Raises:
            PodError: It stayed away.
        """
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        def passes(error: BaseException) -> bool:
            if isinstance(error, ApiException):
                return not error.status or error.status == _TOO_MANY or error.status >= _SERVER_ERROR
            return isinstance(error, (HTTPError, OSError))

        patiently = tenacity.Retrying(
            retry=tenacity.retry_if_exception(passes),
            wait=tenacity.wait_exponential(multiplier=0.5, max=10),
            stop=tenacity.stop_after_delay(self._patience),
            reraise=True,
        )
        try:
            response = patiently(
                call, *arguments, **more, _preload_content=False, _request_timeout=(_ASK_SECONDS, _ASK_SECONDS)
            )
        except (HTTPError, OSError) as error:
            raise PodError(
                f"the Kubernetes API stayed away for {self._patience:g} s: {clip(error, 200)}", where=call.__name__
            ) from error
        return bytes(response.data)


def _message(error: Any) -> str:
    """What the API says, without its envelope."""
    try:
        return clip(json.loads(error.body)["message"], 400)
    except (TypeError, ValueError, KeyError):
        return clip(error.body or error.reason, 400)


def _kept_enough(pod: Record, now: datetime) -> bool:
    meta = pod["metadata"]
    hours = (meta.get("annotations") or {}).get(KEEP_HOURS)
    if hours is None or ended(pod, CONTAINER) is None:
        return False
    states = [(entry.get("state") or {}) for entry in (pod.get("status") or {}).get("containerStatuses") or []]
    ends = [state["terminated"]["finishedAt"] for state in states if (state.get("terminated") or {}).get("finishedAt")]
    return now - datetime.fromisoformat(max(ends, default=meta["creationTimestamp"])) > timedelta(hours=float(hours))
