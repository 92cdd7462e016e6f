"""`windtunnel experiment`: what an experiment needs, what it says now, and what it may not say yet."""

from __future__ import annotations

import argparse
import getpass
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from pydantic import ValidationError

from include.cli.context import chosen_family, live_settings
from include.cli.output import Output
from include.errors import UserError


def plan(arguments: argparse.Namespace, out: Output) -> int:
    """Units and days, for a test that is looked at once and for one that may be looked at any time."""
    from include.release.experiments.planning import plan as planned

    found = planned(
        [1.0] * (arguments.challengers + 1),
        baseline=arguments.baseline,
        mde=arguments.mde,
        sd=arguments.sd,
        alpha=arguments.alpha,
        power=arguments.power,
        units_per_day=arguments.units_per_day,
        label_delay_days=(arguments.label_delay_hours + arguments.watch_hours) / 24.0,
    )
    if out.as_json:
        out.document(found.to_json())
        return 0
    out.line(f"at most {found.always[0]} units per variant, {sum(found.always)} in all", style="bold")
    out.line(f"  may be looked at, and stopped, at any time; {found.once[0]} would do for one single look at the end")
    out.line(
        f"  finds {arguments.mde:g} or more with a chance of {arguments.power:.0%}, alpha {found.alpha_each:.3g} each"
    )
    if found.days is not None:
        out.line(f"  {found.days:g} days until the last labels are in ({found.days_once:g} for one look)")
    return 0


def create(arguments: argparse.Namespace, out: Output) -> int:
    """Declares an experiment and splits the traffic."""
    from include.release.experiments.trial import create as begin

    settings, family = live_settings(), chosen_family(arguments.family)
    begun = begin(settings, _design(arguments, family, _control(settings, family)), actor=_actor(), at=_now())
    if out.as_json:
        out.document(begun)
        return 0
    out.line(
        f"experiment {begun['experiment']} of {family} has the traffic (generation {begun['generation']})", style="bold"
    )
    for version, units in begun["planned"].items():
        out.line(f"  {version}: at most {units} units")
    out.line(f"  `windtunnel experiment status {family} {arguments.name}` may be asked as often as you like")
    return 0


def status(arguments: argparse.Namespace, out: Output) -> int:
    """What it says now; the look is kept as a decision."""
    from include.release.experiments.trial import look

    found = look(live_settings(), arguments.family, arguments.name, at=_now())
    if out.as_json:
        out.document(found)
    else:
        _show(found, arguments.family, out)
    return 0


def stop(arguments: argparse.Namespace, out: Output) -> int:
    """A last look, then all traffic to the control."""
    from include.release.experiments.trial import stop as end

    done = end(live_settings(), arguments.family, arguments.name, reason=arguments.reason, actor=_actor(), at=_now())
    if out.as_json:
        out.document(done)
        return 0
    moved = "all traffic is back at the control" if done["changed"] else "somebody else had moved the traffic before"
    out.line(f"experiment {arguments.name} is over: {moved}", style="bold")
    for reason in [*done["why"], *([done["note"]] if done["note"] else [])]:
        out.line(f"  {reason}")
    if done["verdict"] == "SHIP":
        out.line(f"  next: trigger release__{arguments.family} with model_version {done['version']}")
    return 0


def names(arguments: argparse.Namespace, out: Output) -> int:
    """The declared experiments."""
    from include.release.experiments import trial

    found = trial.names(live_settings(), chosen_family(arguments.family))
    if out.as_json:
        out.document(found)
    else:
        out.table(["experiment"], [(name,) for name in found], empty=f"{arguments.family} has no experiment yet")
    return 0


def _show(found: Mapping[str, Any], family: str, out: Output) -> None:
    design = found["design"]
    state = "runs" if found["running"] else f"is over: {found['ended']}"
    out.line(f"experiment {found['experiment']} of {family} {state}")
    out.line(f"day {found['days']:.2f} of {design['max_days']:g}, since {found['started_at'][:16]} UTC")
    out.line(f"{found['verdict']}: {found['why'][0]}", style="bold")
    for reason in found["why"][1:]:
        out.line(f"  {reason}")
    for said in found["open"]:
        out.line(f"  it may not say {said}")
    out.line()
    rows = [_row(item) for item in found["comparisons"] if item["difference"] is not None]
    columns = ["version", "metric", "value", "control", "difference", "interval", "p", "effect", "units"]
    out.table(columns, rows, empty="no labels are in yet")
    ratio = found["ratio"]
    units = ", ".join(
        f"{name} {count} ({ratio['expected'][name]:g} expected)" for name, count in ratio["units"].items()
    )
    out.line()
    out.line(f"units that met it: {units}; sample ratio p = {ratio['p_value']:.3g}", style="dim")
    out.line(f"intervals and p hold at all looks; decision {found['decision'][:12]} (`windtunnel replay`)", style="dim")


def _row(item: Mapping[str, Any]) -> tuple[Any, ...]:
    interval = f"[{item['low']:+.4g}, {item['high']:+.4g}]"
    units = f"{item['units']} / {item['units_control']}"
    shown = f"{item['difference']:+.4g}" + (f" ({item['lift'][0]:+.1%})" if item["lift"] else "")
    return (
        item["version"], item["metric"], item["value"], item["control"], shown, interval,
        f"{item['adjusted']:.3g}", item["effect"], units,
    )  # fmt: skip


def _design(arguments: argparse.Namespace, family: str, control: str) -> Any:
    from include.release.experiments.design import Design

    try:
        return Design.model_validate(
            {
                "name": arguments.name,
                "family": family,
                "variants": [{"version": control, "weight": arguments.control_weight}, *arguments.challenger],
                "primary": arguments.metric,
                "guardrails": arguments.guardrail,
                "mde": arguments.mde,
                "baseline": arguments.baseline,
                "sd": arguments.sd,
                "alpha": arguments.alpha,
                "power": arguments.power,
                "max_days": arguments.max_days,
                "watch_seconds": arguments.watch_hours * 3600.0,
                "label_delay_seconds": arguments.label_delay_hours * 3600.0,
                "correction": arguments.correction,
                "cuped": arguments.cuped,
                "lookback_days": arguments.lookback_days,
            }
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(
            f"the experiment cannot be as asked for: {first['msg']}",
            where=where,
            hint="`windtunnel experiment plan` helps",
        ) from error


def _control(settings: Any, family: str) -> str:
    from include.release.ledger import Ledger
    from include.store.database import open_database

    route = Ledger(open_database(settings.database_url)).route(family)
    if route is None:
        raise UserError(f"nothing serves in {family}", hint="release a first model before you experiment")
    return route.table.champion.version


def _actor() -> str:
    return f"{getpass.getuser()} via windtunnel experiment"


def _now() -> datetime:
    return datetime.now(UTC)
