"""Sources: the same place has the same id, S3 is read like a folder, and waiting rows are counted."""

from __future__ import annotations

import dataclasses
from datetime import date
from pathlib import Path

import pytest

from include.data.sources import (
    count_new_rows,
    delivery_digest,
    source_id,
)
from include.errors import DataError, UserError
from include.families.compliance_qa.data_part import DataPart
from include.families.contract import Delivery
from include.settings import PROJECT_ROOT, Settings
from include.store.objects import open_store

from .conftest import Deliveries, Pipeline, ask, make_spec


class TestIds:
    def test_the_same_folder_has_one_id_however_it_is_written(self, tmp_path: Path) -> None:
        (tmp_path / "My Data").mkdir()
        written = [str(tmp_path / "My Data"), f"{tmp_path}/x/../My Data/", (tmp_path / "My Data").as_uri()]
        assert len({source_id(name) for name in written}) == 1
        assert source_id(written[0]).startswith("my-data-")

    def test_folders_of_the_same_name_differ(self) -> None:
        assert source_id("/a/data") != source_id("/b/data")

    def test_a_relative_path_starts_at_the_project(self) -> None:
        assert source_id("some/data") == source_id(str(PROJECT_ROOT / "some" / "data"))

    def test_the_sample_and_buckets(self) -> None:
        assert source_id("sample") == "sample"
        assert source_id("s3://bucket/in/") == source_id("s3://bucket/in")

    def test_an_id_fits_into_an_object_key(self) -> None:
        assert source_id("/some/Ünï code/" + "x" * 300).isascii()
        assert len(source_id("/some/" + "x" * 300)) < 64

    def test_another_scheme_is_refused(self) -> None:
        with pytest.raises(UserError, match="unknown kind of source"):
            source_id("ftp://example.com/data")


class TestDigests:
    def test_it_changes_with_every_byte_and_every_name(self, tmp_path: Path) -> None:
        def digest() -> str:
            delivery = DataPart().deliveries(tmp_path / "s", "auto")[0]
            return delivery_digest(delivery)

        source = Deliveries(tmp_path / "s")
        source.add("2026-10-12", {"AA": ["a"]}, [ask(1)])
        first = digest()
        assert digest() == first
        source.add("2026-10-12", {"AA": ["b"]}, [ask(1)])
        second = digest()
        source.add("2026-10-12", {"AA": ["a"]}, [ask(1)])
        assert digest() == first != second
        (tmp_path / "s" / "2026-10-12" / "documents" / "AA.json").rename(
            tmp_path / "s" / "2026-10-12" / "documents" / "AB.json"
        )
        assert digest() != first

    def test_a_file_that_vanishes_is_a_data_error(self, tmp_path: Path, source: Deliveries) -> None:
        delivery = DataPart().deliveries(source.folder, "auto")[0]
        delivery.files[0].unlink()
        with pytest.raises(DataError, match="cannot be read"):
            delivery_digest(delivery)


class TestWaitingRows:
    def test_rows_beyond_the_catalogue_are_counted(
        self, settings: Settings, pipeline: Pipeline, source: Deliveries
    ) -> None:
        def count() -> int:
            return count_new_rows(settings, make_spec(), str(source.folder))

        assert count() == 38
        pipeline.step("ingest", {"run": "r", "source": pipeline.source, "since": None, "until": "2026-10-13"})
        assert count() == 12
        pipeline.step("ingest", {"run": "r2", "source": pipeline.source, "since": None, "until": None})
        assert count() == 0
        source.add("2026-10-26", {}, [ask(1), b"broken", ask(2)])
        assert count() == 3

    def test_the_caller_may_say_what_is_known(self, settings: Settings, source: Deliveries) -> None:
        assert count_new_rows(settings, make_spec(), str(source.folder), {"2026-10-12"}) == 12
        assert count_new_rows(settings, make_spec(), str(source.folder), set()) == 38

    def test_a_missing_source_is_no_zero(self, settings: Settings, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="does not exist"):
            count_new_rows(settings, make_spec(), str(tmp_path / "none"))


@pytest.mark.parametrize("name", ["../escape", "", "a/b", "x" * 101])
def test_a_delivery_with_a_name_that_no_key_can_hold_is_refused(
    pipeline: Pipeline, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    odd = Delivery(name, date(2026, 1, 1), (), "dated")
    monkeypatch.setattr(DataPart, "deliveries", lambda *_: [odd])
    with pytest.raises(DataError, match="cannot be named"):
        pipeline.run()


class TestS3:
    @pytest.mark.slow
    def test_everything_may_lie_in_buckets(self, settings: Settings, source: Deliveries, s3_url: str) -> None:
        """Source, raw batches, quarantine and dataset tables on S3: the same version as on a folder."""
        expected = Pipeline(settings, source.folder).run()
        inbox = open_store(f"{s3_url}/inbox")
        for path in source.folder.rglob("*"):
            if path.is_file():
                inbox.upload(path.relative_to(source.folder).as_posix(), path)
        home = settings.home.parent / "other"
        remote = dataclasses.replace(settings, store_url=f"{s3_url}/store", database_url=f"sqlite:///{home}/ledger.db")
        pipeline = Pipeline(remote, f"{s3_url}/inbox/")
        made = pipeline.run()
        assert made["dataset_digest"] == expected["dataset_digest"]
        assert pipeline.run("again")["new"] is False
        assert pipeline.dataset("1.0.0").table("questions").num_rows == 16

    def test_an_empty_bucket_is_a_data_error(self, settings: Settings, s3_url: str) -> None:
        with pytest.raises(DataError, match="the source is empty"):
            Pipeline(settings, f"{s3_url}/nothing").run()
