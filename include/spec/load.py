"""Reads `family.yaml` files: YAML -> profile applied -> `FamilySpec`, with errors that point at a line.

A spec file holds the spec's keys and, under `profiles`, partial specs by name. A profile is merged over the file key by
key (lists and scalars are replaced whole). `default` always exists.

A file without any of the keys of a model (`sweep`, `release`, ...) describes a family that is only data yet.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError
from yaml.constructor import SafeConstructor

from include.errors import UserError
from include.spec.models import MODEL_KEYS, AnyFamilySpec, DataFamilySpec, FamilySpec
from include.spec.optimizing import KINDS
from include.spec.pairs import QaSpec
from include.spec.prepare import TRANSFORMS
from include.spec.probing import CHANGES

FAMILIES = Path(__file__).resolve().parent.parent / "families"
DEFAULT_PROFILE = "default"
#: libyaml's where it is there: every process that reads a DAG file reads all specs.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_Path = tuple[str | int, ...]
_Model = TypeVar("_Model", bound=BaseModel)
_UNION_TAGS = frozenset({"float", "int", "choice"}) | TRANSFORMS | KINDS | CHANGES


class SpecError(UserError):
    """A family spec cannot be used. `fields["problems"]` lists every problem with `line`, `field` and `message`."""


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong in a spec file, with the place to mend it."""

    file: Path
    line: int
    field: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.field or '(file)'}: {self.message}"


def all_family_names(root: Path = FAMILIES) -> list[str]:
    """Names of all families under `root`, sorted: the folders that hold a `family.yaml`."""
    return sorted(path.parent.name for path in root.glob("*/family.yaml"))


def family_names(root: Path = FAMILIES) -> list[str]:
    """Names of the families with a model, sorted. A file that cannot be read counts as one, so that it is noticed."""
    return [name for name in all_family_names(root) if _has_model(root / name / "family.yaml")]


def family_folder(name: str, root: Path = FAMILIES) -> Path:
    """The folder of family `name`.

    Raises:
        SpecError: There is no such family.
    """
    folder = root / name
    if not (folder / "family.yaml").is_file():
        raise SpecError(
            f"there is no family {name!r}",
            where=str(root),
            hint=f"known families: {', '.join(all_family_names(root)) or '(none)'}",
        )
    return folder


def load_family(name: str, profile: str = DEFAULT_PROFILE, root: Path = FAMILIES) -> FamilySpec:
    """The spec of family `name`, which has a model, with `profile` applied.

    Raises:
        SpecError: The file cannot be read, is not YAML, names no such profile, or does not describe a family with a
            model.
    """
    spec = load_any_family(name, profile, root)
    if not isinstance(spec, FamilySpec):
        raise SpecError(
            f"the family {name!r} is only data: it has no model to train or to release",
            where=str(root / name / "family.yaml"),
            hint=f"its data goes through `data__{name}`; a model needs {', '.join(sorted(MODEL_KEYS))}",
        )
    return spec


def load_any_family(name: str, profile: str = DEFAULT_PROFILE, root: Path = FAMILIES) -> AnyFamilySpec:
    """The spec of family `name`, with a model or without. Raises as `load_family` does."""
    return parse_spec(family_folder(name, root) / "family.yaml", profile)


def load_families(profile: str = DEFAULT_PROFILE, root: Path = FAMILIES) -> Iterator[FamilySpec]:
    """The families with a model, in the order of their names. A family without `profile` is loaded with `default`."""
    for spec in _load_all(profile, root):
        if isinstance(spec, FamilySpec):
            yield spec


def load_data_families(profile: str = DEFAULT_PROFILE, root: Path = FAMILIES) -> Iterator[DataFamilySpec]:
    """The families that are only data, in the order of their names; see `load_families`."""
    for spec in _load_all(profile, root):
        if isinstance(spec, DataFamilySpec):
            yield spec


def load_pair_families(profile: str = DEFAULT_PROFILE, root: Path = FAMILIES) -> Iterator[tuple[AnyFamilySpec, QaSpec]]:
    """The families whose question and answer pairs are validated, with how; see `load_families`."""
    for spec in _load_all(profile, root):
        if spec.data.qa is not None:
            yield spec, spec.data.qa


def _load_all(profile: str, root: Path) -> Iterator[AnyFamilySpec]:
    for name in all_family_names(root):
        known = profile_names(root / name / "family.yaml")
        yield load_any_family(name, profile if profile in known else DEFAULT_PROFILE, root)


