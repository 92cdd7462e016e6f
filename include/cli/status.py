"""`windtunnel status`: what runs, what serves to how much traffic, and how the last release ended."""

from __future__ import annotations

import argparse
from datetime import UTC, datetime
from typing import Any

from include.cli import gateway
from include.cli.context import live_settings, running_stack
from include.cli.output import Output
from include.errors import WindtunnelError
from include.release.ledger import Event
from include.settings import Settings
from include.spec import family_names

_OUTCOMES = frozenset({Event.PROMOTED, Event.ROLLED_BACK, Event.STAGE_ENTERED, Event.ARCHIVED, Event.REGISTERED})


def status(arguments: argparse.Namespace, out: Output) -> int:
    """Shows the state of everything; 0 whether or not the stack runs."""
    settings = live_settings()
    record: dict[str, Any] = {
        "home": str(settings.home),
        "stack": stack_record(settings),
        "families": {family: family_record(settings, family) for family in family_names()},
    }
    if out.as_json:
        out.document(record)
        return 0
    _show_stack(record["stack"], out)
    _show_families(record["families"], out)
    return 0


def stack_record(settings: Settings) -> dict[str, Any]:
    """The stack of this checkout and the health of its services."""
    from include.embedded.stack import check_service

    view = running_stack(settings)
    if view is None:
        return {"running": False, "services": {}}
    services = {
        name: {
            "health": check_service(service).value,
            "url": service.url,
            "pid": service.process.pid if service.process else None,
            "starts": service.starts,
            "log": str(service.log),
        }
        for name, service in view.services.items()
    }
    return {"running": True, "started_at": view.started_at, "profile": view.profile, "services": services}


def family_record(settings: Settings, family: str) -> dict[str, Any]:
    """What serves by the ledger, what the gateway has loaded, the rollout under way and the last event of a release."""
    from include.release.drill.record import last_drill
    from include.release.ledger import Ledger
    from include.release.steering import standing
    from include.store.database import open_database

    ledger = Ledger(open_database(settings.database_url))
    route, last = ledger.route(family), ledger.entries(family, _OUTCOMES, limit=1)
    record: dict[str, Any] = {"route": None, "last": None, "gateway": _loaded(settings, family)}
    record["rollout"] = standing(settings, family)
    drilled = last_drill(settings, family)
    record["drill"] = {"at": drilled.at, "actor": drilled.actor, **drilled.record} if drilled else None
    if route:
        table = route.table.model_dump(mode="json")
        record["route"] = {"generation": route.generation, **table, "reason": route.reason, "since": route.at}
    if last:
        record["last"] = {"event": last[0].event.value, "model_version": last[0].model_version, "at": last[0].at}
    return record


def _loaded(settings: Settings, family: str) -> dict[str, Any]:
    url = settings.gateway_url
    try:
        routes = gateway.get(url, "/v1/routes", timeout=2.0)
    except WindtunnelError as error:
        return {"url": url, "reachable": False, "error": error.message}
    loaded = routes.get(family) or {}
    return {"url": url, "reachable": True, "generation": loaded.get("generation"), "failed": loaded.get("failed")}


def _show_stack(stack: dict[str, Any], out: Output) -> None:
    if not stack["running"]:
        out.line("stack: does not run (`windtunnel up` starts it)")
        return
    out.line(f"stack: runs since {stack['started_at'][:19]} UTC, profile {stack['profile']}")
    rows = [
        (name, item["health"], item["url"], item["pid"], item["starts"] - 1) for name, item in stack["services"].items()
    ]
    out.table(["service", "health", "address", "pid", "restarts"], rows)


def _show_families(families: dict[str, Any], out: Output) -> None:
    rows = [row for family, record in families.items() for row in _family_rows(family, record)]
    out.line()
    out.table(["family", "version", "role", "traffic", "stage", "last"], rows, empty="there is no family")
    for family, record in families.items():
        for line in _rollout_lines(family, record["rollout"]):
            out.line(line)
    _show_drills(families, out)


def _show_drills(families: dict[str, Any], out: Output) -> None:
    """The last drill of each family that has something to protect."""
    from include.release.drill.plan import summary

    now = datetime.now(UTC)
    for family, record in families.items():
        drilled = record["drill"]
        if drilled:
            days = (now - drilled["at"]).days
            age = f"{days} days ago" if days > 1 else f"{drilled['at']:%Y-%m-%d %H:%M}"
            out.line(
                f"{family} drill {age}: {summary(drilled)}", style="" if drilled["outcome"] == "stopped" else "red"
            )
        elif record["route"]:
            out.line(f"{family} drill: never held (`windtunnel drill {family}`)")


def _rollout_lines(family: str, rollout: dict[str, Any] | None) -> list[str]:
    """What people said about the rollout under way, and what is left of its error budget."""
    if rollout is None:
        return []
    said = [f"waved on from {stage}" + _by(word) for stage, word in rollout["waved_on"].items()]
    if rollout["paused"]:
        said.append("PAUSED" + _by(rollout["paused"]))
    if rollout["budget"]:
        said.append(rollout["budget"]["why"])
    return [f"{family} {rollout['version']}: {sentence}" for sentence in said]


def _by(word: dict[str, Any]) -> str:
    return f" by {word['actor']} since {word['at'][:16].replace('T', ' ')}: {word['reason']}"


def _family_rows(family: str, record: dict[str, Any]) -> list[tuple[Any, ...]]:
    route, last = record["route"], record["last"]
    ended = f"{last['event']} {last['model_version'] or ''} {last['at']:%Y-%m-%d %H:%M}" if last else "nothing yet"
    if route is None:
        return [(family, "nothing", "", None, "", ended)]
    share, stage = route["challenger_share"], f"{route['stage']}{_gateway_note(record)}"
    if route["arms"]:
        return _experiment_rows(family, route, f"{stage} {route['rollout'].removeprefix('experiment-')}", ended)
    rows: list[tuple[Any, ...]] = [(family, route["champion"]["version"], "champion", f"{1 - share:.0%}", stage, ended)]
    if route["challenger"]:
        shown = "shadow" if route["shadow"] else f"{share:.0%}"
        rows.append((family, route["challenger"]["version"], "challenger", shown, route["stage"], ""))
    return rows


def _experiment_rows(family: str, route: dict[str, Any], stage: str, ended: str) -> list[tuple[Any, ...]]:
    total = sum(arm["weight"] for arm in route["arms"])
    return [
        (family, arm["variant"]["version"], arm["variant"]["role"], f"{arm['weight'] / total:.0%}", stage, ended)
        for arm in route["arms"]
    ]


def _gateway_note(record: dict[str, Any]) -> str:
    loaded = record["gateway"]
    if not loaded["reachable"]:
        return " (the gateway does not answer)"
    if loaded["failed"]:
        return f" (the gateway could not load generation {loaded['failed']['generation']}: {loaded['failed']['error']})"
    return "" if loaded["generation"] == record["route"]["generation"] else " (the gateway is loading it)"
