"""An experiment with three variants on a real gateway: units stick, and the prediction log tells who met what."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from include.release.experiments.design import Design
from include.release.experiments.exposures import observe
from include.release.routing import Arm, Role, assign
from tests.serving.conftest import FAMILY, Gateways, World

VERSIONS = ("1.0.0", "1.1.0", "1.2.0")


def test_many_variants_answer_their_own_units_and_the_log_tells_of_each(world: World, start_gateway: Gateways) -> None:
    started = datetime.now(UTC)
    champion, *others = (
        world.model(version, Role.CHALLENGER if rank else Role.CHAMPION) for rank, version in enumerate(VERSIONS)
    )
    arms = [Arm(variant=variant, weight=weight) for variant, weight in zip((champion, *others), (2, 1, 1), strict=True)]
    generation = world.route(champion, arms=tuple(arms), stage="experiment", rollout="experiment-trial")
    gateway = start_gateway()
    gateway.wait_generation(generation)
    route = world.ledger.route(FAMILY, generation)
    assert route is not None
    seen: Counter[str] = Counter()
    for number in range(240):
        unit = f"u{number % 120}"
        answer = gateway.ask(unit_id=unit).json()
        assert answer["model_version"] == assign(route.table, unit).version
        assert answer["answer"].startswith(answer["model_version"])
        seen[answer["model_version"]] += 1
        gateway.client.post("/v1/feedback", json={"request_id": answer["request_id"], "helpful": True})
    counted = gateway.stats(generation=generation)["variants"]
    assert {version: counted[version]["requests"] for version in VERSIONS} == dict(seen)
    assert gateway.stop() == 0

    design = Design(
        name="trial", family=FAMILY, variants=[{"version": version} for version in VERSIONS],
        primary={"name": "helpful"}, guardrails=[{"name": "error", "better": "lower"}],
        mde=0.1, baseline=0.5, max_days=1,
    )  # fmt: skip
    found = observe(
        world.store,
        design,
        generation=generation,
        assigned=lambda unit: assign(route.table, unit).version,
        started=started,
        ended=None,
        at=datetime.now(UTC) + timedelta(days=2),
    )
    assert sum(found.exposed.values()) == 120 and found.exposed == found.ripe
    assert (found.crossed, found.strayed) == (0, 0)
    for version in VERSIONS:
        assert found.metrics["helpful"].variants[version].y == seen[version]
        assert found.metrics["error"].variants[version].m == seen[version]