def profile_names(path: Path) -> list[str]:
    """Profiles that the spec file offers, `default` first."""
    values, _ = _read(path)
    profiles = values.get("profiles") or {} if isinstance(values, dict) else {}
    return [DEFAULT_PROFILE, *sorted(key for key in profiles if key != DEFAULT_PROFILE)]


def parse_spec(path: Path, profile: str = DEFAULT_PROFILE) -> AnyFamilySpec:
    """Parses one spec file, of a family with a model or without; see `load_family`."""
    values, lines = _read(path)
    if not isinstance(values, dict):
        raise _error(path, [Problem(path, 1, "", "the file must hold a mapping of keys to values")])
    profiles = values.pop("profiles", None) or {}
    if not isinstance(profiles, dict):
        raise _error(path, [Problem(path, lines.get(("profiles",), 1), "profiles", "must map names to partial specs")])
    if profile != DEFAULT_PROFILE and profile not in profiles:
        known = ", ".join([DEFAULT_PROFILE, *map(str, profiles)])
        problem = Problem(path, lines.get(("profiles",), 1), "profiles", f"no profile {profile!r}; known: {known}")
        raise _error(path, [problem])
    override = profiles.get(profile) or {}
    if not isinstance(override, dict):
        field = f"profiles.{profile}"
        raise _error(path, [Problem(path, lines.get(("profiles", profile), 1), field, "must be a mapping")])
    merged = _merge(values, override, (), ("profiles", profile), lines)
    kind: type[AnyFamilySpec] = DataFamilySpec if MODEL_KEYS.isdisjoint(values) else FamilySpec
    try:
        spec: AnyFamilySpec = kind.model_validate(merged)
    except ValidationError as error:
        raise _error(path, list(_problems(path, error, lines, ()))) from None
    if spec.family != path.parent.name:
        line = lines.get(("family",), 1)
        message = f"is {spec.family!r}, but the folder is {path.parent.name!r}: they must be the same"
        raise _error(path, [Problem(path, line, "family", message)])
    return _check_model_parts(path, spec, lines) if isinstance(spec, FamilySpec) else _check_code(path, spec, lines)


def parse_file(path: Path, kind: type[_Model]) -> _Model:
    """A YAML file that is no family's, such as one of the site's.

    Raises:
        SpecError: It cannot be read, or does not describe a `kind`.
    """
    values, lines = _read(path)
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        raise _error(path, list(_problems(path, error, lines, ())), "mend the lines above") from None


def _has_model(path: Path) -> bool:
    try:
        values, _ = _read(path)
    except SpecError:
        return True
    return not isinstance(values, dict) or not MODEL_KEYS.isdisjoint(values)


def _check_code(path: Path, spec: DataFamilySpec, lines: dict[_Path, int]) -> DataFamilySpec:
    """Checks that the module of `code` is there; it is not imported, because it may be heavy."""
    module = spec.code.split(":")[0]
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    if found is None:
        raise _error(path, [Problem(path, lines.get(("code",), 1), "code", f"there is no module {module}")])
    return spec


def _check_model_parts(path: Path, spec: FamilySpec, lines: dict[_Path, int]) -> FamilySpec:
    """Checks `model`, `hyperparameters` and the search space against the family's `config` module."""
    module_name = f"{spec.code.split(':')[0].rpartition('.')[0]}.config"
    try:
        config = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not module_name.startswith(error.name):
            raise
        line = lines.get(("code",), 1)
        raise _error(path, [Problem(path, line, "code", f"there is no module {module_name}")]) from None
    problems: list[Problem] = []
    parts: dict[str, Any] = {}
    checks: list[tuple[str, type[BaseModel]]] = [
        ("model", config.ModelConfig),
        ("hyperparameters", config.Hyperparameters),
    ]
    for field, model in checks:
        try:
            parts[field] = model.model_validate(getattr(spec, field)).model_dump(mode="json")
        except ValidationError as error:
            problems.extend(_problems(path, error, lines, (field,)))
    for name in spec.sweep.space:
        if name not in config.Hyperparameters.model_fields:
            known = ", ".join(sorted(config.Hyperparameters.model_fields))
            line = _line(lines, ("sweep", "space", name))
            problems.append(Problem(path, line, f"sweep.space.{name}", f"is no hyperparameter; known: {known}"))
    if problems:
        raise _error(path, problems)
    return spec.model_copy(update=parts)


