"""Files of this machine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from include.data.formats.opening import unreadable
from include.data.sources.files import RemoteFile
from include.data.sources.place import Offer, Window
from include.errors import DataError
from include.families.contract import DataCode, Delivery


class LocalFiles:
    """Satisfies `Listing` for a folder, or for one file. Content is told by reading it: files have no tags."""

    def __init__(self, root: Path) -> None:
        self._root = root

    @property
    def where(self) -> str:
        return str(self._root)

    def files(self, window: Window) -> Iterator[RemoteFile]:
        if not self._root.exists():
            raise DataError(
                "the source does not exist",
                where=self.where,
                hint="put the files there, or name another place (`source`)",
            )
        base = self._root.parent if self._root.is_file() else self._root
        paths = [self._root] if self._root.is_file() else sorted(self._root.rglob("*"))
        for path in paths:
            try:
                if path.is_file():
                    changed = datetime.fromtimestamp(path.stat().st_mtime, UTC).date()
                    yield RemoteFile(path.relative_to(base).as_posix(), changed)
            except OSError as error:
                raise unreadable(path, error) from error

    def fetch(self, file: RemoteFile, folder: Path) -> Path:
        return (self._root.parent if self._root.is_file() else self._root) / file.name


class LocalLayout:
    """Satisfies `Place` for a folder whose layout the family's code knows."""

    def __init__(self, folder: Path, code: DataCode, reader: str) -> None:
        self._folder = folder
        self._code = code
        self._reader = reader

    def offers(self, window: Window) -> Iterator[Offer]:
        found = self._code.deliveries(self._folder, self._reader)
        for delivery in sorted(found, key=lambda delivery: (delivery.delivered_on, delivery.name)):
            yield Offer(delivery.name, delivery.delivered_on, what=delivery)

    @contextmanager
    def fetch(self, offer: Offer) -> Iterator[Delivery]:
        yield offer.what
