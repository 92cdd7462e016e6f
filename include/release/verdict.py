"""What becomes of a candidate: the gates' verdict, and what follows from it. Pure.

PASS is registered. FAIL goes back to the sweep with adjusted parameters while attempts are left, then it is archived.
INCONCLUSIVE does not ship either: it goes back in the same way, with the number of examples that would decide it, and
when that is over a person may accept it (`include.release.acceptance`). What no training mends (personal data in the
package, an unanswered question about it, a request that the code cannot take) is not trained again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from include.evaluation.adjust import adjust
from include.evaluation.gates import TEST_SPLIT, Verdict, decide
from include.spec.judging import Operator
from include.spec.probing import HANDLED, UNDER

#: Which way a gate's metric should go; equality asks for neither.
_SIGNS = {Operator.GT: 1, Operator.GTE: 1, Operator.LT: -1, Operator.LTE: -1, Operator.EQ: 0}
#: Metrics of what ships, not of what was learnt.
_NOT_LEARNT = frozenset({"personal_data", "vulnerabilities"})
REGISTER, RETRY, ARCHIVE = "register", "retry", "archive"


def judge(record: Mapping[str, Any]) -> dict[str, Any]:
    """The verdict on a candidate and the next step.

    Args:
        record: `include.evaluation.gates.GateInput` with `attempt`, `max_attempts` and `adjust` (what this attempt was
            made with; missing in decisions of earlier releases) beside it.

    Returns:
        What `gates.decide` returns, with `next` ("register", "retry", "archive") and `adjust` (empty unless "retry").
    """
    outcome = decide(record)
    if outcome["verdict"] == Verdict.PASS.value:
        return {**outcome, "next": REGISTER, "adjust": {}}
    attempt, most = int(record["attempt"]), int(record["max_attempts"])
    comparisons = record["splits"][TEST_SPLIT].get("comparisons", {})
    signs = {gate["name"]: _SIGNS[Operator(gate["operator"])] for gate in record["gates"]}
    changes = (
        None
        if _beyond_training(outcome["gates"])
        else adjust(outcome["gates"], comparisons, attempt, most, before=record.get("adjust"), signs=signs)
    )
    if changes is None:
        reason = f"attempt {attempt} of {most}: archived, " + (
            "no attempt is left" if attempt >= most else "another training would not change what failed"
        )
        if outcome["verdict"] == Verdict.INCONCLUSIVE.value:
            reason += "; nothing failed: more evaluation, or a person's word (`windtunnel accept`), would decide it"
        return {**outcome, "next": ARCHIVE, "adjust": {}, "why": [*outcome["why"], reason]}
    shown = ", ".join(f"{name} {value:g}" for name, value in changes.items())
    reason = f"attempt {attempt} of {most}: back to the sweep with {shown}"
    return {**outcome, "next": RETRY, "adjust": changes, "why": [*outcome["why"], reason]}


def _beyond_training(gates: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a gate blocks that another training cannot change: it is about the package or the code, or unmeasured."""
    blocking = [gate for gate in gates if gate["blocks"]]
    return any(
        gate["value"] is None or gate["metric"] in _NOT_LEARNT or gate["metric"].startswith(f"{HANDLED}{UNDER}")
        for gate in blocking
    )
