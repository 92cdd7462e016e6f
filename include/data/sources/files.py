"""Places with files that are read by declaration: a listing, grouped into deliveries by the dates in the names.

All files with the same date in their path are one delivery. A file without a date is a delivery of its own, of the day
that the spec gives, or else of the day of its last change.
"""

from __future__ import annotations

import fnmatch
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Protocol

from include.data.formats import format_of
from include.data.sources.place import Offer, Window
from include.errors import DataError
from include.families.contract import Delivery
from include.spec.sources import SourceSpec
from include.steps.fingerprint import fingerprint
from include.store.scratch import scratch_folder

_DATE = re.compile(r"(?<!\d)(\d{4})(-?)(\d{2})\2(\d{2})(?!\d)")


@dataclass(frozen=True)
class RemoteFile:
    """A file of a listing.

    Attributes:
        name: Path within the source.
        changed_on: Day (UTC) of its last change.
        tag: What the place says of its content; empty for nothing.
    """

    name: str
    changed_on: date
    tag: str = ""


class Listing(Protocol):
    """A transport that can list files and fetch each of them."""

    @property
    def where(self) -> str:
        """The place, for people."""
        ...

    def files(self, window: Window) -> Iterator[RemoteFile]:
        """Every file; those in folders of days after the window may be left out."""
        ...

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        """The file on this machine: where it lies, or a copy under `folder`."""
        ...


class DeclaredFiles:
    """Satisfies `Place` for files whose format and columns are declared."""

    def __init__(self, listing: Listing, spec: SourceSpec) -> None:
        self._listing = listing
        self._spec = spec

    def offers(self, window: Window) -> Iterator[Offer]:
        groups: defaultdict[tuple[date, str], list[RemoteFile]] = defaultdict(list)
        found = False
        for file in self._listing.files(window):
            found = True
            if self._counts(file.name):
                day = date_in(file.name)
                name = day.isoformat() if day else slug(file.name)
                groups[day or self._spec.delivered_on or file.changed_on, name].append(file)
        if not groups:
            state = "holds no file that counts" if found else "is empty"
            hint = "check `files` and `format` in the spec" if found else "check the place"
            raise DataError(f"the source {state}", where=self._listing.where, hint=hint)
        for (day, name), files in sorted(groups.items()):
            files = sorted(files, key=lambda file: file.name)
            yield Offer(name, day, group_tag(files), files)

    @contextmanager
    def fetch(self, offer: Offer) -> Iterator[Delivery]:
        with scratch_folder("source") as folder:
            files = tuple(self._listing.fetch(file, folder) for file in offer.what)
            yield Delivery(offer.name, offer.delivered_on, files)

    def _counts(self, name: str) -> bool:
        parts = name.split("/")
        if any(part.startswith((".", "_")) for part in parts):
            return False
        if self._spec.files:
            return fnmatch.fnmatch(parts[-1], self._spec.files) or fnmatch.fnmatch(name, self._spec.files)
        known = format_of(name)
        return known is not None and self._spec.format in (None, known)


def date_in(name: str) -> date | None:
    """The first date (`2026-10-12`, `20261012`) in a path."""
    for match in _DATE.finditer(name):
        try:
            return date(int(match[1]), int(match[3]), int(match[4]))
        except ValueError:
            continue
    return None


def group_tag(files: Sequence[RemoteFile]) -> str:
    """The tag of several files; empty where one of them has none."""
    if not all(file.tag for file in files):
        return ""
    return fingerprint(files=[(file.name, file.tag) for file in files])


def slug(name: str) -> str:
    """The name of a file without its ending, fit for the name of a delivery."""
    name = name.removesuffix(".gz")
    stem = re.sub(r"[^A-Za-z0-9]+", "-", name.rpartition(".")[0] or name).strip("-")
    return stem[:60].strip("-") or "file"
