"""Families whose sources are declared: the spec and the code name the same tables and columns."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.data.declared import table_records
from include.errors import DataError, UserError
from include.families.contract import load_data_code
from include.families.declared_data import DeclaredData
from include.settings import PROJECT_ROOT, Settings
from include.spec import all_family_names, load_any_family, profile_names
from include.spec.models import AnyFamilySpec
from tests.data.conftest import Pipeline

DECLARED = [name for name in all_family_names() if isinstance(load_data_code(load_any_family(name).code), DeclaredData)]
CLIENT = {
    "ID": "1", "LIMIT_BAL": "20000.0", "SEX": "2", "EDUCATION": "2", "MARRIAGE": "1", "AGE": "24",
    **dict.fromkeys(("PAY_0", "PAY_2", "PAY_3", "PAY_4", "PAY_5", "PAY_6"), "0"),
    **{f"{kind}{month}": "100.0" for kind in ("BILL_AMT", "PAY_AMT") for month in range(1, 7)},
    "default.payment.next.month": "1",
}  # fmt: skip


def every_spec() -> list[AnyFamilySpec]:
    path = PROJECT_ROOT / "include" / "families"
    return [
        load_any_family(name, profile) for name in DECLARED for profile in profile_names(path / name / "family.yaml")
    ]


def test_there_are_such_families() -> None:
    assert {"market_prediction", "demand_forecasting", "risk_classification"} <= set(DECLARED)


def test_spec_and_code_name_the_same_columns() -> None:
    for spec in every_spec():
        code = load_data_code(spec.code)
        schemas = code.schemas()
        assert set(schemas) == set(spec.data.tables)
        for name, table in spec.data.tables.items():
            assert table.key in schemas[name].names
        for name, source in spec.data.sources.items():
            assert source.table is not None
            assert set(source.columns) <= set(schemas[source.table].names), f"{spec.family}: {name}"
        columns = set(schemas[spec.split.table].names)
        assert {spec.split.by, spec.split.stratify or spec.split.by, *spec.split.leakage.text} <= columns
        assert set(code.slices().values()) <= columns


def test_data_that_is_not_there_is_told_with_its_place(settings: Settings) -> None:
    for name in DECLARED:
        pipeline = Pipeline(settings, None, load_any_family(name))
        place = PROJECT_ROOT / "data" / name
        if place.exists():
            pytest.skip(f"somebody put data into {place}")
        with pytest.raises(DataError, match="does not exist") as caught:
            pipeline.step("ingest", {"run": "r", "source": None, "since": None, "until": None})
        assert caught.value.where == str(place)


def test_a_file_of_the_repository_itself_is_read_by_its_profile(tmp_path: Path) -> None:
    spec = load_any_family("market_prediction", "uci")
    source = spec.data.sources["clients"]
    path = tmp_path / "clients.csv"
    path.write_text(
        f"{','.join(CLIENT)}\n{','.join(CLIENT.values())}\n{','.join(CLIENT.values()).replace('24', 'old')}"
    )
    schema = load_data_code(spec.code).schemas()["clients"]
    good, bad = table_records(
        path, "clients.csv", "clients", schema, max_row_bytes=10_000, columns=source.columns, csv=source.csv
    )
    assert (good.values["client_id"], good.values["gender"], good.values["pay_status_1"]) == ("1", 2, 0)
    assert good.values["defaults"] is True
    assert (bad.problem, bad.place) == ("wrong_type", "clients.csv:3")


def test_a_family_without_a_reader_says_so(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no reader of its own"):
        DeclaredData().deliveries(tmp_path, "auto")
