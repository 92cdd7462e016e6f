"""Values inside a stored record, named by paths as people write them. Pure."""

from __future__ import annotations

from typing import Any

from include.errors import UserError, clip

_SHOWN = 12


def change_at(record: dict[str, Any], path: str, value: Any) -> dict[str, list[Any]]:
    """Sets what `path` names; returns full path -> [value before, value after].

    A part of a path is a key, an index, or the `name` of an element of a list. A path of one part that is no key at the
    top means that key wherever it has a value below: not where it is null, nor, for a margin, in a gate that compares
    with a number.

    Raises:
        UserError: There is nothing of this name; a misspelt key would otherwise be ignored, or refused later.
    """
    places = [_walk(record, path)] if "." in path or path in record else _everywhere(record, path)
    changed: dict[str, list[Any]] = {}
    for full in places:
        holder: Any = record
        for part in full[:-1]:
            holder = holder[part]
        changed[".".join(map(str, full))] = [holder[full[-1]], value]
        holder[full[-1]] = value
    return changed


def _walk(record: Any, path: str) -> list[Any]:
    at, found = record, list[Any]()
    for part in path.split("."):
        key = _key(at, part)
        if key is None:
            raise UserError(
                f"the decision's input has no {clip(path, 100)!r}", where=".".join(map(str, found)), hint=_known(at)
            )
        found.append(key)
        at = at[key]
    return found


def _key(at: Any, part: str) -> Any:
    """The key or index of `part` in `at`; None where there is none."""
    if isinstance(at, dict):
        return part if part in at else None
    if not isinstance(at, list):
        return None
    if part.isdecimal() and len(part) < 9:
        return int(part) if int(part) < len(at) else None
    named = [index for index, item in enumerate(at) if isinstance(item, dict) and item.get("name") == part]
    return named[0] if len(named) == 1 else None


def _everywhere(record: Any, key: str) -> list[list[Any]]:
    found: list[list[Any]] = []

    def look(at: Any, path: list[Any]) -> None:
        if isinstance(at, dict):
            if at.get(key) is not None and not isinstance(at[key], (dict, list)) and not _idle_margin(at, key):
                found.append([*path, key])
            for name, inner in at.items():
                look(inner, [*path, name])
        elif isinstance(at, list):
            for index, inner in enumerate(at):
                look(inner, [*path, index])

    look(record, [])
    if not found:
        raise UserError(f"the decision's input has no {clip(key, 100)!r}", hint=_known(record))
    return found


def _idle_margin(at: dict[str, Any], key: str) -> bool:
    return key == "margin" and "threshold" in at and at["threshold"] is not None


def _known(at: Any) -> str:
    if isinstance(at, dict):
        names = [str(name) for name in at]
    elif isinstance(at, list):
        names = [
            str(item.get("name", index)) if isinstance(item, dict) else str(index) for index, item in enumerate(at)
        ]
    else:
        return "here is a plain value"
    more = ", ..." if len(names) > _SHOWN else ""
    return f"here: {', '.join(names[:_SHOWN])}{more}" if names else "there is nothing here"
