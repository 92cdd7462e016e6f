"""Decides for the workers of a gateway: which of them are live, and when all change to a new routing table.

A new generation is loaded by one worker first, the leader; when it has proven to load, the others load it too, and when
every live worker has it, it serves, everywhere in the same moment. A worker that died while it loaded a generation is
evidence against the generation: it is not tried again for a while, so that a package that kills the process it is
loaded into takes one worker down for a moment, and never the gateway.

Pure but for the board that it writes: no processes, no clock of its own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from include.serving.board import Board, Column

_PAUSE_FIRST, _PAUSE_MOST = 10.0, 300.0


@dataclass(frozen=True)
class Report:
    """What a worker says of itself; each report replaces the one before.

    Attributes:
        held: Family -> stamps of the tables whose models it has loaded.
        failed: Family -> `generation` and `error` of the newest that it could not load.
        loading: Family and stamp that it loads right now.
        caught_up: It has loaded all that there is to load, or tried.
        ledger_error: Why it cannot read the ledger; empty when it can.
    """

    held: Mapping[str, Sequence[int]] = field(default_factory=dict)
    failed: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    loading: tuple[str, int] | None = None
    caught_up: bool = False
    ledger_error: str = ""


@dataclass
class Crash:
    """Deaths of workers while they loaded a table; it is not tried before `again_at` (monotonic seconds)."""

    family: str
    stamp: int
    deaths: int
    again_at: float


class Crew:
    """The supervisor's view of its workers. Every method leaves the board consistent."""

    def __init__(self, board: Board) -> None:
        self._board = board
        self._reports: dict[int, Report] = {}
        self._crashes: dict[tuple[str, int], Crash] = {}

    def started(self, slot: int) -> None:
        """A worker was started."""
        self._reports[slot] = Report()
        if self._board.leader not in self._reports:
            self._choose_leader()
        self._decide()

    def reported(self, slot: int, report: Report) -> None:
        """A worker told about itself."""
        self._reports[slot] = report
        if report.caught_up and slot == self._board.leader:
            self._board.settle()
        self._decide()

    def died(self, slot: int, now: float) -> None:
        """A worker ended, whatever the reason."""
        report = self._reports.pop(slot, Report())
        for column in (Column.LIVE, Column.CONNECTIONS, Column.ROWS_PENDING, Column.SHADOW_WAITING, Column.LOG_STALLED):
            self._board.write(slot, column, 0)
        if report.loading:
            deaths = self._crashes[report.loading].deaths + 1 if report.loading in self._crashes else 1
            pause = min(_PAUSE_FIRST * 2 ** (deaths - 1), _PAUSE_MOST)
            self._crashes[report.loading] = Crash(*report.loading, deaths, now + pause)
        if slot == self._board.leader:
            self._choose_leader()
        self._decide()

    def behind(self, slot: int) -> bool:
        """Whether a live worker holds up a generation that another one has loaded."""
        report = self._reports.get(slot)
        if report is None or not self._board.read(slot, Column.LIVE):
            return False
        return any(
            max(report.held.get(family, ()), default=0) < self._board.proven(family) > self._board.committed(family)
            for family in self._board.families
        )

    def loading(self, slot: int) -> tuple[str, int] | None:
        """What a worker loads right now."""
        return self._reports.get(slot, Report()).loading

    def to_json(self) -> dict[str, Any]:
        """What went wrong, for the status on the board; the leader knows best."""
        leader = self._board.leader
        failed: dict[str, Any] = {}
        for _, report in sorted(self._reports.items(), key=lambda item: item[0] == leader):
            failed.update({family: dict(failure) for family, failure in report.failed.items()})
        said = self._reports.get(leader, Report())
        crashes = [asdict(crash) for crash in self._crashes.values()]
        return {"failed": failed, "ledger_error": said.ledger_error, "crashes": crashes}

    def _choose_leader(self) -> None:
        """The lowest live worker, else the lowest that runs."""
        running = sorted(self._reports)
        live = [slot for slot in running if self._board.read(slot, Column.LIVE)]
        if running:
            self._board.leader = (live or running)[0]

    def _decide(self) -> None:
        board = self._board
        for report in self._reports.values():
            for family, stamps in report.held.items():
                if stamps and max(stamps) > board.proven(family):
                    board.prove(family, max(stamps))
        for slot, report in self._reports.items():
            if not board.read(slot, Column.LIVE) and self._may_serve(slot, report):
                board.write(slot, Column.LIVE, 1)
        live = board.live
        for family in board.families:
            held = [set(self._reports[slot].held.get(family, ())) for slot in live]
            stamp = max(set.intersection(*held), default=0) if held else 0
            if stamp > board.committed(family):
                board.commit(family, stamp)
        self._forget_crashes()

    def _may_serve(self, slot: int, report: Report) -> bool:
        committed = {family: stamp for family in self._board.families if (stamp := self._board.committed(family))}
        if not committed and slot == self._board.leader:
            return True  # at the very start: what comes in is told that nothing serves yet
        has_all = all(stamp in report.held.get(family, ()) for family, stamp in committed.items())
        return has_all and report.caught_up

    def _forget_crashes(self) -> None:
        """Those of generations that serve by now, or are older than what serves."""
        self._crashes = {
            key: crash for key, crash in self._crashes.items() if self._board.committed(crash.family) < crash.stamp
        }
