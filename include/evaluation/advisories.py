"""Known vulnerabilities of the pinned dependencies: constraints held against OSV records (https://ossf.github.io/osv-schema).

An audit is kept in the object store under the digest of the constraints that it is about, so that an evaluation that
runs in a pod without a network can say when these very pins were audited, and against what. Without one the answer is
"not audited", which is neither good nor bad.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from include.errors import DataError, UserError, clip
from include.settings import PROJECT_ROOT
from include.store.objects import ObjectStore

METRIC = "vulnerabilities"
CONSTRAINTS = PROJECT_ROOT / "constraints.txt"
MAX_RECORD, MAX_RECORDS = 4 << 20, 500_000
_PIN = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?==([^\s;#]+)")
_ECOSYSTEM = "PyPI"
_EVENTS = frozenset({"introduced", "fixed", "last_affected"})


def read_pins(path: Path) -> dict[str, str]:
    """Package -> version of a constraints file.

    Raises:
        UserError: It cannot be read.
        DataError: A line pins nothing: what is not pinned cannot be audited.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"the constraints cannot be read: {type(error).__name__}", where=str(path)) from error
    pins: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        stripped = line.split("#", 1)[0].strip()
        if not stripped or stripped.startswith("-"):
            continue
        found = _PIN.match(stripped)
        if found is None:
            raise DataError(f"{clip(stripped, 80)!r} pins no version", where=f"{path}:{number}", hint="NAME==VERSION")
        pins[_name(found[1])] = found[2]
    return pins


def find_vulnerable(pins: Mapping[str, str], advisories: Path) -> list[dict[str, Any]]:
    """The pins that an advisory names: {`package`, `version`, `id`, `summary`, `fixed`}, ordered.

    Args:
        advisories: OSV records: a .json file (one or a list), .jsonl, a folder of such, or a .zip as OSV publishes one
            per ecosystem.

    Raises:
        DataError: A record is not OSV's.
        UserError: There is no such file, or it holds no record for Python.
    """
    by_id: dict[tuple[str, str], dict[str, Any]] = {}
    count = 0
    for place, record in _records(advisories):
        for package, affected in _affected(record, place):
            count += 1
            version = pins.get(package)
            if version is not None and not record.get("withdrawn") and _hits(version, affected, place):
                by_id[package, str(record["id"])] = {
                    "package": package,
                    "version": version,
                    "id": clip(record["id"], 64),
                    "summary": clip(record.get("summary") or record.get("details") or "", 200),
                    "fixed": _fixed(affected),
                }
    if not count:
        raise UserError(
            f"there is no advisory for {_ECOSYSTEM}", where=str(advisories), hint="give OSV records of that ecosystem"
        )
    return [by_id[key] for key in sorted(by_id)]


def read_pip_audit(text: str) -> list[dict[str, Any]]:
    """The vulnerable pins in pip-audit's JSON, as `find_vulnerable` gives them. Raises `DataError`."""
    try:
        return [
            {
                "package": _name(found["name"]),
                "version": str(found["version"]),
                "id": clip(each["id"], 64),
                "summary": clip(each.get("description") or "", 200),
                "fixed": [str(version) for version in each.get("fix_versions") or ()],
            }
            for found in json.loads(text)["dependencies"]
            for each in found.get("vulns") or ()
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"pip-audit's answer is not understood: {clip(error, 100)}", where="pip-audit") from error


def keep_audit(
    store: ObjectStore, constraints: Path, source: str, vulnerable: list[dict[str, Any]], at: datetime
) -> dict[str, Any]:
    """Stores what an audit of these constraints found; returns the record."""
    digest = hashlib.sha256(constraints.read_bytes()).hexdigest()
    record = {"constraints": digest, "source": source, "at": at.isoformat(), "vulnerable": vulnerable}
    store.put(_key(digest), json.dumps(record, indent=1).encode())
    return record


