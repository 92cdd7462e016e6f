"""An experiment in the ledger: declared, started, looked at, stopped.

The declaration comes first and is never changed. Then traffic is split by a compare-and-swap on the routing table, then
the ledger tells of it, then the gateway is waited for; every step can be repeated and goes on where the ledger stands.
While an experiment runs no rollout can begin, and a rollback takes all traffic back at once, as it does from a rollout.

A stopped experiment gives all traffic back to the control. A winner is not promoted here: it goes through its stages
like every other candidate, whose guardrails watch more than an experiment does.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.data.recalls import refuse_recalled
from include.errors import UserError, WindtunnelError, clip
from include.evaluation.gates import Verdict
from include.release import gateway
from include.release.decisions import decide
from include.release.experiments.design import Design
from include.release.experiments.exposures import observe
from include.release.ledger import Entry, Event, Ledger, Route
from include.release.packages import verify_stored
from include.release.registry import find_version
from include.release.rollback import all_to
from include.release.routing import Arm, Role, RoutingTable, Variant, assign
from include.settings import Settings
from include.steps.fingerprint import code_version
from include.store.database import open_database
from include.store.objects import open_store

#: Stage name of the routing table while an experiment has the traffic.
STAGE = "experiment"
_DECLARED, _STARTED, _STOPPED = "declared", "started", "stopped"
_Record = dict[str, Any]


class ExperimentError(UserError):
    """The experiment cannot be begun or found."""


def create(settings: Settings, design: Design, *, actor: str, at: datetime) -> _Record:
    """Declares the experiment and splits the traffic, once.

    Returns:
        `experiment`, `generation`, `started_at`, `planned` (units per variant).

    Raises:
        ExperimentError: Another experiment has the name, a rollout is under way, the control does not serve, or a
            challenger may not.
        DataError: A challenger was trained on data that was recalled.
        PackageError: A challenger's package is missing or altered.
        StaleRoute: Somebody else changed the traffic at the same moment.
        GatewayError: The gateway did not take over; call it again.
    """
    ledger = _ledger(settings)
    started = _entry(ledger, design.family, design.name, _STARTED)
    declared = _entry(ledger, design.family, design.name, _DECLARED)
    if declared is not None and declared.record["design"] != design.to_json():
        raise ExperimentError(
            f"{design.family} has another experiment {design.name!r}", hint="a design never changes: take a new name"
        )
    if (stopped := _entry(ledger, design.family, design.name, _STOPPED)) is not None:
        raise ExperimentError(
            f"experiment {design.name} was stopped on {stopped.at:%Y-%m-%d %H:%M}", hint="begin one under a new name"
        )
    planned = dict(zip(design.weights, design.plan().always, strict=True))
    if started is None:
        route = _route_to_split(ledger, design)
        if not _owns(route, design.name):
            arms = _arms(settings, design, route)
            record = {"design": design.to_json(), "planned": planned}
            _append(ledger, design, Event.EXPERIMENT_DECLARED, _DECLARED, record, actor, at)
            table = RoutingTable(champion=route.table.champion, arms=arms, stage=STAGE, rollout=_salt(design.name))
            reason = f"experiment {design.name}: {len(arms)} variants"
            ledger.swap_route(design.family, route.generation, table, reason=reason, actor=actor, at=at)
            route = ledger.route(design.family, route.generation + 1) or route
        facts = {"generation": route.generation, "started_at": route.at.isoformat()}
        _append(ledger, design, Event.EXPERIMENT_STARTED, _STARTED, facts, actor, at)
        started = _need(ledger, design.family, design.name, _STARTED)
    gateway.wait_for_generation(settings, design.family, started.record["generation"])
    return {"experiment": design.name, **started.record, "planned": planned}


def look(settings: Settings, family: str, name: str, *, at: datetime) -> _Record:
    """What the experiment says `at` this moment; the look is stored as a decision, and may be repeated at any time.

    Returns:
        `experiment`, `decision` (its id), `running`, `ended` (how, in words), `started_at`, `days`, `design`, and what
        `analysis.decide` returns.

    Raises:
        ExperimentError: There is no such experiment, or it was never started.
        PredictionLogError: A segment of the prediction log is damaged.
    """
    ledger = _ledger(settings)
    design = read(settings, family, name)
    started = _need(ledger, family, name, _STARTED)
    generation = int(started.record["generation"])
    split = ledger.route(family, generation)
    if split is None:
        raise ExperimentError(
            f"generation {generation} of {family} is not in the ledger", hint="is it the right ledger?"
        )
    ended, how = _ended(ledger, family, name, generation)
    given = observe(
        open_store(settings.store_url),
        design,
        generation=generation,
        assigned=lambda unit: assign(split.table, unit).version,
        started=split.at,
        ended=ended,
        at=at,
    ).model_dump(mode="json")
    engine = open_database(settings.database_url)
    decision = decide(engine, family, "experiment", given, code_version=code_version(), at=at)
    return {
        "experiment": name,
        "decision": decision.id,
        "running": ended is None,
        "ended": how,
        "started_at": split.at.isoformat(),
        "days": given["days"],
        "design": design.to_json(),
        **decision.output,
    }


def stop(settings: Settings, family: str, name: str, *, reason: str, actor: str, at: datetime) -> _Record:
    """Takes a last look and gives all traffic back to the control, once.

    Traffic goes back even where the last look cannot be taken; `verdict` is None then and `note` says why.

    Returns:
        `experiment`, `verdict`, `version`, `why`, `decision`, `changed` (whether traffic moved), `generation`, `note`.

    Raises:
        ExperimentError: There is no such experiment.
        StaleRoute: Somebody else changed the traffic at the same moment.
        GatewayError: Traffic was moved in the ledger, but the gateway did not take it over in time.
    """
    ledger, design = _ledger(settings), read(settings, family, name)
    done = _entry(ledger, family, name, _STOPPED)
    if done is None:
        record: _Record = {"reason": reason, "verdict": None, "version": None, "why": [], "decision": None, "note": ""}
        try:
            last = look(settings, family, name, at=at)
            record |= {key: last[key] for key in ("verdict", "version", "why", "decision")}
        except WindtunnelError as error:  # a log that cannot be read must not keep the traffic where it is
            record["note"] = clip(error.message, 200)
        route = ledger.route(family)
        record["changed"] = _owns(route, name)
        if route is not None and record["changed"]:
            said = f"experiment {name} stopped: {reason}"
            ledger.swap_route(family, route.generation, all_to(route.table.champion), reason=said, actor=actor, at=at)
        record["generation"] = route.generation + record["changed"] if route else 0
        _append(ledger, design, Event.EXPERIMENT_STOPPED, _STOPPED, record, actor, at)
        done = _need(ledger, family, name, _STOPPED)
    if done.record["changed"]:
        gateway.wait_for_generation(settings, family, done.record["generation"])
    return {"experiment": name, **done.record}


def read(settings: Settings, family: str, name: str) -> Design:
    """The declared design. Raises `ExperimentError` where there is none."""
    return Design.model_validate(_need(_ledger(settings), family, name, _DECLARED).record["design"])


def names(settings: Settings, family: str) -> list[str]:
    """The declared experiments, the newest first."""
    found = _ledger(settings).entries(family, frozenset({Event.EXPERIMENT_DECLARED}))
    return [str(entry.record["design"]["name"]) for entry in found]


def _arms(settings: Settings, design: Design, route: Route) -> tuple[Arm, ...]:
    champion = route.table.champion
    if champion.version != design.control:
        raise ExperimentError(
            f"the control must be what serves, {champion.version}, not {design.control}",
            hint="an experiment compares challengers with the champion",
        )
    arms = [Arm(variant=champion, weight=design.weights[champion.version])]
    engine = open_database(settings.database_url)
    for version in design.challengers:
        found = find_version(engine, design.family, version)
        if found.verdict != Verdict.PASS.value or not found.releasable:
            why = f"its verdict is {found.verdict}" if found.releasable else "it was built by a backfill"
            raise ExperimentError(
                f"{version} may not answer anybody: {why}", hint="`windtunnel versions` shows which may"
            )
        refuse_recalled(settings, design.family, *found.data)
        verify_stored(settings, design.family, found.digest)
        variant = Variant(role=Role.CHALLENGER, version=version, digest=found.digest)
        arms.append(Arm(variant=variant, weight=design.weights[version]))
    return tuple(arms)


def _route_to_split(ledger: Ledger, design: Design) -> Route:
    route = ledger.route(design.family)
    if route is None:
        raise ExperimentError(f"nothing serves in {design.family}", hint="release a first model before you experiment")
    if route.table.stage and not _owns(route, design.name):
        raise ExperimentError(
            f"{route.table.rollout} of {design.family} is under way, at stage {route.table.stage}",
            hint="let it end, or stop it; `windtunnel status` shows where it stands",
        )
    return route


def _ended(ledger: Ledger, family: str, name: str, generation: int) -> tuple[datetime | None, str]:
    """When and how the split ended: by a stop, or because somebody else moved the traffic."""
    after = ledger.route(family, generation + 1)
    if after is not None:
        return after.at, f"{after.reason} (by {after.actor})"
    stopped = _entry(ledger, family, name, _STOPPED)
    return (stopped.at, str(stopped.record["reason"])) if stopped else (None, "")


def _owns(route: Route | None, name: str) -> bool:
    return route is not None and route.table.rollout == _salt(name) and bool(route.table.arms)


def _salt(name: str) -> str:
    return f"experiment-{name}"


def _key(name: str, what: str) -> str:
    return f"experiment:{name}:{what}"


def _entry(ledger: Ledger, family: str, name: str, what: str) -> Entry | None:
    return ledger.entry(family, _key(name, what))


def _need(ledger: Ledger, family: str, name: str, what: str) -> Entry:
    found = _entry(ledger, family, name, what)
    if found is None:
        raise ExperimentError(
            f"experiment {name!r} of {family} was not {what}", hint="`windtunnel experiment list` shows those there are"
        )
    return found


def _append(ledger: Ledger, design: Design, event: Event, what: str, record: _Record, actor: str, at: datetime) -> None:
    ledger.append(design.family, event, key=_key(design.name, what), actor=actor, at=at, record=record)


def _ledger(settings: Settings) -> Ledger:
    return Ledger(open_database(settings.database_url))
