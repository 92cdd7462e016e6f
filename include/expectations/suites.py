"""Loads an expectation suite, and says which one it is.

Besides what `include.expectations` asks of a suite's module, it may have `VERSION`, a number for people, and `BINDING`,
the reasons that no waiver lifts because later steps rely on them. A digest of the source goes with the version: it
tells suites apart that nobody gave a new number.
"""

from __future__ import annotations

import hashlib
import importlib
import inspect
import sys
from types import ModuleType

from include.errors import UserError
from include.spec.models import BaseFamilySpec

PACKAGE = "include.expectations"


def load_suite(spec: BaseFamilySpec) -> ModuleType:
    """The module of the family's suite, with a table for every table of the spec. Imports Great Expectations.

    Raises:
        UserError: There is no such suite, or it checks other tables.
    """
    name = f"{PACKAGE}.{spec.data.suite}"
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:
            raise
        raise UserError(
            f"there is no suite {spec.data.suite!r}", where="data.suite", hint="suites lie in include/expectations"
        ) from None
    if set(module.TABLES) != set(spec.data.tables):
        raise UserError(
            f"the suite checks the tables {sorted(module.TABLES)}, the spec names {sorted(spec.data.tables)}",
            where="data.suite",
        )
    return module


def suite_version(suite: ModuleType) -> str:
    """The number that the suite's author gave it; empty where there is none."""
    return str(getattr(suite, "VERSION", ""))


def binding_reasons(suite: ModuleType) -> frozenset[str]:
    """Reasons that no waiver lifts."""
    return frozenset(getattr(suite, "BINDING", ()))


def suite_digest(suite: ModuleType) -> str:
    """sha256 (hex) of the source of the suite and of what it uses from this package."""
    used = {getattr(value, "__module__", "") for value in vars(suite).values()} | {
        value.__name__ for value in vars(suite).values() if inspect.ismodule(value)
    }
    names = sorted({suite.__name__} | {name for name in used if name and name.startswith(f"{PACKAGE}.")})
    digest = hashlib.sha256()
    for name in names:
        digest.update(f"{name}\0{inspect.getsource(sys.modules[name])}\0".encode())
    return digest.hexdigest()
