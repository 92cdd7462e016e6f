"""The way of KServe's service from one routing table to the next, and the service itself."""

from __future__ import annotations

from typing import Any

import pytest
from kubernetes.client import models

from include.errors import UserError
from include.release.routing import Arm, Role, RoutingTable, Variant
from include.serving.route_source import ONLY_VARIABLE, OneModel, open_routes, part_of
from include.spec.rollout import ReleaseSpec
from include.spec.serving import ServingSpec
from include.targets.inference_service import CONTAINER, State, inference_service, name_of, step, trouble
from include.targets.kserve import KServeTarget
from tests.serving.conftest import World

SPEC = ServingSpec.model_validate({"target": "kserve", "image": "x@sha256:" + "a" * 64})
A, B, C = (letter * 64 for letter in "abc")


def table(champion: str, challenger: str | None = None, share: float = 0.0, shadow: bool = False) -> RoutingTable:
    return RoutingTable(
        champion=Variant(role=Role.CHAMPION, version="1.0.0", digest=champion),
        challenger=Variant(role=Role.CHALLENGER, version="2.0.0", digest=challenger) if challenger else None,
        challenger_share=share,
        shadow=shadow,
    )


def way(given: RoutingTable, now: State | None, *, ready: bool = True) -> list[State]:
    """All states until it rests, where every one of them becomes ready."""
    passed: list[State] = []
    while (following := step(given, now, ready and now is not None)) != now:
        passed.append(following)
        now = following
        assert len(passed) < 6, "it does not come to rest"
    return passed


RESTING = State(A, None, A)


def test_the_first_model_gets_everything_and_is_then_rolled_out() -> None:
    assert way(table(A), None) == [State(A), RESTING]


def test_a_challenger_gets_its_percent_when_the_champion_was_rolled_out() -> None:
    assert way(table(A, B, 0.1), RESTING) == [State(B, 10, A)]
    assert way(table(A, B, 0.5), State(B, 10, A)) == [State(B, 50, A)], "the same revision, more traffic"
    assert way(table(A, B, 0.1), None) == [State(A), State(B, 10, A)]


def test_full_traffic_and_promotion_are_the_same_to_kserve() -> None:
    assert way(table(A, B, 1.0), State(B, 50, A)) == [State(B, None, A), State(B, None, B)]
    assert way(table(B), State(B, None, B)) == []


def test_going_back_gives_the_challenger_nothing_at_once() -> None:
    assert way(table(A), State(B, 50, A)) == [State(A, 0, A), RESTING]
    assert step(table(A), State(B, 50, A), ready=False) == State(A, 0, A), "whether or not the challenger ever came up"
    assert step(table(A), State(A, 0, A), ready=False) == State(A, 0, A), "the revision before serves until then"


def test_going_back_from_full_traffic_waits_for_the_champion() -> None:
    assert way(table(A), State(B, None, B)) == [State(A, None, B), RESTING]


def test_a_shadow_is_none() -> None:
    assert way(table(A, B, shadow=True), RESTING) == []


def test_the_service_is_one_that_knative_and_kubernetes_know() -> None:
    """Fields of a pod by Kubernetes' own client; KServe's by its API v1beta1 (ComponentExtensionSpec)."""
    made = inference_service(SPEC, "compliance_qa", State(B, 10, A))
    predictor = made["spec"]["predictor"]
    kserve = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "canaryTrafficPercent"}
    known = set(models.V1PodSpec.attribute_map.values())
    assert set(predictor) <= known | kserve and predictor["canaryTrafficPercent"] == 10
    (container,) = predictor["containers"]
    assert set(container) <= set(models.V1Container.attribute_map.values())
    assert container["name"] == CONTAINER, "the name by which KServe knows it"
    assert {"name": ONLY_VARIABLE, "value": f"compliance_qa@{B}"} in container["env"]
    refused = {"lifecycle", "startupProbe"} & set(container) | {
        "securityContext", "terminationGracePeriodSeconds", "topologySpreadConstraints", "hostNetwork",
    } & set(predictor)  # fmt: skip
    assert not refused, "Knative takes them only where its feature flags say so"
    assert container["securityContext"]["runAsNonRoot"] and container["securityContext"]["readOnlyRootFilesystem"]
    assert made["metadata"]["annotations"]["serving.kserve.io/deploymentMode"] == "Serverless"
    assert made["metadata"]["name"] == "windtunnel-gateway-compliance-qa"
    assert len(name_of(SPEC, "x" * 63)) <= 50


