"""A person's approval before a candidate answers live traffic, in Airflow's own "Required actions".

What the person must know is gathered when the task runs. The answer goes into the ledger first: a task that dies
afterwards and is tried again finds it there, and asks nobody twice.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from airflow.providers.standard.operators.hitl import ApprovalOperator, HITLOperator
from airflow.sdk import Param
from airflow.sdk.definitions.param import ParamsDict

from include.settings import Settings
from plugins.windtunnel.links import dossier_url

if TYPE_CHECKING:
    from airflow.sdk import Context

_MARKS = str.maketrans({mark: f"\\{mark}" for mark in "\\`*_{}[]()<>#+!|~"})


class ReleaseApprovalOperator(ApprovalOperator):
    """Asks whether a candidate may have live traffic; on a no, the rest of the release is skipped.

    Args:
        family: Name of the family.
        rollout: Result of `begin` (may be an XCom reference).
        response_timeout: After it, the answer is no.
    """

    template_fields: Collection[str] = (*ApprovalOperator.template_fields, "rollout")

    def __init__(self, *, family: str, rollout: dict[str, Any], response_timeout: timedelta, **kwargs: Any) -> None:
        super().__init__(defaults=self.REJECT, response_timeout=response_timeout, **kwargs)
        self.family = family
        self.rollout = rollout

    def execute(self, context: Context) -> Any:
        from include.release import approval

        settings, rollout = Settings.from_env(), self.rollout["rollout"]
        given = approval.answer(settings, self.family, rollout)
        if given is not None:
            return self._settle(context, given)
        self._make_form()
        facts = approval.facts(settings, self.family, rollout)
        self.body = f"{sheet(facts)}\n\n[Everything about it]({dossier_url(self.family, facts['version'])})"
        return super().execute(context)

    def execute_complete(self, context: Context, event: dict[str, Any]) -> dict[str, Any]:
        """The answer, with what follows from it. An approval without a person behind it is none."""
        self._make_form()
        answered = HITLOperator.execute_complete(self, context, event)
        user = answered["responded_by_user"]
        reason = (answered["params_input"] or {}).get("reason") or ""
        if user is None:
            nobody = {"approved": False, "actor": "nobody", "reason": f"no answer within {self.response_timeout}"}
            return self._settle(context, nobody)
        approved = answered["chosen_options"] == [self.APPROVE]
        return self._settle(
            context, {"approved": approved, "actor": user["name"], "reason": reason or "no reason given"}
        )

    def _make_form(self) -> None:
        """The one field; set when the task runs, because the DAG's own parameters are no part of the form."""
        why = Param(None, type=["null", "string"], title="Why", description="Kept in the ledger with your name.")
        self.params = ParamsDict({"reason": why})

    def _settle(self, context: Context, given: Mapping[str, Any]) -> dict[str, Any]:
        from include.release.approval import settle

        held = settle(Settings.from_env(), self.family, self.rollout["rollout"], at=datetime.now(UTC), **given)
        self.log.info("%s by %s: %s", "approved" if held["approved"] else "rejected", held["actor"], held["reason"])
        if not held["approved"]:
            self.skip(ti=context["ti"], tasks=context["task"].get_direct_relatives(upstream=False))
        return held


def sheet(facts: Mapping[str, Any]) -> str:
    """What `include.release.approval.facts` found, in Markdown; texts are shown as they are, never as markup."""
    champion = facts["champion"] or "nothing"
    lines = [
        f"**Candidate {_plain(facts['version'])}** ({_plain(facts['change'])}) against **{_plain(champion)}**, which "
        f"serves now. Trained on dataset {_plain(facts['dataset_version'])} by {_plain(facts['creator'])}; cost "
        f"{_plain(facts['cost'])}.",
        "",
        "| gate | verdict | measured | why |",
        "|---|---|---|---|",
        *(
            f"| {_plain(gate['name'])} | {gate['verdict']} | {_measured(gate)} | {_plain(gate['why'])} |"
            for gate in facts["gates"]
        ),
    ]
    if facts["against_champion"]:
        lines += ["", "| against the champion | difference |", "|---|---|"]
        lines += [f"| {_plain(name)} | {_measured(item)} |" for name, item in facts["against_champion"].items()]
    for stage in facts["stages"]:
        lines += ["", f"Stage **{_plain(stage['stage'])}**: {stage['verdict']}. {_plain('; '.join(stage['why']))}"]
    return "\n".join([*lines, "", f"`windtunnel replay {facts['decision'][:12]}` makes the gates' verdict again."])


def _measured(item: Mapping[str, Any]) -> str:
    value = item.get("value", item.get("difference"))
    if value is None:
        return "-"
    interval = f" [{item['low']:.4g}, {item['high']:.4g}]" if item.get("low") is not None else ""
    return f"{value:.4g}{interval}, n = {item['n']}"


def _plain(text: object) -> str:
    return " ".join(str(text).split()).translate(_MARKS)
