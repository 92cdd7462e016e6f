"""Steps in real pods: what the spec asks for is what the pod has, and its result comes back."""

from __future__ import annotations

from tests.kubernetes.conftest import Steps


def test_a_step_runs_in_a_pod_and_its_result_comes_back(steps: Steps) -> None:
    made = steps.make("looks")
    found = steps.run(made)
    assert found["uid"] == 10001
    print(found)
