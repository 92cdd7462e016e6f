"""The Kubernetes API that is away, overwhelmed, or says no: what is waited for, and what is told at once."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from kubernetes.client.exceptions import ApiException
from urllib3.exceptions import MaxRetryError

from include.errors import UserError
from include.pods.cluster import KEEP_HOURS, Cluster, NoRoom
from include.pods.contract import PodError
from tests.failures.pods import pod, terminated

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)
AWAY = MaxRetryError(None, "/", None)  # type: ignore[arg-type]


class Api:
    """Answers every call with the next of `answers`; the last for ever."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.asked = list(answers), 0
        self.deleted: list[str] = []

    def __getattr__(self, name: str) -> Any:
        def call(*arguments: Any, **_: Any) -> Any:
            if name == "delete_namespaced_pod":
                self.deleted.append(arguments[0])
                return SimpleNamespace(data=b"{}")
            self.asked += 1
            answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
            if isinstance(answer, BaseException):
                raise answer
            return SimpleNamespace(data=json.dumps(answer).encode())

        call.__name__ = name
        return call


def refusal(status: int, message: str = "no") -> ApiException:
    error = ApiException(status=status)
    error.body = json.dumps({"message": message})
    return error


def cluster(*answers: Any, patience: float = 5) -> tuple[Cluster, Api]:
    api = Api(*answers)
    return Cluster(api, "windtunnel", patience), api  # type: ignore[arg-type]


@pytest.mark.parametrize("trouble", [AWAY, refusal(500), refusal(429), ConnectionResetError()])
def test_trouble_that_passes_is_waited_for(trouble: Exception) -> None:
    pods, api = cluster(trouble, {"metadata": {"name": "x"}})
    assert pods.get("x") == {"metadata": {"name": "x"}} and api.asked == 2


def test_an_api_that_stays_away_is_told() -> None:
    pods, _ = cluster(AWAY, patience=0)
    with pytest.raises(PodError, match="stayed away"):
        pods.get("x")


def test_a_pod_that_is_not_there_is_none() -> None:
    assert cluster(refusal(404))[0].get("x") is None


def test_a_missing_right_is_told_at_once() -> None:
    pods, api = cluster(refusal(403, "pods is forbidden"))
    with pytest.raises(PodError, match="pods is forbidden"):
        pods.get("x")
    assert api.asked == 1


def test_a_name_that_is_taken_is_no_error() -> None:
    assert cluster({})[0].create({}) is True
    assert cluster(refusal(409))[0].create({}) is False


def test_a_creation_whose_answer_was_lost_is_found_again() -> None:
    pods, api = cluster(ConnectionResetError(), refusal(409))
    assert pods.create({}) is False and api.asked == 2


@pytest.mark.parametrize(
    ("status", "message", "kind"),
    [
        (403, "exceeded quota: gpu, requested: 1, used: 8, limited: 8", NoRoom),
        (403, "pods is forbidden: User cannot create", UserError),
        (422, "spec.containers[0].image: Required value", UserError),
        (404, 'namespaces "ml" not found', UserError),
    ],
)
def test_a_refused_pod_is_told_with_what_the_api_says(status: int, message: str, kind: type[Exception]) -> None:
    with pytest.raises(kind, match=re.escape(message)) as caught:
        cluster(refusal(status, message))[0].create({})
    assert type(caught.value) is kind


@pytest.mark.parametrize("trouble", [AWAY, refusal(500), refusal(404)])
def test_a_log_that_cannot_be_had_is_not_waited_for(trouble: Exception) -> None:
    pods, api = cluster(trouble)
    assert pods.tail("x") == [] and api.asked == 1


def test_only_ended_pods_that_were_kept_for_long_enough_are_removed() -> None:
    def kept(name: str, hours: str | None, **status: Any) -> dict[str, Any]:
        made = pod(**status)
        made["metadata"] |= {"name": name, "creationTimestamp": "2026-11-01T00:00:00Z"}
        made["metadata"]["annotations"] = {KEEP_HOURS: hours} if hours else {}
        return made

    failed = {"state": terminated(1)}  # ended three hours ago
    items = [
        kept("old", "2", **failed),
        kept("young", "4", **failed),
        kept("other", None, **failed),
        kept("running", "0", phase="Running", state={"running": {}}),
        kept("evicted", "2", reason="Evicted", message="m"),
    ]
    pods, api = cluster({"items": items})
    assert pods.tidy(NOW) == 2 and api.deleted == ["old", "evicted"]
