"""What a failed gate changes for the next round."""

from __future__ import annotations

import itertools
import math
from typing import Any

import pytest

from include.evaluation.adjust import ADJUST_KEYS, adjust
from include.training.space import adjusted
from tests.fakes.tiny_family import tiny_spec


def gate(verdict: str, metric: str = "recall", blocks: bool = True) -> dict[str, Any]:
    return {"name": f"{metric}_gate", "metric": metric, "verdict": verdict, "blocks": blocks}


WORSE = {"zero_shot": {"recall": {"difference": -0.1}}}
BETTER = {"zero_shot": {"recall": {"difference": 0.1}}}


def test_a_model_that_training_harmed_is_trained_more_gently() -> None:
    assert adjust([gate("FAIL")], WORSE, 1, 3)["lr_scale"] < 1


def test_a_model_that_training_helped_is_trained_more() -> None:
    changes = adjust([gate("FAIL")], BETTER, 1, 3)
    assert changes["epochs_delta"] >= 1
    assert changes["lr_scale"] > 1


def test_a_later_attempt_goes_further_the_same_way() -> None:
    first = adjust([gate("FAIL")], WORSE, 1, 4, before={})
    second = adjust([gate("FAIL")], WORSE, 2, 4, before=first)
    assert second["lr_scale"] < first["lr_scale"] < 1
    more = adjust([gate("FAIL")], BETTER, 1, 4, before={})
    most = adjust([gate("FAIL")], BETTER, 2, 4, before=more)
    assert most["lr_scale"] > more["lr_scale"] > 1
    assert (most["epochs_delta"], most["trials_delta"], most["examples_scale"]) == (2, 4, 4.0)


def test_what_overshot_goes_part_of_the_way_back() -> None:
    harmed = adjust([gate("FAIL")], WORSE, 1, 4, before={})
    helped = adjust([gate("FAIL")], BETTER, 2, 4, before=harmed)
    assert harmed["lr_scale"] < helped["lr_scale"] < 1  # 1 is known to harm


def test_what_an_earlier_round_changed_is_kept_where_this_one_says_nothing_of_it() -> None:
    after = adjust([gate("INCONCLUSIVE")], {}, 2, 4, before={"lr_scale": 0.5, "trials_delta": 2})
    assert after == {"lr_scale": 0.5, "trials_delta": 4, "examples_scale": 2.0, "epochs_delta": 1}


def test_decisions_of_earlier_releases_are_replayed_as_they_were_made() -> None:
    assert adjust([gate("FAIL")], WORSE, 2, 3) == {"lr_scale": 0.25, "trials_delta": 4}


def test_a_lower_error_than_untrained_is_a_gain() -> None:
    error = {"zero_shot": {"error": {"difference": -0.1}}}
    signs = {"error_gate": -1}
    assert adjust([gate("FAIL", "error")], error, 1, 3, before={}, signs=signs)["lr_scale"] > 1
    worse = {"zero_shot": {"error": {"difference": 0.1}}}
    assert adjust([gate("FAIL", "error")], worse, 1, 3, before={}, signs=signs)["lr_scale"] < 1


def test_the_gate_that_failed_says_which_way_its_metric_should_go() -> None:
    """A calibration is to be near 1: too low and too high are both bad, and each has a gate."""
    more = {"zero_shot": {"calibration": {"difference": 0.1}}}
    low, high = (gate("FAIL", "calibration") | {"name": name} for name in ("not_low", "not_high"))
    signs = {"not_low": 1, "not_high": -1}
    assert adjust([low], more, 1, 3, before={}, signs=signs)["lr_scale"] > 1
    assert adjust([high], more, 1, 3, before={}, signs=signs)["lr_scale"] < 1


@pytest.mark.parametrize("difference", [math.nan, 0.0, math.inf])
def test_a_difference_that_says_nothing_harms_nothing(difference: float) -> None:
    odd = {"zero_shot": {"recall": {"difference": difference}, "map": {"difference": -0.1}}}
    assert adjust([gate("FAIL")], odd, 1, 3, before={})["lr_scale"] > 1
    both = [gate("FAIL"), gate("FAIL", "map")]
    assert adjust(both, odd, 1, 3, before={})["lr_scale"] < 1  # one that was harmed is enough


def test_every_chain_of_rounds_ends_and_is_what_the_sweep_takes() -> None:
    for answers in itertools.product(["FAIL", "INCONCLUSIVE"], [WORSE, BETTER, {}], repeat=2):
        changes: dict[str, Any] | None = {}
        for attempt in range(1, 20):
            verdict, compared = answers[:2] if attempt % 2 else answers[2:]
            after = adjust([gate(verdict)], compared, attempt, 5, before=changes)
            if after is None:
                break
            changes = after
            spec, _ = adjusted(tiny_spec(), changes)
            lr = changes.get("lr_scale", 1.0)
            assert 0 < lr < 6 and spec.sweep.max_epochs <= 5
        assert attempt == 5


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
