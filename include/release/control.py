"""What people said during a rollout, folded into what holds now: paused or not, and which stages they waved on. Pure.

What was said is a numbered sequence in the ledger, in which the beginning of every stage takes a number too. Whoever
adds a number that somebody else took first reads again, so that a pause and the beginning of a stage are never both
believed to have come first. The last word holds: a pause takes back that stages were waved on, and waving on ends a
pause.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum

from pydantic import BaseModel, ConfigDict

#: What begins when the last stage was passed; stages have names of small letters.
PROMOTION = "PROMOTION"


class Said(str, Enum):
    """Kinds of words."""

    PAUSED = "paused"
    RESUMED = "resumed"
    WAVED_ON = "waved_on"
    BEGUN = "stage_begun"


class Word(BaseModel):
    """Who said something, when and why."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    actor: str
    reason: str
    at: datetime


@dataclass(frozen=True)
class Line:
    """One entry of the sequence; `stages` are those begun or waved on."""

    said: Said
    word: Word
    stages: tuple[str, ...] = ()


@dataclass(frozen=True)
class Control:
    """What holds after `number` entries.

    Attributes:
        waved: Stage -> who waved it on.
        begun: Stages whose traffic may move; a pause that comes later holds them, not the stage before.
    """

    number: int = 0
    paused: Word | None = None
    waved: Mapping[str, Word] = field(default_factory=dict)
    begun: frozenset[str] = frozenset()
    pauses: tuple[tuple[datetime, datetime | None], ...] = ()

    def paused_seconds(self, since: datetime, until: datetime) -> float:
        """Seconds between `since` and `until` in which the rollout was paused."""
        spans = ((max(start, since), min(end or until, until)) for start, end in self.pauses)
        return sum(max(0.0, (end - start).total_seconds()) for start, end in spans)


def fold(lines: Iterable[Line]) -> Control:
    """What holds after all of them, in their order."""
    control = Control()
    for line in lines:
        control = _after(control, line)
    return control


def _after(control: Control, line: Line) -> Control:
    number, at = control.number + 1, line.word.at
    if line.said is Said.BEGUN:
        return Control(number, control.paused, control.waved, control.begun | set(line.stages), control.pauses)
    if line.said is Said.PAUSED:
        pauses = control.pauses if control.paused else (*control.pauses, (at, None))
        return Control(number, control.paused or line.word, {}, control.begun, pauses)
    pauses = tuple((start, end or max(start, at)) for start, end in control.pauses)
    waved = dict.fromkeys(line.stages, line.word) if line.said is Said.WAVED_ON else control.waved
    return Control(number, None, waved, control.begun, pauses)