def last_audit(store: ObjectStore, constraints: Path = CONSTRAINTS) -> dict[str, Any]:
    """`{"status": "audited", "source", "at", "vulnerable"}`, or `{"status": "not audited", "why"}`."""
    if not constraints.is_file():
        return {"status": "not audited", "why": "there are no constraints where the evaluation runs"}
    key = _key(hashlib.sha256(constraints.read_bytes()).hexdigest())
    if not store.exists(key):
        return {"status": "not audited", "why": "nobody has run `windtunnel audit` on these constraints"}
    try:
        record = json.loads(store.get(key))
        return {"status": "audited", **{name: record[name] for name in ("source", "at", "vulnerable")}}
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("the record of the audit is broken", where=key, hint="run `windtunnel audit` again") from error


def _key(digest: str) -> str:
    return f"audits/{digest}.json"


def _name(text: str) -> str:
    return re.sub(r"[-_.]+", "-", text).lower()


def _records(path: Path) -> Iterator[tuple[str, Any]]:
    if path.is_dir():
        for inner in sorted(path.rglob("*.json*")):
            yield from _records(inner)
        return
    try:
        if path.suffix == ".zip":
            yield from _zipped(path)
            return
        size = path.stat().st_size
        if size > MAX_RECORD * 64:
            raise DataError(f"the file has {size} bytes", where=str(path), hint="give OSV's .zip or a folder instead")
        text = path.read_bytes()
    except (OSError, zipfile.BadZipFile) as error:
        raise UserError(f"the advisories cannot be read: {clip(error, 200)}", where=str(path)) from error
    if path.suffix == ".jsonl":
        for number, line in enumerate(text.splitlines(), start=1):
            if line.strip():
                yield f"{path}:{number}", _json(line, f"{path}:{number}")
        return
    found = _json(text, str(path))
    yield from ((str(path), record) for record in (found if isinstance(found, list) else [found]))


def _zipped(path: Path) -> Iterator[tuple[str, Any]]:
    with zipfile.ZipFile(path) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".json")]
        if len(members) > MAX_RECORDS:
            raise DataError(f"the archive holds {len(members)} records", where=str(path))
        for member in members:
            place = f"{path}!{clip(member.filename, 100)}"
            if member.file_size > MAX_RECORD:
                raise DataError(f"a record of {member.file_size} bytes", where=place)
            yield place, _json(archive.read(member), place)


def _json(text: bytes, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON: {clip(error, 120)}", where=place) from None


def _affected(record: Any, place: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    if not isinstance(record, dict) or not isinstance(record.get("id"), str):
        raise DataError("no OSV record: it has no `id`", where=place)
    listed = record.get("affected") or []
    if not isinstance(listed, list) or not all(isinstance(affected, dict) for affected in listed):
        raise DataError("no OSV record: `affected` is no list of objects", where=place)
    for affected in listed:
        package = affected.get("package")
        if isinstance(package, dict) and package.get("ecosystem") == _ECOSYSTEM:
            yield _name(str(package.get("name"))), affected


def _hits(version: str, affected: Mapping[str, Any], place: str) -> bool:
    """Whether the version is affected, by the evaluation algorithm of the OSV schema."""
    from packaging.version import InvalidVersion, Version

    def applies(event: str, limit: str) -> bool:
        if limit == "0":
            return True
        return at > Version(limit) if event == "last_affected" else at >= Version(limit)

    try:
        if version in (affected.get("versions") or ()):
            return True
        at = Version(version)
        for events in _ranges(affected):
            in_order = sorted(events, key=lambda pair: Version(pair[1]))
            reached = [event for event, limit in in_order if applies(event, limit)]
            if reached and reached[-1] == "introduced":
                return True
    except InvalidVersion as error:
        raise DataError(f"no version: {clip(error, 100)}", where=place) from None
    except (AttributeError, KeyError, TypeError) as error:
        raise DataError(f"no OSV record: {clip(error, 100)}", where=place) from None
    return False


def _ranges(affected: Mapping[str, Any]) -> Iterator[list[tuple[str, str]]]:
    """The events ("introduced", "fixed", "last_affected") of every range of versions, with their versions."""
    for span in affected.get("ranges") or ():
        if span.get("type") == "ECOSYSTEM":  # commits say nothing about a release
            events = [(name, str(version)) for event in span["events"] for name, version in event.items()]
            yield [event for event in events if event[0] in _EVENTS]


def _fixed(affected: Mapping[str, Any]) -> list[str]:
    return sorted({version for events in _ranges(affected) for event, version in events if event == "fixed"})
