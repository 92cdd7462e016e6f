"""Personal data in what ships: the texts of a package, the model card, the known cases.

Found places are told by file, row and kind, never by the text itself: the report ships too.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from include.errors import DataError
from include.spec.probing import PersonalDataSpec

METRIC = "personal_data"
_SHOWN = 50
_SHORTEST = 6  # no kind is shorter: words of a vocabulary are not looked at
_MOST_TEXT = 1_000_000
_DIGEST = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")  # looks like many a number, and is none


def cannot_look() -> str:
    """Why personal data cannot be looked for here; empty where it can."""
    if importlib.util.find_spec("presidio_analyzer") is None:
        return "the extra `pii` is not installed where the evaluation runs"
    return ""


def find_personal_data(spec: PersonalDataSpec, texts: Iterable[tuple[str, str]]) -> dict[str, Any]:
    """Looks through (place, text) pairs; equal texts once.

    Returns:
        `looked` (texts), `count` (places), `found`: the first of them as {`place`, `kind`}.

    Raises:
        UserError: The spaCy pipeline that the spec names is not installed.
    """
    from include.data.pii.finder import DEFAULT, Kind, PersonalDataFinder
    from include.data.pii.sieve import could_hold

    kinds = [Kind(kind) for kind in spec.kinds] or DEFAULT
    finder: PersonalDataFinder | None = None
    allowed = [re.compile(pattern) for pattern in spec.allow]
    seen: set[str] = set()
    found: list[dict[str, str]] = []
    for place, text in texts:
        if len(text) < _SHORTEST or text in seen or _DIGEST.fullmatch(text):
            continue
        seen.add(text)
        if not could_hold(text, kinds):
            continue
        finder = finder or PersonalDataFinder(kinds, spec.names)  # not made for nothing: it imports for seconds
        for span in finder.find(text[:_MOST_TEXT]):
            said = text[span.start : span.end]
            if not any(pattern.fullmatch(said) for pattern in allowed):
                found.append({"place": place, "kind": span.kind.value})
    return {"looked": len(seen), "count": len(found), "found": found[:_SHOWN]}


def package_texts(folder: Path) -> Iterator[tuple[str, str]]:
    """The texts of a package's files, with their places.

    Raises:
        DataError: A file cannot be read.
    """
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        try:
            if path.suffix == ".parquet":
                yield from _parquet(path, name)
            elif path.suffix == ".json":
                yield from strings_of(json.loads(path.read_text(encoding="utf-8")), name)
            elif path.suffix == ".txt":
                yield from lines_of(path.read_text(encoding="utf-8"), name)
        except (OSError, ValueError, RecursionError) as error:
            raise DataError(f"{name} cannot be read: {type(error).__name__}", where=str(folder)) from error


def lines_of(text: str, name: str) -> Iterator[tuple[str, str]]:
    """The lines of a text, with their places."""
    for number, line in enumerate(text.splitlines(), start=1):
        yield f"{name}:{number}", line


def _parquet(path: Path, name: str) -> Iterator[tuple[str, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    columns = [field.name for field in file.schema_arrow if pa.types.is_string(field.type)]
    row = 0
    for batch in file.iter_batches(columns=columns):
        for values in batch.to_pylist():
            row += 1
            yield from ((f"{name}, row {row}, {column}", text) for column, text in values.items() if text)


def strings_of(value: Any, name: str) -> Iterator[tuple[str, str]]:
    """All strings of a JSON value, keys included, without recursion: a file decides how deep it is."""
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            yield name, item
        elif isinstance(item, dict):
            waiting.extend(item)
            waiting.extend(item.values())
        elif isinstance(item, list):
            waiting.extend(item)
