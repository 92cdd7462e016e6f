"""One error budget for the whole rollout: what is spent stays spent, and when it is gone the candidate comes down."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from include.release.budget import Account, Spent, balance, planned_requests
from include.release.decisions import list_decisions, replay
from include.release.rollout import decide
from include.spec.rollout import GuardrailSpec, StageSpec
from include.store.database import open_database
from tests.fakes.tiny_family import tiny_spec
from tests.release.conftest import Tunnel, variant

STAGE = {"name": "half", "traffic": 0.5, "min_seconds": 1, "max_seconds": 60, "min_requests": 100, "min_labels": 0}


def judged(errors: int, earlier: Spent, *, requests: int = 400, live: bool = True, share: float = 0.01) -> Any:
    seen = {"requests": requests, "errors": errors, "latency_p50_ms": 1.0, "latency_p95_ms": 2.0}
    return decide(
        {
            "stage": {**STAGE, **({} if live else {"traffic": 0.0, "shadow": True})},
            "guardrails": GuardrailSpec(max_error_rate=0.05, error_budget=share).model_dump(),
            "seconds": 10,
            "candidate": seen,
            "account": Account(planned=1000, earlier=earlier, live=live).model_dump(),
        }
    )


class TestDecision:
    def test_every_stage_passes_alone_and_together_they_are_too_much(self) -> None:
        alone = judged(8, Spent())
        assert (alone["verdict"], alone["checks"]["errors"]) == ("PASS", "pass")
        together = judged(8, Spent(requests=500, errors=8))
        assert together["checks"]["errors"] == "pass", "the single stage has nothing to complain of"
        assert (together["verdict"], together["wait"]) == ("FAIL", False)
        assert "16 of 10 failed requests spent, 8 of them in earlier stages" in together["why"][0]
        assert together["budget"]["left"] == -6

    def test_the_last_failure_that_is_allowed_is_allowed(self) -> None:
        assert judged(5, Spent(requests=500, errors=5))["verdict"] == "PASS"
        assert judged(6, Spent(requests=500, errors=5))["verdict"] == "FAIL"

    def test_what_came_before_can_exhaust_it_alone(self) -> None:
        assert judged(0, Spent(requests=500, errors=11))["verdict"] == "FAIL"

    def test_failures_in_a_shadow_reach_nobody_and_cost_nothing(self) -> None:
        shadow = judged(12, Spent(), live=False)
        assert (shadow["budget"]["spent"], shadow["budget"]["requests"]) == (0, 0)
        assert shadow["checks"]["budget"] == "pass"

    def test_without_a_budget_nothing_changes(self) -> None:
        outcome = decide({"stage": STAGE, "guardrails": {}, "seconds": 10, "account": {"earlier": {"errors": 99}}})
        assert "budget" not in outcome and "budget" not in outcome["checks"]

    def test_none_may_fail_where_the_share_is_zero(self) -> None:
        assert balance(0.0, Account(planned=1000), Spent(requests=10, errors=1))["exhausted"]

    @given(st.floats(0, 1), st.integers(0, 5000), *(st.integers(0, 5000) for _ in range(4)))
    def test_requests_never_take_from_it_and_errors_never_give(
        self, share: float, planned: int, earlier: int, failed: int, requests: int, errors: int
    ) -> None:
        account = Account(planned=planned, earlier=Spent(requests=earlier, errors=failed))
        now = balance(share, account, Spent(requests=requests, errors=errors))
        more = balance(share, account, Spent(requests=requests + 1, errors=errors))
        worse = balance(share, account, Spent(requests=requests, errors=errors + 1))
        assert worse["left"] == now["left"] - 1 <= more["left"]
        assert now["exhausted"] == (now["left"] < 0)

    def test_shares_that_binary_fractions_miss_are_counted_right(self) -> None:
        for share, requests, allowed in [(0.29, 100, 29), (0.07, 100, 7), (0.01, 300, 3)]:
            assert balance(share, Account(planned=requests), Spent())["allowed"] == allowed

    def test_the_plan_counts_what_reaches_somebody(self) -> None:
        stages = [
            StageSpec(name=f"stage_{number}", min_seconds=1, max_seconds=2, **stage)
            for number, stage in enumerate(
                [
                    {"traffic": 0.0, "shadow": True, "min_requests": 500},
                    {"traffic": 0.1, "min_requests": 20},
                    {"traffic": 1.0, "min_requests": 300},
                ]
            )
        ]
        assert planned_requests(stages, alone=False) == 320
        assert planned_requests(stages, alone=True) == 820


def failing(errors: int, requests: int = 400) -> dict[str, Any]:
    return {"variants": {"champion": variant(), "challenger": variant(requests=requests, errors=errors)}}


@pytest.fixture
def rollout(tunnel: Tunnel) -> str:
    """In its canary, with 1% of all live requests to spend and 2% allowed in a stage."""
    release = tiny_spec().release.model_dump()
    release["guardrails"] |= {"max_error_rate": 0.02, "error_budget": 0.01}
    tunnel.spec = tiny_spec(release=release)
    found: str = tunnel.begin(tunnel.register()["model_version"])["rollout"]
    tunnel.gateway.of[2] = failing(50)  # the shadow's failures reach nobody
    tunnel.gateway.of[3] = failing(4)
    tunnel.enter(found, "shadow")
    tunnel.gateway.of[2]["variants"]["challenger"]["shadow"] = variant()
    tunnel.later(5)
    assert tunnel.judge(found, "shadow")["verdict"] == "PASS"
    tunnel.pass_stage(found, "canary")
    return found


class TestRollout:
    def test_a_stage_sees_what_earlier_stages_spent(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.of[4] = failing(5)
        tunnel.enter(rollout, "full")
        tunnel.later(5)
        found = tunnel.judge(rollout, "full")
        assert found["verdict"] == "FAIL"
        assert (found["budget"]["spent"], found["budget"]["allowed"], found["budget"]["requests"]) == (9, 8, 800)
        assert tunnel.roll_back(rollout, "; ".join(found["why"]))["to"] == "0.1.0"

    def test_the_verdict_can_be_made_again_and_otherwise(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.of[4] = failing(5)
        tunnel.enter(rollout, "full")
        tunnel.later(5)
        tunnel.judge(rollout, "full")
        engine = open_database(tunnel.settings.database_url)
        decision = next(found for found in list_decisions(engine, "tiny", "stage") if found.output["verdict"] == "FAIL")
        assert replay(engine, decision.id)["same"]
        assert replay(engine, decision.id, {"account.earlier.errors": 0})["after"]["verdict"] == "PASS"
        assert replay(engine, decision.id, {"guardrails.error_budget": 0.02})["after"]["verdict"] == "PASS"

    def test_failures_between_a_verdict_and_the_next_move_count(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.of[3] = failing(9, requests=410)  # the canary went on answering after its verdict
        tunnel.enter(rollout, "full")
        assert tunnel.judge(rollout, "full")["verdict"] == "FAIL"

    def test_a_gateway_that_lost_counts_does_not_make_spent_requests_good(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.gateway.of[3] = failing(1, requests=10)
        tunnel.gateway.of[4] = failing(5)
        tunnel.enter(rollout, "full")
        assert tunnel.judge(rollout, "full")["budget"]["spent"] == 4 + 5

    def test_a_gateway_that_is_away_spends_nothing_and_forgets_nothing(self, tunnel: Tunnel, rollout: str) -> None:
        tunnel.enter(rollout, "full")
        tunnel.gateway.away = "connection refused"
        found = tunnel.judge(rollout, "full")
        assert (found["wait"], found["budget"]["spent"], found["budget"]["requests"]) == (True, 4, 400)
