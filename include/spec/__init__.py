"""Family specs: one declarative file per family, parsed into frozen typed objects."""

from include.spec.load import SpecError, family_folder, family_names, load_families, load_family, profile_names
from include.spec.models import FamilySpec
from include.spec.resolve import RunParams, parse_params, resolve_spec

__all__ = [
    "FamilySpec",
    "RunParams",
    "SpecError",
    "family_folder",
    "family_names",
    "load_families",
    "load_family",
    "parse_params",
    "profile_names",
    "resolve_spec",
]
