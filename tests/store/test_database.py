"""The ledger and catalogue database: made once, append-only, refuses what must not be."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select, update
from sqlalchemy.exc import IntegrityError, SQLAlchemyError

from include.data.catalogue import Catalogue, VersionEntry
from include.data.records import IngestedDelivery
from include.settings import Settings
from include.store import schema
from include.store.database import DatabaseError, open_database

NOW = datetime(2026, 11, 2, tzinfo=UTC)


def delivery(name: str = "2026-10-12", digest: str = "ab", rows: int = 3) -> IngestedDelivery:
    return IngestedDelivery(
        delivery=name, delivered_on=date.fromisoformat(name), digest=digest, rows_in=rows, batch_key=f"raw/{name}"
    )


@pytest.mark.every_database
class TestDatabase:
    def test_opening_it_twice_migrates_it_once(self, settings: Settings) -> None:
        engine = open_database(settings.database_url)
        open_database.cache_clear()
        again = open_database(settings.database_url)
        assert engine is not again
        Catalogue(again).add_delivery("f", "s", delivery(), NOW)
        assert Catalogue(engine).names("f", "s") == {"2026-10-12"}

    @pytest.mark.slow
    def test_processes_that_start_together_make_one_database(self, settings: Settings) -> None:
        code = "import sys; from include.store.database import open_database; open_database(sys.argv[1])"
        command = [sys.executable, "-c", code, settings.database_url]
        started = [subprocess.Popen(command, stderr=subprocess.PIPE) for _ in range(4)]
        errors = [process.communicate()[1] for process in started]
        assert [process.returncode for process in started] == [0] * 4, errors

    @pytest.mark.parametrize("statement", [update(schema.deliveries).values(rows_in=0), delete(schema.deliveries)])
    def test_facts_are_never_changed(self, settings: Settings, statement: object) -> None:
        engine = open_database(settings.database_url)
        Catalogue(engine).add_delivery("f", "s", delivery(), NOW)
        with pytest.raises(SQLAlchemyError, match="append-only"), engine.begin() as connection:
            connection.execute(statement)  # type: ignore[call-overload]
        assert Catalogue(engine).deliveries("f", "s") == [delivery()]


class TestRefusals:
    def test_a_place_that_cannot_be_written_says_what_to_do(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("in the way")
        with pytest.raises(DatabaseError) as caught:
            open_database(f"sqlite:///{tmp_path}/file/ledger.db")
        assert "writable" in caught.value.hint

    def test_a_file_that_is_no_database_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "ledger.db").write_bytes(b"this is no database " * 200)
        with pytest.raises(DatabaseError):
            open_database(f"sqlite:///{tmp_path}/ledger.db")

    def test_the_password_is_not_shown(self) -> None:
        with pytest.raises(DatabaseError) as caught:
            open_database("postgresql+psycopg2://me:secret@127.0.0.1:9/none")
        assert "secret" not in str(caught.value)


@pytest.mark.every_database
class TestCatalogue:
    def test_a_delivery_counts_once_per_content(self, settings: Settings) -> None:
        catalogue = Catalogue(open_database(settings.database_url))
        assert catalogue.add_delivery("f", "s", delivery(), NOW)
        assert not catalogue.add_delivery("f", "s", delivery(rows=99), NOW)
        assert catalogue.add_delivery("f", "s", delivery(digest="cd"), NOW)
        assert catalogue.add_delivery("f", "other", delivery(), NOW)
        assert [entry.digest for entry in catalogue.deliveries("f", "s")] == ["ab", "cd"]
        assert catalogue.deliveries("f", "s")[0].rows_in == 3

    def test_the_watermark_is_the_newest_day(self, settings: Settings) -> None:
        catalogue = Catalogue(open_database(settings.database_url))
        assert catalogue.watermark("f", "s") is None
        for name in ("2026-10-12", "2026-11-02", "2026-10-19"):
            catalogue.add_delivery("f", "s", delivery(name), NOW)
        assert catalogue.watermark("f", "s") == date(2026, 11, 2)
        assert catalogue.watermark("f", "other") is None

    def test_neither_a_name_nor_a_content_is_published_twice(self, settings: Settings) -> None:
        catalogue = Catalogue(open_database(settings.database_url))
        assert catalogue.add_version(VersionEntry("f", "1.0.0", "aa", "k", NOW))
        assert not catalogue.add_version(VersionEntry("f", "1.0.0", "bb", "k", NOW))
        assert not catalogue.add_version(VersionEntry("f", "1.1.0", "aa", "k", NOW))
        assert catalogue.add_version(VersionEntry("f", "1.1.0", "bb", "k", NOW))
        assert [entry.version for entry in catalogue.versions("f")] == ["1.1.0", "1.0.0"]

    def test_the_database_itself_refuses_a_second_row(self, settings: Settings) -> None:
        engine = open_database(settings.database_url)
        Catalogue(engine).add_version(VersionEntry("f", "1.0.0", "aa", "k", NOW))
        with engine.connect() as connection:
            row = dict(connection.execute(select(schema.dataset_versions)).mappings().one())
        row.pop("id")
        with pytest.raises(IntegrityError), engine.begin() as connection:
            connection.execute(insert(schema.dataset_versions).values(**row))
