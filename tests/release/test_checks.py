"""Memory, and proof of quality: what looks good enough by chance does not go on where the spec asks for more."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.release.test_rollout import RAILS, STAGE, answer, judged, seen


class TestMemory:
    RAILS = {**RAILS.model_dump(), "max_memory_growth_mb": 100.0}

    def test_a_gateway_that_grows_fails_the_candidate(self) -> None:
        outcome = judged(guardrails=self.RAILS, memory={"opened_mb": 300.0, "now_mb": 401.0})
        assert answer(outcome) == "FAIL"
        assert outcome["why"][0] == "memory: the gateway grew by 101 MB to 401 MB since the stage began, allowed 100 MB"

    @pytest.mark.parametrize(
        "memory", [{"opened_mb": 300.0, "now_mb": 400.0}, {"opened_mb": 300.0, "now_mb": 9.0}, None]
    )
    def test_within_the_limit_or_unknown_it_passes(self, memory: dict[str, float] | None) -> None:
        assert answer(judged(guardrails=self.RAILS, memory=memory)) == "PASS"

    def test_nobody_looks_without_a_limit(self) -> None:
        outcome = judged(memory={"opened_mb": 0.0, "now_mb": 1e6})
        assert (answer(outcome), "memory" in outcome["checks"]) == ("PASS", False)


class TestCrashes:
    @pytest.mark.parametrize(("crashes", "expected"), [(0, "PASS"), (1, "PASS"), (2, "FAIL")])
    def test_more_deaths_than_allowed_fail_whatever_the_error_rate(self, crashes: int, expected: str) -> None:
        outcome = judged(seen(crashes=crashes))
        assert answer(outcome) == expected
        assert ("crashes" in outcome["checks"]) is (crashes > 0)

    def test_those_of_the_champion_are_not_the_candidates(self) -> None:
        assert answer(judged(champion=seen(crashes=9))) == "PASS"

    def test_the_site_says_how_many(self) -> None:
        strict = {**RAILS.model_dump(), "max_crashes": 0}
        outcome = judged(seen(crashes=1), guardrails=strict)
        assert outcome["why"][0] == "crashes: 1 gateway process died over requests of the candidate, allowed 0"


class TestDrops:
    """Other metrics than the labelled one: they can fail a candidate, and prove nothing."""

    RAILS = {**RAILS.model_dump(), "max_drops": {"helpful": 0.1}}

    def judged(self, mine: float, theirs: float, n: int = 400) -> dict[str, Any]:
        candidate, champion = seen(), seen()
        candidate["quality"]["helpful"] = {"mean": mine, "n": n}
        champion["quality"]["helpful"] = {"mean": theirs, "n": n}
        return judged(candidate, champion, guardrails=self.RAILS)

    def test_a_sure_fall_fails(self) -> None:
        outcome = self.judged(0.4, 0.8)
        assert answer(outcome) == "FAIL"
        assert outcome["why"][0].startswith("helpful: difference -0.400 [")

    def test_one_that_may_be_chance_or_is_tolerated_does_not(self) -> None:
        assert answer(self.judged(0.4, 0.8, n=5)) == "PASS"
        assert answer(self.judged(0.75, 0.8)) == "PASS"

    def test_without_it_nothing_is_judged(self) -> None:
        outcome = judged(guardrails=self.RAILS)
        assert (answer(outcome), outcome["checks"]["drop of helpful"]) == ("PASS", "pass")


class TestProof:
    """Where the spec asks for proof, a candidate that only looks good enough does not go on."""

    RAILS = {**RAILS.model_dump(), "quality_proof": "certain"}

    def judged(self, quality: float = 0.9, labels: int = 60, **fields: Any) -> dict[str, Any]:
        theirs = seen(labels=max(labels, 60))
        return judged(seen(quality, labels), theirs, **{"guardrails": self.RAILS, **fields})

    def test_few_labels_are_not_enough_and_the_stage_ends_inconclusive(self) -> None:
        assert answer(self.judged(guardrails=RAILS.model_dump())) == "PASS"
        assert (answer(self.judged()), self.judged()["proven"]) == ("WAIT", False)
        assert answer(self.judged(seconds=60)) == "INCONCLUSIVE"

    def test_many_are(self) -> None:
        assert (answer(self.judged(labels=2000)), self.judged(labels=2000)["proven"]) == ("PASS", True)

    def test_one_stage_that_showed_it_is_enough_for_those_that_follow(self) -> None:
        assert answer(self.judged(proven_in="shadow")) == "PASS"
        assert answer(self.judged(0.84, proven_in="shadow")) == "WAIT"

    def test_a_person_may_end_the_wait(self) -> None:
        word = {"actor": "ada", "reason": "read 50 answers", "at": "2026-11-02T09:00:00Z"}
        assert answer(self.judged(waved_on=word)) == "PASS"

    @pytest.mark.parametrize(("traffic", "expected"), [(0.5, "PASS"), (1.0, "WAIT")])
    def test_without_labels_nobody_gets_all_traffic(self, traffic: float, expected: str) -> None:
        stage = STAGE.model_copy(update={"min_labels": 0, "traffic": traffic})
        assert answer(self.judged(labels=0, stage=stage)) == expected
        assert answer(self.judged(labels=0, stage=stage, proven_in="shadow")) == "PASS"

    @pytest.mark.parametrize("labels", [50, 400])
    def test_a_candidate_that_is_five_points_worse_hardly_ever_gets_through(self, labels: int) -> None:
        """Observed, chance lets it through within a tolerance of three points; where proof is asked for it does not."""
        tries, random = 400, np.random.default_rng(0)
        passed = dict.fromkeys(("observed", "certain"), 0)
        for _ in range(tries):
            theirs, mine = random.random(labels) < 0.9, random.random(labels) < 0.85
            pairs = mine.astype(float) - theirs
            evidence = {"mean": pairs.mean(), "n": labels, "sd": pairs.std(ddof=1)}
            for proof in passed:
                outcome = judged(
                    seen(mine.mean(), labels),
                    seen(theirs.mean(), labels),
                    paired={"hit_at_10": evidence},
                    guardrails={**RAILS.model_dump(), "max_quality_drop": 0.03, "quality_proof": proof},
                )
                passed[proof] += answer(outcome) == "PASS"
        assert passed["certain"] <= 0.02 * tries
        assert passed["observed"] > 0.1 * tries
