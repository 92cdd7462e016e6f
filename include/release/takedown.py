"""The way down: a candidate's traffic is taken away, whatever its rollout had reached, and once.

Traffic moves first, then the ledger tells of it, then the gateway is waited for. A process that dies in between finds
the routing table as it left it, and adds what is missing. Where traffic goes is a matter of `include.release.rollback`.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.release import gateway
from include.release.ledger import Event, StaleRoute
from include.release.moves import TRIES, show_in_mlflow, swap
from include.release.rollback import all_to, first_that_loads, served_fully
from include.release.state import ROLLED_BACK, Rollout, open_ledger, stale
from include.settings import Settings

_Record = dict[str, Any]


def take_down(settings: Settings, family: str, rollout: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Ends a rollout and takes its candidate's traffic away; needs no spec.

    Returns:
        `changed` (whether traffic moved), `to` (version that serves now, or None), `generation`, `reason`, `note`.

    Raises:
        GatewayError: Traffic was moved in the ledger, but the gateway did not take it over in time.
    """
    state = Rollout.read(open_ledger(settings), family, rollout)
    done = state.entry(ROLLED_BACK)
    if done is None:
        record = {"rollout": rollout, "reason": reason, **_take_back(settings, state, reason, actor, at)}
        state.append(Event.ROLLED_BACK, state.key(ROLLED_BACK), record, actor, at)
        done = state.entry(ROLLED_BACK)
    record = dict(done.record) if done else {}
    route = state.ledger.route(family)
    if route is not None and state.owns(route) and route.table.stage:  # a stage was entered at this very moment
        record.update(_take_back(settings, state, record["reason"], actor, at))
    if record["changed"]:
        gateway.wait_for_generation(settings, family, record["generation"])
    return {**record, "registry": show_in_mlflow(settings, family)}


def _take_back(settings: Settings, state: Rollout, reason: str, actor: str, at: datetime) -> _Record:
    for _ in range(TRIES):
        route = state.ledger.route(state.family)
        if route is None:
            return {"changed": False, "to": None, "generation": 0, "note": "nothing serves"}
        serving = {"to": route.table.champion.version, "generation": route.generation}
        if not state.owns(route):
            return {"changed": False, **serving, "note": f"the candidate had no traffic ({route.reason})"}
        if not route.table.stage and route.table.champion.version != state.version:
            return {"changed": True, **serving, "note": "an earlier try had moved the traffic"}
        older = state.ledger.routes_before(state.family, route.generation)
        served = served_fully(older, without=state.version, rollout=state.id)
        target, passed_over = first_that_loads(settings, state.family, served)
        if target is None:
            passed_over.append("nothing else ever served, so the candidate goes on: a person must decide")
            if not route.table.stage:
                return {"changed": False, "to": None, "generation": route.generation, "note": "; ".join(passed_over)}
        table, said = all_to(target or state.candidate, state.id), f"rolled back: {reason}"
        try:
            back = swap(state.ledger, state.family, route.generation, table, said, actor, at)
        except StaleRoute:  # read again: if it is still this rollout's traffic, it must still go back
            continue
        to = target.version if target else None
        return {"changed": target is not None, "to": to, "generation": back.generation, "note": "; ".join(passed_over)}
    raise stale(state.family, state.ledger.route(state.family))
