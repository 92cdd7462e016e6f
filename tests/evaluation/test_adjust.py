"""What a failed gate changes for the next round."""

from __future__ import annotations

from typing import Any

import pytest

from include.evaluation.adjust import ADJUST_KEYS, adjust


def gate(verdict: str, metric: str = "recall", blocks: bool = True) -> dict[str, Any]:
    return {"metric": metric, "verdict": verdict, "blocks": blocks}


WORSE = {"zero_shot": {"recall": {"difference": -0.1}}}
BETTER = {"zero_shot": {"recall": {"difference": 0.1}}}


def test_a_model_that_training_harmed_is_trained_more_gently() -> None:
    assert adjust([gate("FAIL")], WORSE, 1, 3)["lr_scale"] < 1


def test_a_model_that_training_helped_is_trained_more() -> None:
    changes = adjust([gate("FAIL")], BETTER, 1, 3)
    assert changes["epochs_delta"] >= 1
    assert changes["lr_scale"] > 1


def test_a_later_attempt_goes_further_the_same_way() -> None:
    first, second = (adjust([gate("FAIL")], WORSE, attempt, 3) for attempt in (1, 2))
    assert second["lr_scale"] < first["lr_scale"] < 1


def test_an_open_question_gets_more_data() -> None:
    changes = adjust([gate("INCONCLUSIVE")], {}, 1, 2)
    assert changes["examples_scale"] > 1
    assert "lr_scale" not in changes


def test_attempts_are_bounded() -> None:
    assert adjust([gate("FAIL")], WORSE, 2, 2) is None


@pytest.mark.parametrize("gates", [[gate("FAIL", "package_mb")], [gate("FAIL"), gate("FAIL", "latency_p95_ms")], []])
def test_what_no_training_mends_is_not_trained_again(gates: list[dict[str, Any]]) -> None:
    assert adjust(gates, WORSE, 1, 5) is None


def test_warnings_do_not_steer() -> None:
    gates = [gate("FAIL", "package_mb", blocks=False), gate("FAIL")]
    assert adjust(gates, WORSE, 1, 2) is not None


@pytest.mark.parametrize("verdict", ["FAIL", "INCONCLUSIVE"])
@pytest.mark.parametrize("comparisons", [{}, WORSE, BETTER])
def test_only_known_keys_are_sent(verdict: str, comparisons: dict[str, Any]) -> None:
    assert set(adjust([gate(verdict)], comparisons, 1, 2)) <= ADJUST_KEYS
