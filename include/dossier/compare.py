"""Two versions side by side: what differs, and what was measured of the difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from include.dossier import words
from include.dossier.rollouts import rollouts_of
from include.dossier.standing import standing_of
from include.dossier.subject import History, Subject, find_subject

_Record = dict[str, Any]


def compare(history: History, first: str, second: str) -> _Record:
    """Compares `second` with `first` (versions, or starts of digests of refused candidates).

    Returns:
        `family`, `first`, `second` (names), `rows` ({what, first, second, same}), `metrics` ({metric, first, second}:
        records with intervals, each on the test examples of its own dataset version), `same_data` (whether that is the
        same version), `paired` (metric -> difference on the same examples, second minus first; None where they never
        met), `met` (how they met).

    Raises:
        UserError: There is no such version.
    """
    one, two = find_subject(history, first), find_subject(history, second)
    mine, yours = _facts(history, one), _facts(history, two)
    rows = [
        {"what": what, "first": mine[what], "second": yours.get(what), "same": mine[what] == yours.get(what)}
        for what in mine
    ]
    rows += [
        {"what": what, "first": None, "second": value, "same": False}
        for what, value in yours.items()
        if what not in mine
    ]
    measured, others = one.record.get("metrics") or {}, two.record.get("metrics") or {}
    paired, met = _paired(one, two)
    return {
        "family": history.family,
        "first": one.name,
        "second": two.name,
        "rows": rows,
        "metrics": [
            {"metric": name, "first": measured.get(name), "second": others.get(name)}
            for name in dict.fromkeys([*measured, *others])
        ],
        "same_data": one.dataset_version == two.dataset_version,
        "paired": paired,
        "met": met,
    }


def _facts(history: History, subject: Subject) -> _Record:
    """What a version is known by, on lines that can be held beside another's."""
    record, version = subject.record, subject.version
    rollouts = rollouts_of(history, version.version) if version else []
    cost = record.get("cost") or {}
    facts = {
        "stands": standing_of(history, subject, rollouts)["headline"],
        "verdict": version.verdict if version else "refused",
        "number": ": ".join(filter(None, (record.get("change"), record.get("change_why")))) or None,
        "registered": subject.registered_at.isoformat(),
        "by": record.get("creator"),
        "model digest": subject.digest,
        "bytes": record.get("bytes"),
        "dataset": subject.dataset_version,
        "code": record.get("code_version"),
        "study": (record.get("sweep") or {}).get("study"),
        "seed": record.get("seed"),
        "cost": words.number(cost.get("money")) if cost.get("money") is not None else None,
        "run": subject.run,
    }
    for side in ("inputs", "outputs"):
        spoken = (record.get("signature") or {}).get(side) or {}
        facts[side] = ", ".join(f"{name} {kind}" for name, kind in spoken.items()) or None
    for group in ("hyperparameters", "model"):
        for name, value in sorted((record.get(group) or {}).items()):
            facts[f"{group}.{name}"] = value
    return facts


def _paired(one: Subject, two: Subject) -> tuple[Mapping[str, Any] | None, str]:
    """The paired difference that an evaluation made, and which; the difference is `two` minus `one`."""
    found = _against(two, one)
    if found is not None:
        return found, f"{two.name} was evaluated against {one.name}"
    found = _against(one, two)
    if found is None:
        return None, "they were never evaluated on the same examples"
    turned = {
        metric: {**record, "difference": -record["difference"], "low": -record["high"], "high": -record["low"]}
        for metric, record in found.items()
    }
    return turned, f"{one.name} was evaluated against {two.name}"


def _against(candidate: Subject, other: Subject) -> Mapping[str, Any] | None:
    """What the candidate's evaluation says of its difference to `other`, which was its champion or a baseline."""
    comparisons = candidate.record.get("comparisons") or {}
    if (candidate.record.get("champion") or {}).get("digest") == other.digest:
        return comparisons.get("champion") or None
    baselines = candidate.record.get("baselines") or {}
    name = next((name for name, found in baselines.items() if found.get("digest") == other.digest), None)
    return comparisons.get(name) if name else None
