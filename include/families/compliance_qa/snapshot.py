"""The day of a public data set that is one delivery as a whole: nothing in its files says when they were made."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from pathlib import Path

_COMMIT_DATE = re.compile(r"^commit:.*?(\d{4}-\d{2}-\d{2})\s*$", re.MULTILINE)


def snapshot_day(folder: Path, files: Iterable[Path]) -> date:
    """The date of the commit that the file `SOURCE` in the folder names, or else that of the newest file (UTC)."""
    note = folder / "SOURCE"
    if note.is_file() and (match := _COMMIT_DATE.search(note.read_text(encoding="utf-8", errors="replace"))):
        return date.fromisoformat(match[1])
    return datetime.fromtimestamp(max(path.stat().st_mtime for path in files), UTC).date()
