"""`windtunnel data versions` and `data diff`, as people call them."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.cli.conftest import Result
from tests.data.conftest import FAMILY, ask
from tests.lineage.conftest import Life, life, lived  # noqa: F401

Windtunnel = Callable[..., Result]


class TestVersions:
    def test_why_each_has_its_number_and_who_learned_from_it(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        newest, middle, first = windtunnel("data", "versions", FAMILY, "--json").json
        assert [entry["version"] for entry in (first, middle, newest)] == ["1.0.0", "2.0.0", "2.0.1"]
        assert first["models"] == ["0.1.0", "1.0.0"] and middle["models"] == ["1.1.0"]
        assert middle["change"] == {"level": "major", "reason": "new in document_id: CC"}
        assert (first["growth"], middle["growth"], newest["growth"]) == (None, 0.5, pytest.approx(1 / 30))
        shown = windtunnel("data", "versions", FAMILY).out
        assert "patch: questions grew by 6.2% to 17 rows" in shown and "+50.0%" in shown

    def test_a_recalled_version_says_so(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        windtunnel("recall", f"{FAMILY}:data@2.0.0", "--reason", "wrong")
        newest, middle, first = windtunnel("data", "versions", FAMILY, "--json").json
        assert newest["recalled"] and middle["recalled"] and not first["recalled"]
        assert "RECALLED: dataset 2.0.0, delivery 2026-10-19" in windtunnel("data", "versions", FAMILY).out

    def test_none_yet(self, windtunnel: Windtunnel) -> None:
        assert windtunnel("data", "versions", FAMILY, "--json").json == []
        assert "no dataset version yet" in windtunnel("data", "versions", FAMILY).out


class TestDiff:
    def test_rows_by_key_columns_and_slices(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        life.source.add("2026-10-12", {"AA": [f"Rule {n} of AA." for n in range(5)]}, [ask(3, answer="New."), ask(99)])
        version = life.pipeline.run("corrected")["dataset_version"]
        found = windtunnel("data", "diff", FAMILY, "2.0.0", version, "--json").json
        rows = found["rows"]["questions"]
        assert (rows["before"], rows["after"]) == (16, 10)
        assert (rows["added"], rows["removed"], rows["changed"]) == (2, 8, 1)
        assert rows["samples"]["changed"] == ["q-003"] and rows["samples"]["added"] == ["q-070", "q-099"]
        assert found["schema"] == {"added": {}, "removed": {}}
        assert found["columns"]["questions"]["answer"]["distance"] > 0
        assert "question_id" not in found["columns"]["questions"]
        slices = {entry["value"]: (entry["before"], entry["after"]) for entry in found["slices"]}
        assert slices == {"AA": (10, 4), "CC": (6, 6)}

    def test_a_version_and_itself(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        found = windtunnel("data", "diff", FAMILY, "2.0.0", "2.0.0", "--json").json
        assert found["same"]
        assert not any(table[kind] for table in found["rows"].values() for kind in ("added", "removed", "changed"))
        distances = {column["distance"] for table in found["columns"].values() for column in table.values()}
        assert distances <= {0.0, None}
        assert "the same content" in windtunnel("data", "diff", FAMILY, "2.0.0", "2.0.0").out

    def test_the_table_is_for_people(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        shown = windtunnel("data", "diff", FAMILY, "1.0.0", "2.0.0").out
        for words in ("compliance_qa data 1.0.0 -> 2.0.0", "+q-030", "Jensen-Shannon", "document_id  CC"):
            assert words in shown

    def test_an_unknown_version_is_told(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        result = windtunnel("data", "diff", FAMILY, "1.0.0", "9.9.9")
        assert result.code == 2 and "'9.9.9'" in result.err


class TestQuality:
    def test_versions_beside_each_other_and_one_in_full(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        newest, _, first = windtunnel("data", "quality", FAMILY, "--json").json
        assert (newest["version"], first["version"]) == ("2.0.1", "1.0.0")
        assert first["validation_rate"] == pytest.approx(21 / 26)
        assert first["alerts"][0]["metric"] == "validation_rate"
        shown = windtunnel("data", "quality", FAMILY, "2.0.0").out
        for words in ("validation rate", "n/a", "what to do: most often:", "evenness of document_id"):
            assert words in shown
        assert "84.2%" in windtunnel("data", "quality", FAMILY).out

    def test_a_version_that_was_not_measured_is_told(self, windtunnel: Windtunnel, life: Life) -> None:  # noqa: F811
        result = windtunnel("data", "quality", FAMILY, "7.0.0")
        assert result.code == 2 and "measured: 1.0.0, 2.0.0, 2.0.1" in result.err

    def test_none_yet(self, windtunnel: Windtunnel) -> None:
        assert "was measured yet" in windtunnel("data", "quality", FAMILY).out
