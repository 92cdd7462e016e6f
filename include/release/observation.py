"""From the gateway's counts to what a stage is judged on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from include.release import gateway
from include.release.budget import Spent, is_live
from include.release.evidence import Memory, Observed, Quality, pooled
from include.release.ledger import Route
from include.settings import Settings
from include.spec.rollout import StageSpec


def observe(
    settings: Settings, family: str, route: Route, stage: StageSpec, earlier: Iterable[Mapping[str, Any]]
) -> dict[str, Any]:
    """`candidate`, `champion`, `paired`, `memory`, `account` (its `earlier` alone) and `unreachable` of a `StageInput`.

    Args:
        route: The routing table of the stage.
        earlier: Records of the stages judged so far in this rollout.
    """
    records, alone = list(earlier), route.table.challenger is None
    before = None if alone else champion_before(records)
    live = [record for record in records if is_live(record, alone=alone)]
    try:
        shown = gateway.stats(settings, family, route.generation)
    except gateway.GatewayError as error:  # it may be restarting; the stage's own time limit ends the waiting
        spent = sum((Spent.model_validate(record) for record in live), Spent())
        return {"unreachable": error.message, "champion": before, "account": {"earlier": spent}}
    spent = sum((_spent_since(settings, family, record, alone=alone) for record in live), Spent())
    return {**read_stats(shown, stage, before, alone=alone), "account": {"earlier": spent}}


def _spent_since(settings: Settings, family: str, record: Mapping[str, Any], *, alone: bool) -> Spent:
    """What an earlier stage spent: requests also came between its verdict and the next move of the traffic."""
    judged = Spent.model_validate(record)
    try:
        variants = gateway.stats(settings, family, record["generation"])["variants"]
    except gateway.GatewayError:  # it has no counts of so old a generation any more
        return judged
    now = Spent.model_validate(variants.get("champion" if alone else "challenger", {}))
    # a gateway that was killed may have lost its last second of counts: what was judged then is the better knowledge
    return Spent(requests=max(now.requests, judged.requests), errors=max(now.errors, judged.errors))


def read_stats(shown: Mapping[str, Any], stage: StageSpec, before: Observed | None, *, alone: bool) -> dict[str, Any]:
    """Picks the candidate's and the champion's counts out of `/v1/stats`. Pure.

    Args:
        before: The champion in the stages before, for a stage in which it has no traffic.
        alone: The candidate answers everything because nothing served before it.
    """
    variants = shown["variants"]
    memory = Memory.model_validate(shown["memory"]) if shown.get("memory") else None
    if alone:
        return {"candidate": Observed.model_validate(variants["champion"]), "champion": None, "memory": memory}
    challenger = variants.get("challenger", {})
    candidate = challenger.get("shadow", {}) if stage.shadow else challenger
    champion = before if stage.traffic >= 1.0 else Observed.model_validate(variants["champion"])
    return {
        "candidate": Observed.model_validate(candidate),
        "champion": champion,
        "memory": memory,
        "paired": {metric: Quality.model_validate(found) for metric, found in shown.get("paired", {}).items()}
        if stage.shadow
        else {},
    }


def champion_before(earlier: Iterable[Mapping[str, Any]]) -> Observed | None:
    """The champion over the earlier stages in which it had traffic of its own."""
    shared = [record["champion"] for record in earlier if record["traffic"] < 1.0 and record.get("champion")]
    return pooled(Observed.model_validate(record) for record in shared)