def test_traffic_changes_no_revision() -> None:
    """A new revision comes of every other change of the predictor."""
    few, many = (inference_service(SPEC, "echo", State(B, percent, A))["spec"]["predictor"] for percent in (10, 50))
    assert few.pop("canaryTrafficPercent") != many.pop("canaryTrafficPercent") and few == many


def test_a_service_that_is_not_ready_says_why() -> None:
    conditions = [{"type": "PredictorReady", "status": "False", "message": "Revision x failed: no image"}]
    found: dict[str, Any] = {
        "metadata": {"generation": 2},
        "status": {
            "observedGeneration": 2,
            "conditions": conditions,
            "components": {"predictor": {"latestCreatedRevision": "b", "latestReadyRevision": "a"}},
        },
    }
    assert "revision b is not ready" in trouble(found) and "no image" in trouble(found)
    found["metadata"]["generation"] = 3
    assert "has not looked" in trouble(found)


class TestWhatKServeCannotDo:
    def target(self, world: World) -> KServeTarget:
        return KServeTarget(world.settings, SPEC, None)  # type: ignore[arg-type]  # it is asked for nothing

    @pytest.mark.parametrize(
        ("stage", "said"), [({"shadow": True, "traffic": 0}, "shadow"), ({"traffic": 0.005}, "whole")]
    )
    def test_a_plan_is_refused_before_anything_moves(self, world: World, stage: dict[str, Any], said: str) -> None:
        times = {"min_seconds": 1, "max_seconds": 2}
        stages = [{"name": "first", **times, **stage}, {"name": "full", "traffic": 1.0, **times}]
        with pytest.raises(UserError, match=said):
            self.target(world).check(ReleaseSpec.model_validate({"stages": stages}))
        self.target(world).check(ReleaseSpec.model_validate({"stages": stages[1:]}))

    def test_an_experiment_is_refused(self, world: World) -> None:
        arms = (
            Arm(variant=table(A).champion, weight=1),
            Arm(variant=table(A, B).challenger or table(B).champion, weight=1),
        )
        world.route(table(A).champion, rollout="e", arms=arms)
        with pytest.raises(UserError, match="between two models"):
            self.target(world).follow("echo", 1)


def test_a_gateway_of_one_model_follows_its_part_of_the_table(world: World) -> None:
    champion, challenger = world.model("1.0.0"), world.model("2.0.0")
    source = open_routes(world.settings.database_url, {ONLY_VARIABLE: f"echo@{challenger.digest}"})
    assert isinstance(source, OneModel) and source.newest() == {}
    world.route(champion)
    assert source.newest() == {}, "it has no part in that one"
    second = world.route(champion, challenger, challenger_share=0.1, stage="canary", rollout="r")
    assert source.newest() == {"echo": second}
    route = source.route("echo", second)
    assert route is not None and (route.table.champion.role, route.table.stage) == (Role.CHALLENGER, "canary")
    assert [variant.digest for variant in route.table.variants] == [challenger.digest]
    third = world.route(champion)
    assert source.newest() == {"echo": second}, "it answers on until it is taken away"
    assert part_of(route.table, champion.digest) is None and third > second
    with pytest.raises(UserError, match="family@digest"):
        open_routes("sqlite://", {ONLY_VARIABLE: "echo"})
