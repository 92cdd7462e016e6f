"""What a demo trains on: each one makes a candidate that the one before did not make."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.errors import UserError
from include.spec import family_folder, load_family, profile_names

#: The sample's deliveries before this day are the first demo's data; later demos take all there are.
FIRST_UNTIL = "2026-11-01"
DEMO_PROFILE = "demo"


@dataclass(frozen=True)
class DemoPlan:
    """A demo's choices.

    Attributes:
        earlier: Demos before this one that came to a verdict.
        seed: Of sweep and training.
        until: Deliveries before this day; None for all.
        source: Folder of deliveries; None for the spec's own.
        rate: Live questions per second during the release.
    """

    family: str
    profile: str
    earlier: int
    seed: int
    until: str | None
    source: str | None
    trials: int | None
    rate: int

    @property
    def conf(self) -> dict[str, Any]:
        """What is filled into the trigger form."""
        values: dict[str, Any] = {
            "profile": self.profile,
            "source": self.source,
            "until": self.until,
            "seed": self.seed,
            "reason": f"demo {self.earlier + 1}",
        }
        return values if self.trials is None else {**values, "trials": self.trials}


def choose_profile(family: str, asked: str | None, source: str | None) -> str:
    """The profile that was asked for; else the one named after the reader that knows the source; else `demo`."""
    if asked or source is None:
        return asked or DEMO_PROFILE
    from include.families.contract import load_code

    names, spec = profile_names(family_folder(family) / "family.yaml"), load_family(family)
    folder = Path(_absolute(source) or source)
    if not folder.is_dir() or all(each.table is not None for each in spec.data.sources.values()):
        return DEMO_PROFILE  # what is declared has no layouts to tell apart
    deliveries = load_code(spec.code).deliveries(folder, "auto")
    reader = deliveries[0].reader if deliveries else ""
    return reader if reader in names else DEMO_PROFILE


def make_plan(
    history: Path,
    family: str,
    *,
    profile: str,
    source: str | None,
    seed: int | None,
    trials: int | None,
    rate: int,
) -> DemoPlan:
    """The next demo's plan.

    Args:
        history: File with a line per demo that came to a verdict.

    Raises:
        UserError: `source` is a path that does not exist.
    """
    earlier = _count(history, family)
    return DemoPlan(
        family=family,
        profile=profile,
        earlier=earlier,
        seed=earlier if seed is None else seed,
        until=FIRST_UNTIL if earlier == 0 and source is None else None,
        source=_absolute(source),
        trials=trials,
        rate=rate,
    )


def remember(history: Path, record: dict[str, Any]) -> None:
    """Adds a demo to the history."""
    with history.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record, default=str) + "\n")


def _count(history: Path, family: str) -> int:
    try:
        lines = history.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return 0
    found = 0
    for line in lines:
        try:
            found += json.loads(line).get("family") == family
        except (json.JSONDecodeError, AttributeError):  # a line that a crash cut off counts for nothing
            continue
    return found


def _absolute(source: str | None) -> str | None:
    """Steps run in another folder than the person who typed a relative path."""
    if source is None or "://" in source:
        return source
    path = Path(source).expanduser().resolve()
    if not path.exists():
        raise UserError(f"there is nothing at {path}", where="--source", hint="give a folder of deliveries")
    return str(path)
