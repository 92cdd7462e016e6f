"""Where a rollout stands, read from the ledger: what it began with, which stages it passed, whether it has ended."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from include.errors import UserError, WindtunnelError
from include.lineage.release_events import teller
from include.release.control import Control, Line, Said, Word, fold
from include.release.ledger import Entry, Event, Ledger, Route, StaleRoute
from include.release.rollout import StageVerdict
from include.release.routing import Role, RoutingTable, Variant
from include.settings import Settings
from include.spec.rollout import ReleaseSpec, StageSpec
from include.store.database import open_database

#: Keys of ledger entries; each of them can be there once per rollout (and stage).
BEGUN, LOADED, ENTERED, JUDGED, CONTROL = "begun", "load_checked", "entered", "judged", "control"
PROMOTED, ROLLED_BACK, APPROVAL = "promoted", "rolled_back", "approval"
_ENDS = (PROMOTED, ROLLED_BACK)


class ReleaseError(WindtunnelError):
    """The rollout cannot go on from where the ledger stands."""


@dataclass(frozen=True)
class Rollout:
    """A rollout that has begun. What can change is read from the ledger whenever it is asked for."""

    ledger: Ledger
    family: str
    begun: Entry

    @classmethod
    def under_way(cls, ledger: Ledger, family: str) -> Rollout | None:
        """The rollout that has traffic, or the newest that has begun and not ended; None where there is none."""
        route = ledger.route(family)
        if route is not None and route.table.stage:
            begun_with = ledger.entry(family, f"{BEGUN}:{route.table.rollout}")  # None: an experiment has the traffic
            return cls(ledger, family, begun_with) if begun_with else None
        for begun in ledger.entries(family, frozenset({Event.ROLLOUT_BEGUN}), limit=1):
            state = cls(ledger, family, begun)
            generation = route.generation if route else 0
            untouched = state.owns(route) or generation == begun.record["generation"]
            return state if untouched and state.ended() is None else None
        return None

    @classmethod
    def read(cls, ledger: Ledger, family: str, rollout: str) -> Rollout:
        """Raises `ReleaseError` where no such rollout has begun."""
        begun = ledger.entry(family, f"{BEGUN}:{rollout}")
        if begun is None:
            raise ReleaseError(f"there is no rollout {rollout!r} of {family}", hint="begin it first")
        return cls(ledger, family, begun)

    @property
    def id(self) -> str:
        return str(self.begun.record["rollout"])

    @property
    def version(self) -> str:
        return str(self.begun.record["candidate"]["version"])

    @property
    def candidate(self) -> Variant:
        """The candidate, as it stands in a routing table once it is the champion."""
        return Variant(role=Role.CHAMPION, **self.begun.record["candidate"])

    @property
    def champion(self) -> Variant | None:
        """What served when the rollout began; None where nothing did."""
        found = self.begun.record["champion"]
        return Variant(role=Role.CHAMPION, **found) if found else None

    @property
    def plan(self) -> ReleaseSpec:
        """Stages and guardrails as they were when the rollout began."""
        return ReleaseSpec.model_validate(self.begun.record["plan"])

    @property
    def stages(self) -> list[str]:
        return list(self.begun.record["stages"])

    def entry(self, what: str, stage: str | None = None) -> Entry | None:
        """The ledger entry `what` of this rollout (and stage)."""
        return self.ledger.entry(self.family, self.key(what, stage))

    def key(self, what: str, stage: str | None = None) -> str:
        """The `event_key` of that entry."""
        return f"{what}:{self.id}" if stage is None else f"{what}:{self.id}:{stage}"

    def append(self, event: Event, key: str, record: Mapping[str, Any], actor: str, at: datetime) -> None:
        """Adds an entry about this rollout, unless its key is there."""
        self.ledger.append(self.family, event, key=key, actor=actor, at=at, model_version=self.version, record=record)

    def control(self) -> Control:
        """What people said so far, and what holds by it."""
        entries = self.ledger.series(self.family, f"{CONTROL}:{self.id}:")
        return fold(
            Line(
                Said(entry.event.value),
                Word(actor=entry.actor, reason=entry.record["reason"], at=entry.at),
                tuple(entry.record.get("stages", ())),
            )
            for entry in entries
        )

    def say(
        self, after: Control, said: Said, reason: str, actor: str, at: datetime, *, stages: Sequence[str] = ()
    ) -> bool:
        """Adds a word to the sequence. False where somebody else spoke since `after` was read."""
        record = {"rollout": self.id, "reason": reason, "stages": list(stages)}
        key = self.key(CONTROL, f"{after.number + 1:06d}")
        return self.ledger.append(
            self.family, Event(said.value), key=key, actor=actor, at=at, model_version=self.version, record=record
        )

    def ended(self) -> str | None:
        """How the rollout ended, in words; None while it has not."""
        for what in _ENDS:
            if (entry := self.entry(what)) is not None:
                reason = f": {entry.record['reason']}" if what == ROLLED_BACK else ""
                return what.replace("_", " ") + reason
        return None

    def judged(self) -> list[Mapping[str, Any]]:
        """Records of the stages that have a final verdict, in their order."""
        entries = [self.entry(JUDGED, stage) for stage in self.stages]
        return [entry.record for entry in entries if entry is not None]

    def check_passed(self, before: str | None = None) -> None:
        """Raises `ReleaseError` unless every stage (before the stage `before`, if given) was passed."""
        if before is not None and before not in self.stages:
            raise ReleaseError(f"rollout {self.id} has no stage {before!r}", hint=f"it has {', '.join(self.stages)}")
        for stage in self.stages if before is None else self.stages[: self.stages.index(before)]:
            judged = self.entry(JUDGED, stage)
            if judged is None or judged.record["verdict"] != StageVerdict.PASS.value:
                verdict = judged.record["verdict"] if judged else "no verdict"
                raise ReleaseError(
                    f"stage {stage} of rollout {self.id} was not passed ({verdict})",
                    hint="the rollout cannot go on; take it back",
                )

    def check_approved(self) -> None:
        """Raises `ReleaseError` unless a person approved of this candidate."""
        entry = self.entry(APPROVAL)
        if entry is None or entry.event is not Event.APPROVED:
            said = f"{entry.actor} rejected it: {entry.record['reason']}" if entry else "nobody was asked yet"
            raise ReleaseError(
                f"rollout {self.id} may not take live traffic without a person's approval ({said})",
                hint="answer the release's `approve` task under Required actions",
            )

    def owns(self, route: Route | None) -> bool:
        """Whether the traffic is as this rollout left it."""
        return route is not None and route.table.rollout == self.id

    def is_at(self, route: Route | None, stage: str) -> bool:
        """Whether the traffic is that of this rollout's `stage`."""
        return route is not None and self.owns(route) and route.table.stage == stage

    def replaceable(self, route: Route | None) -> int:
        """The generation that this rollout may replace: its own, or the one it began on. Raises `StaleRoute`."""
        generation = route.generation if route else 0
        over = route is not None and self.owns(route) and not route.table.stage  # taken back, or promoted
        if over or (not self.owns(route) and generation != self.begun.record["generation"]):
            raise stale(self.family, route)
        return generation

    def table(self, stage: StageSpec) -> RoutingTable:
        """The routing table of a stage."""
        if self.champion is None:
            return RoutingTable(champion=self.candidate, stage=stage.name, rollout=self.id)
        return RoutingTable(
            champion=self.champion,
            challenger=self.candidate.model_copy(update={"role": Role.CHALLENGER}),
            challenger_share=0.0 if stage.shadow else stage.traffic,
            shadow=stage.shadow,
            stage=stage.name,
            rollout=self.id,
        )


def open_ledger(settings: Settings) -> Ledger:
    """The ledger, whose new entries are told to lineage."""
    return Ledger(open_database(settings.database_url), teller(settings))


def find_stage(release: ReleaseSpec, name: str, family: str) -> StageSpec:
    """The stage `name` of the spec. Raises `UserError` where there is none."""
    for stage in release.stages:
        if stage.name == name:
            return stage
    known = ", ".join(stage.name for stage in release.stages)
    raise UserError(f"{family} has no stage {name!r}", where="release.stages", hint=f"known: {known}")


def stale(family: str, route: Route | None) -> StaleRoute:
    """The error that says who else changed the traffic."""
    said = f"generation {route.generation} by {route.actor}: {route.reason}" if route else "nothing serves"
    return StaleRoute(
        f"the traffic of {family} was changed by someone else ({said})",
        hint="read the current state with `windtunnel status` and decide again",
        newest=route.generation if route else 0,
    )