def _read(path: Path) -> tuple[Any, dict[_Path, int]]:
    """The file's values, and the line of every path in them."""
    try:
        values, lines = _parsed(path.read_text(encoding="utf-8"))
        return _copy(values), dict(lines)
    except OSError as error:
        raise SpecError(f"cannot read the spec: {error.strerror}", where=str(path), hint="check the path") from error
    except UnicodeDecodeError as error:
        raise SpecError(
            f"the spec is not UTF-8 (byte {error.start})", where=str(path), hint="save the file as UTF-8"
        ) from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else 1
        problem = getattr(error, "problem", None) or "cannot be parsed"
        raise _error(path, [Problem(path, line, "", f"not valid YAML: {problem}")]) from error


def _copy(value: Any) -> Any:
    """As `copy.deepcopy`, without its bookkeeping: what YAML gives has no other containers."""
    if isinstance(value, dict):
        return {key: _copy(inner) for key, inner in value.items()}
    return [_copy(inner) for inner in value] if isinstance(value, list) else value


@lru_cache(maxsize=32)
def _parsed(text: str) -> tuple[Any, dict[_Path, int]]:
    """Kept by content: one DAG file asks for its families several times."""
    try:
        node = yaml.compose(text, Loader=_LOADER)
    except yaml.YAMLError:
        node = yaml.compose(text, Loader=yaml.SafeLoader)  # fails as well, and says better what is wrong and where
    return _plain(node, SafeConstructor())


def _plain(node: yaml.Node | None, scalars: SafeConstructor, at: _Path = ()) -> tuple[Any, dict[_Path, int]]:
    """The value of a YAML node, and the line (from 1) of every path in it."""
    if node is None:
        return None, {(): 1}
    lines: dict[_Path, int] = {at: node.start_mark.line + 1}
    if isinstance(node, yaml.MappingNode):
        mapping: dict[Any, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value
            if key in mapping:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key!r} is given twice", key_node.start_mark
                )
            value, inner = _plain(value_node, scalars, (*at, key))
            mapping[key] = value
            lines |= inner
            lines[(*at, key)] = key_node.start_mark.line + 1
        return mapping, lines
    if isinstance(node, yaml.SequenceNode):
        items: list[Any] = []
        for index, item_node in enumerate(node.value):
            value, inner = _plain(item_node, scalars, (*at, index))
            items.append(value)
            lines |= inner
        return items, lines
    return scalars.construct_object(node, deep=True), lines


def _merge(base: Any, over: Any, at: _Path, over_at: _Path, lines: dict[_Path, int]) -> Any:
    """`over` merged into `base`; lines of what was taken from `over` are re-pointed to where it stands."""
    if isinstance(base, dict) and isinstance(over, dict):
        merged = dict(base)
        for key, value in over.items():
            merged[key] = _merge(base.get(key), value, (*at, key), (*over_at, key), lines)
        return merged
    for path in [path for path in lines if path[: len(at)] == at]:
        del lines[path]
    for path, line in list(lines.items()):
        if path[: len(over_at)] == over_at:
            lines[(*at, *path[len(over_at) :])] = line
    return over


def _line(lines: dict[_Path, int], path: _Path) -> int:
    """Line of `path`, or of its nearest parent that stands in the file."""
    while path and path not in lines:
        path = path[:-1]
    return lines.get(path, 1)


def _problems(path: Path, error: ValidationError, lines: dict[_Path, int], prefix: _Path) -> Iterator[Problem]:
    for item in error.errors(include_url=False):
        location = _without_union_tags((*prefix, *item["loc"]), lines)
        message = "unknown key" if item["type"] == "extra_forbidden" else item["msg"].removeprefix("Value error, ")
        if item["type"] == "missing":
            message = "required, but not given"
        yield Problem(path, _line(lines, location), ".".join(str(part) for part in location), message)


def _without_union_tags(location: _Path, lines: dict[_Path, int]) -> _Path:
    """pydantic puts the tag of a discriminated union ("float") into the location; the file has no such level."""
    kept: _Path = ()
    for part in location:
        if part not in _UNION_TAGS or (*kept, part) in lines:
            kept = (*kept, part)
    return kept


def _error(
    path: Path, problems: list[Problem], hint: str = "mend the lines above, then run `windtunnel validate`"
) -> SpecError:
    shown = "\n".join(f"  {problem}" for problem in problems[:8])
    more = f"\n  ... and {len(problems) - 8} more" if len(problems) > 8 else ""
    return SpecError(
        f"{len(problems)} problem{'s' if len(problems) != 1 else ''} in the spec\n{shown}{more}",
        where=f"{path}:{problems[0].line}",
        hint=hint,
        problems=[{"line": p.line, "field": p.field, "message": p.message} for p in problems],
    )
