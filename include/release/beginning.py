"""How a rollout begins: whether this candidate may fly now, and whether it can.

What is refused here has touched no traffic. A candidate that may fly is loaded and asked in a process of its own
before any gateway meets it (`include.release.load_check`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from include.data.recalls import refuse_recalled
from include.evaluation.gates import Verdict
from include.release import gateway, load_check
from include.release.bootstrap import bootstrap
from include.release.ledger import Event, Ledger
from include.release.packages import verify_stored
from include.release.registry import ACCEPTED, ModelVersion, find_version
from include.release.rollout import StageVerdict
from include.release.state import BEGUN, LOADED, ReleaseError, Rollout, open_ledger
from include.release.takedown import take_down
from include.settings import Settings
from include.spec.models import FamilySpec
from include.steps.fingerprint import fingerprint
from include.store.database import open_database

_Record = dict[str, Any]


def begin(settings: Settings, spec: FamilySpec, model_version: str, *, run: str, actor: str, at: datetime) -> _Record:
    """Starts a rollout, or finds the one that this `run` started.

    Returns:
        `rollout` (its id), `candidate` and `champion` ({version, digest}; champion None where nothing serves), `stages`
        (names), and `skip`: why there is nothing to do, else None.

    Raises:
        UserError: The version is unknown.
        ReleaseError: Another rollout is under way.
        DataError: The data that it was trained on was recalled.
        PackageError: The candidate's package is missing or altered.
        TargetError: What is to serve it does not come up.
        LoadCheckFailed: It does not load or answer, or keeps memory; the rollout has ended.
    """
    ledger = open_ledger(settings)
    rollout = f"{model_version}-{fingerprint(family=spec.family, run=run, version=model_version)[:10]}"
    candidate = find_version(open_database(settings.database_url), spec.family, model_version)
    if ledger.entry(spec.family, f"{BEGUN}:{rollout}") is not None:
        begun = Rollout.read(ledger, spec.family, rollout)
        _check_load(settings, spec, begun, actor, at)
        ended = begun.ended()
        return _shown(begun, f"this rollout has ended ({ended}); start a new release" if ended else None)
    stages = [stage.name for stage in spec.release.stages]
    identity = {"version": candidate.version, "digest": candidate.digest}
    record: _Record = {"rollout": rollout, "run": run, "candidate": identity, "champion": None, "stages": stages}
    record["plan"] = spec.release.model_dump(mode="json")
    skip = _why_not(ledger, candidate)
    if skip is not None:
        return {**record, "skip": skip}
    _refuse_second_rollout(ledger, spec.family)
    refuse_recalled(settings, spec.family, *candidate.data)
    verify_stored(settings, spec.family, candidate.digest)
    gateway.prepare(settings, spec.release)
    route = bootstrap(settings, spec, candidate, actor=actor, at=at)
    if route is not None:
        record["champion"] = route.table.champion.model_dump(mode="json", exclude={"role"})
    record["generation"] = route.generation if route else 0
    ledger.append(
        spec.family,
        Event.ROLLOUT_BEGUN,
        key=f"{BEGUN}:{rollout}",
        actor=actor,
        at=at,
        model_version=candidate.version,
        record=record,
    )
    begun = Rollout.read(ledger, spec.family, rollout)
    _check_load(settings, spec, begun, actor, at)
    return _shown(begun, None)


def _check_load(settings: Settings, spec: FamilySpec, begun: Rollout, actor: str, at: datetime) -> None:
    """Checks once whether the candidate loads; what does not ends here, and is told again to whoever asks again."""
    done = begun.entry(LOADED)
    if done is None:
        if begun.ended() is not None:
            return
        found = {"rollout": begun.id, **load_check.check(settings, spec, begun.candidate.digest, at=at)}
        begun.append(Event.LOAD_CHECKED, begun.key(LOADED), found, actor, at)
        done = begun.entry(LOADED)
    if done is None or done.record["verdict"] == StageVerdict.PASS.value:
        return
    why = "; ".join(done.record["why"])
    take_down(settings, spec.family, begun.id, reason=f"load check: {why}", actor=actor, at=at)
    raise load_check.LoadCheckFailed(
        f"{begun.version} did not pass its load check: {why}",
        hint="it had no traffic; mend the package or the family's code, and train again",
        rollout=begun.id,
    )


def _why_not(ledger: Ledger, candidate: ModelVersion) -> str | None:
    """Why this version may not fly, or need not."""
    version = candidate.version
    if candidate.verdict not in (Verdict.PASS.value, ACCEPTED):
        return f"{version} did not pass its gates (verdict {candidate.verdict})"
    if not candidate.releasable:
        return f"{version} was built by a backfill: it may be compared, not released"
    route = ledger.route(candidate.family)
    if route is not None and not route.table.stage and route.table.champion.version == version:
        return f"{version} is the champion already"
    return None


def _refuse_second_rollout(ledger: Ledger, family: str) -> None:
    route = ledger.route(family)
    if route is not None and route.table.arms:
        name = route.table.rollout.removeprefix("experiment-")
        raise ReleaseError(
            f"experiment {name} of {family} has the traffic",
            hint=f"`windtunnel experiment stop {family} {name} --reason ...` gives it back",
        )
    if route is not None and route.table.stage:
        raise ReleaseError(
            f"rollout {route.table.rollout} of {family} is under way, at stage {route.table.stage}",
            hint="let it end, or run its `rollback` task; `windtunnel status` shows where it stands",
            rollout=route.table.rollout,
        )


def _shown(state: Rollout, skip: str | None) -> _Record:
    names = ("rollout", "candidate", "champion", "stages")
    return {**{name: state.begun.record[name] for name in names}, "skip": skip}
