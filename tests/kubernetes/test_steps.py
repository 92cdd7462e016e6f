"""Steps in real pods: what the spec asks for is what the pod has, and its result comes back."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from airflow.sdk.exceptions import AirflowRescheduleException, TaskDeferred

from include.settings import Settings
from include.steps.document import progress_key
from tests.kubernetes.conftest import Steps, wait_for

LINES = 2000


def test_a_step_runs_in_a_pod_that_has_what_its_spec_asks_for(steps: Steps) -> None:
    made = steps.make("looks", seconds=1, resources={"memory": "300Mi", "cpu": "200m", "secrets": ["windtunnel-env"]})
    running = steps.begin(made)
    pod = steps.pod(made)
    assert pod["status"]["qosClass"] == "Guaranteed"
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "200m", "memory": "300Mi", "ephemeral-storage": "100Mi",
    }  # fmt: skip
    labels = pod["metadata"]["labels"]
    assert (labels["windtunnel/family"], labels["windtunnel/step"]) == ("compliance_qa", "fit")
    assert (labels["dag_id"], labels["task_id"]) == ("train__x", "fit")
    found = running.result()
    assert found["uid"] == 10001
    assert found["writes"] == {
        "/": False, "/usr": False, "/tmp": True, "/var/lib/windtunnel": True, "/dev/shm": True,
    }  # fmt: skip
    assert {"WINDTUNNEL_STORE_URL", "AWS_SECRET_ACCESS_KEY"} <= set(found["env"])
    assert "not-a-secret" not in json.dumps(pod), "secrets are referred to, not written down"
    wait_for(lambda: not steps.named(pod["metadata"]["name"]))


def test_the_log_is_told_while_it_runs_and_each_line_once(steps: Steps) -> None:
    made = steps.make("works", seconds=15, lines=LINES)
    running = steps.begin(made)
    steps.pod(made)
    wait_for(lambda: any("progress fit 3/30 steps" in line for line in steps.told))
    assert not running.done(), "told while it runs"
    operator, context = made
    record = json.loads(steps.store.get(progress_key(operator.write_document(context).run, "fit")))
    assert record["done"] >= 1 and record["total"] == 30 and record["facts"]["loss"] <= 1
    assert running.result() == {"batch_size": 16}
    told = [line for line in steps.told if line.startswith("line ")]
    assert told == [f"line {number}" for number in range(LINES)]


def test_a_task_whose_worker_died_finds_its_pod_again(steps: Steps) -> None:
    made = steps.make("works", seconds=8)
    with pytest.raises(TaskDeferred):
        made[0].execute(made[1])  # and the trigger never runs
    uid = steps.pod(made)["metadata"]["uid"]
    result = steps.begin(steps.again(made))
    assert result.result() == {"batch_size": 16}
    mine = [pod for pod in steps.site.pods() if pod["metadata"]["labels"]["run_id"] == made[1]["run_id"]]
    assert {pod["metadata"]["uid"] for pod in mine} <= {uid}, "no second pod"


def test_a_pod_that_is_still_ending_is_waited_for(steps: Steps) -> None:
    made = steps.make("works", seconds=60, resources={"grace_seconds": 30})
    with pytest.raises(TaskDeferred) as deferred:
        made[0].execute(made[1])
    name = steps.pod(made)["metadata"]["name"]
    steps.site.kubectl("delete", "pod", name, "--wait=false")
    with pytest.raises(AirflowRescheduleException):
        steps.again(made)[0].execute(made[1])
    assert deferred.value.trigger.serialize()[1]["pod_names"] == [name]


def test_an_outage_of_the_api_server_is_lived_through(steps: Steps) -> None:
    cache = Path(os.environ.get("WINDTUNNEL_KUBERNETES_HOME") or Path.home() / ".cache" / "windtunnel-kubernetes")
    recorded = cache / "run" / "kube-apiserver.pid"
    if not recorded.exists():
        pytest.skip("only the kit's API server can be stopped and continued")
    made = steps.make("works", seconds=10)
    running = steps.begin(made)
    steps.pod(made)
    server = int(recorded.read_text())
    os.kill(server, signal.SIGSTOP)
    try:
        wait_for(lambda: any("the Kubernetes API is away" in line for line in steps.told), 60)
    finally:
        os.kill(server, signal.SIGCONT)
    assert running.result() == {"batch_size": 16}
    assert "the Kubernetes API is back" in steps.told
    told = [line for line in steps.told if line.startswith("progress fit")]
    assert len(told) == len(set(told)) > 0, "no line was told twice"
    assert steps.failures(made) == []


def test_ended_pods_go_when_they_were_kept_for_long_enough(steps: Steps) -> None:
    made = steps.make("exit", code=1, resources={"keep_hours": 0})
    with pytest.raises(Exception, match="last words"):
        steps.run(made)
    (kept,) = [pod for pod in steps.site.pods() if pod["metadata"]["labels"]["run_id"] == made[1]["run_id"]]
    assert steps.run(steps.make("works")) == {"batch_size": 16}
    wait_for(lambda: not steps.named(kept["metadata"]["name"]))
    assert Settings.from_env().pod_runner == "kubernetes"
