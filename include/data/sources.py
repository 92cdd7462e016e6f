"""Sources of data: where deliveries come from, what a delivery's content is, and how much of it waits.

A source is `sample` (the data that ships with the family), a folder (a path or `file://` URL), or
`s3://bucket/prefix`, which is copied to a temporary folder while it is looked at.
"""

from __future__ import annotations

import hashlib
import re
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from include.data.catalogue import Catalogue
from include.errors import DataError, UserError
from include.families.contract import Delivery, load_data_code
from include.settings import PROJECT_ROOT, Settings
from include.spec import family_folder
from include.spec.models import BaseFamilySpec
from include.store.database import open_database
from include.store.objects import open_store

SAMPLE = "sample"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,100}")


@dataclass(frozen=True)
class Source:
    """A source that can be read now.

    Attributes:
        id: Short stable name, fit for an object key; the same place always has the same id.
        folder: Where its files lie.
    """

    id: str
    folder: Path


def source_id(source: str) -> str:
    """The id of a source: `sample`, or the last part of its path with a hash of the whole."""
    if source == SAMPLE:
        return SAMPLE
    place = source.rstrip("/") if urlsplit(source).scheme == "s3" else str(_local(source))
    slug = re.sub(r"[^a-z0-9]+", "-", place.rpartition("/")[2].lower()).strip("-")[:40] or "source"
    return f"{slug}-{hashlib.sha256(place.encode()).hexdigest()[:8]}"


@contextmanager
def open_source(family: str, source: str) -> Iterator[Source]:
    """The source's files as a folder, for as long as the context lasts.

    Raises:
        UserError: The URL's scheme is not known.
        DataError: An S3 source holds nothing.
    """
    if source == SAMPLE:
        yield Source(SAMPLE, family_folder(family) / "sample" / "deliveries")
    elif urlsplit(source).scheme == "s3":
        with tempfile.TemporaryDirectory(prefix="windtunnel-source-") as folder:
            _mirror(source, Path(folder))
            yield Source(source_id(source), Path(folder))
    else:
        yield Source(source_id(source), _local(source))


def list_deliveries(spec: BaseFamilySpec, source: Source) -> list[Delivery]:
    """What the source offers, oldest first.

    Raises:
        DataError: The source is missing, empty, of no known layout, or names a delivery in a way that cannot be stored.
    """
    found = sorted(
        load_data_code(spec.code).deliveries(source.folder, spec.data.reader), key=lambda d: (d.delivered_on, d.name)
    )
    for delivery in found:
        if not _NAME.fullmatch(delivery.name):
            raise DataError(
                f"a delivery cannot be named {delivery.name!r}",
                where=str(source.folder),
                hint="use letters, digits, . _ -",
            )
    return found


def delivery_digest(delivery: Delivery) -> str:
    """sha256 (hex) over the names and bytes of the delivery's files.

    Raises:
        DataError: A file cannot be read.
    """
    digest = hashlib.sha256()
    for path in delivery.files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise DataError(
                f"cannot be read: {error.strerror}", where=str(path), hint="check that the file is there and readable"
            ) from error
        digest.update(f"{path.parent.name}/{path.name}\0{content}\n".encode())
    return digest.hexdigest()


def count_new_rows(
    settings: Settings, spec: BaseFamilySpec, source: str, known_deliveries: Collection[str] | None = None
) -> int:
    """Records that wait at the source in deliveries that were not ingested yet; only those deliveries are read.

    Args:
        known_deliveries: Names of the deliveries that do not count; None takes those of the catalogue.

    Raises:
        DataError: The source cannot be read.
    """
    if known_deliveries is None:
        known_deliveries = Catalogue(open_database(settings.database_url)).names(spec.family, source_id(source))
    family = load_data_code(spec.code)
    with open_source(spec.family, source) as opened:
        fresh = [delivery for delivery in list_deliveries(spec, opened) if delivery.name not in known_deliveries]
        return sum(1 for delivery in fresh for _ in family.records(delivery, spec.data.max_row_bytes))


def _local(source: str) -> Path:
    parts = urlsplit(source)
    if parts.scheme == "file":
        return Path(unquote(parts.path)).resolve()
    if "://" in source:
        raise UserError(
            f"unknown kind of source {source!r}",
            where="data.source",
            hint="use a folder, file:///folder or s3://bucket/prefix",
        )
    return (PROJECT_ROOT / Path(source).expanduser()).resolve()


def _mirror(url: str, folder: Path) -> None:
    store = open_store(url.rstrip("/"))
    keys = [key for key in store.keys("") if not key.endswith("/")]
    if not keys:
        raise DataError("the source is empty", where=url, hint="check bucket and prefix")
    for key in keys:
        store.download(key, folder / key)
