"""The port to where sources lie."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Protocol

from include.families.contract import Delivery


@dataclass(frozen=True)
class Window:
    """What a run wants to know of a source.

    Attributes:
        since: First day of the run's interval; None is open.
        until: Day after its last; None is open.
        today: Day of the run; nothing of later days is due yet.
        watermark: Newest day of which a delivery was ingested; None before the first.
        tags: Delivery -> tags with which a content of it was seen -> digest of that content.
    """

    since: date | None
    until: date | None
    today: date
    watermark: date | None = None
    tags: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def is_after(self, day: date) -> bool:
        """Whether `day` lies after the interval."""
        return self.until is not None and day >= self.until


@dataclass(frozen=True)
class Offer:
    """A delivery that a source has, before it is read.

    Attributes:
        name: Stable name at the source.
        tag: What the place says of its content, such as ETags: equal tags, equal content. Empty where only reading
            tells.
        what: The place's own note.
    """

    name: str
    delivered_on: date
    tag: str = ""
    what: Any = None


class Place(Protocol):
    """Where a source's deliveries lie.

    All methods raise `DataError` for what cannot be used as it is, `SourceError` where the place cannot be reached
    (trying again may help), and `UserError` for wrong credentials; none of them shows a secret.
    """

    def offers(self, window: Window) -> Iterator[Offer]:
        """What there is, as far as `window` needs it; oldest first. An offer is valid until the next one is asked for
        or, where the place is a listing, as long as the place is open."""
        ...

    def fetch(self, offer: Offer) -> AbstractContextManager[Delivery]:
        """The offer's files on this machine, for as long as the context lasts."""
        ...
