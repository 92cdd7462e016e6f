"""Which sources a run looks at, and whose deliveries belong together in one dataset version."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import unquote, urlsplit

from include.errors import UserError
from include.settings import PROJECT_ROOT
from include.spec.models import BaseFamilySpec
from include.spec.sources import SAMPLE, LateRule, SourceKind, SourceSpec, kind_of, require_no_secret

T = TypeVar("T")

DECLARED = "declared"
MAX_NAME = 100
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class SourceRef:
    """A source of a family.

    Attributes:
        id: Its name in the spec; for another place that a run names, an id made of that place.
        declared: Whether the spec names it.
        alone: Whether no other source of the family's can use the same names for deliveries.
    """

    id: str
    family: str
    spec: SourceSpec
    declared: bool
    alone: bool = False

    def delivery_name(self, name: str) -> str:
        """The name of a delivery within the family: two declared sources may use the same names.

        Raises:
            ValueError: It is no name for an object key.
        """
        full = name if self.alone else f"{self.id}.{name}"
        if not _NAME.fullmatch(name) or len(full) > MAX_NAME:
            raise ValueError(full)
        return full

    def own_names(self, tags: Mapping[str, T]) -> dict[str, T]:
        """`tags` by the names at the source."""
        return {name if self.alone else name.removeprefix(f"{self.id}."): value for name, value in tags.items()}


@dataclass(frozen=True)
class Selection:
    """What a run works on.

    Attributes:
        origin: `declared`, or the id of the place that is used instead of the declared sources. Versions of one origin
            continue each other.
        sources: All sources whose deliveries the version holds, in the order of the spec.
        looked_at: Those that the run reads; of the others it takes what was ingested before.
    """

    origin: str
    sources: tuple[SourceRef, ...]
    looked_at: tuple[SourceRef, ...]


def select_sources(spec: BaseFamilySpec, source: str | None) -> Selection:
    """The sources for the run parameter `source`: None, a declared name, or another place.

    Another place is read as the first declared source is, and as all others are that the spec finds at its place.

    Raises:
        UserError: There is no such kind of place, or the URL holds a secret.
    """
    declared = tuple(SourceRef(name, spec.family, entry, True) for name, entry in spec.data.sources.items())
    if not source:
        return Selection(DECLARED, declared, declared)
    named = tuple(ref for ref in declared if ref.id == source)
    if named:
        return Selection(DECLARED, declared, named)
    origin = source_id(source)
    alike = [ref for ref in declared if ref.spec.url == declared[0].spec.url]
    alone = len(alike) == 1
    others = tuple(
        SourceRef(origin if alone else f"{origin}.{ref.id}", spec.family, _at(ref.spec, source), False, alone)
        for ref in alike
    )
    return Selection(origin, others, others)


def source_id(place: str) -> str:
    """The id of a place: the last part of its path with a hash of the whole. The same place always has the same id.

    Raises:
        UserError: There is no such kind of place, or the URL holds a secret.
    """
    if place == SAMPLE:
        return SAMPLE
    whole = str(local_path(place)) if _kind(place) is SourceKind.FOLDER else place.rstrip("/")
    slug = re.sub(r"[^a-z0-9]+", "-", whole.rpartition("/")[2].lower()).strip("-")[:40] or "source"
    return f"{slug}-{hashlib.sha256(whole.encode()).hexdigest()[:8]}"


def local_path(url: str) -> Path:
    """The path of a folder or file; a relative one starts at the project."""
    parts = urlsplit(url)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).resolve()
    return (PROJECT_ROOT / Path(url).expanduser()).resolve()


def _kind(place: str) -> SourceKind:
    try:
        require_no_secret(place)
        return kind_of(place)
    except ValueError as error:
        raise UserError(
            f"the source {error}" if "unknown" not in str(error) else str(error),
            where="source",
            hint="use a declared source, a folder, file:///folder, s3://bucket/prefix or https://...",
        ) from None


def _at(like: SourceSpec, place: str) -> SourceSpec:
    """`like` at another place, with the credentials of the environment."""
    kind = _kind(place)
    if kind is SourceKind.SQL or (kind is SourceKind.HTTP and like.table is None):
        hint = "declare it in the spec: it needs a table, and a database a query"
        raise UserError(f"a run cannot read {kind.value} in place of the declared sources", where="source", hint=hint)
    changes = {"url": place, "connection": None, "sql": None, "domain": None, "late": LateRule.ACCEPT}
    return like.model_copy(update=changes)
