"""Family specs: one declarative file per family, parsed into frozen typed objects."""

from include.spec.load import (
    SpecError,
    all_family_names,
    family_folder,
    family_names,
    load_any_family,
    load_data_families,
    load_families,
    load_family,
    load_pair_families,
    profile_names,
)
from include.spec.models import AnyFamilySpec, BaseFamilySpec, DataFamilySpec, FamilySpec
from include.spec.resolve import RunParams, parse_params, resolve_any_spec, resolve_spec

__all__ = [
    "AnyFamilySpec",
    "BaseFamilySpec",
    "DataFamilySpec",
    "FamilySpec",
    "RunParams",
    "SpecError",
    "all_family_names",
    "family_folder",
    "family_names",
    "load_any_family",
    "load_data_families",
    "load_families",
    "load_family",
    "load_pair_families",
    "parse_params",
    "profile_names",
    "resolve_any_spec",
    "resolve_spec",
]
