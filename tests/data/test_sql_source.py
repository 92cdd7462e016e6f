"""Rows of a database: a day is a delivery, a run asks for its span, and late rows correct their day."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from include.data.sources.credentials import Credentials, SourceError
from include.data.sources.place import Window
from include.data.sources.sql import SqlRows, _day_of, _plain
from include.errors import DataError, UserError
from include.settings import Settings
from include.spec.sources import SourceSpec

from .conftest import Deliveries, Pipeline, ask, make_spec

QUERY = "select id, question, at from asked where at >= :since and at < :until"
TODAY = date(2026, 10, 20)
COLUMNS = {"question_id": "id", "citations": "cited", "document_id": "doc"}


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database with questions of three days."""
    made = (
        f"sqlite:///{tmp_path / 'app.db'}"
        if request.param == "sqlite"
        else str(request.getfixturevalue("postgres_url"))
    )
    moment = "timestamptz" if request.param == "postgresql" else "text"
    execute(made, f"create table asked (id text, question text, at {moment}, score numeric, cited text, doc text)")
    for number, at in enumerate(
        ("2026-10-12 23:59:59", "2026-10-13 00:00:00", "2026-10-13 12:00:00", "2026-10-15 08:00:00")
    ):
        insert(made, f"s-{number}", at)
    return made


def execute(url: str, statement: str, **values: Any) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text(statement), values)
    engine.dispose()


def insert(url: str, name: str, at: str, question: str = "What?") -> None:
    at = f"{at}+00" if url.startswith("postgresql") else at
    statement = "insert into asked values (:id, :question, :at, 1.50, '[\"AA:AA-1.1\"]', 'AA')"
    execute(url, statement, id=name, question=question, at=at)


def without_password(url: str) -> str:
    """The URL as a spec may hold it; the password comes with the connection."""
    return make_url(url)._replace(password=None).render_as_string(hide_password=False)


def place(url: str, folder: Path, query: str = QUERY, **changes: Any) -> SqlRows:
    spec = SourceSpec(
        role="production_queries",
        url=without_password(url),
        table="questions",
        sql={"query": query, "watermark": "at", **changes},
    )
    assert spec.sql is not None
    return SqlRows(spec, spec.sql, Credentials(password=make_url(url).password or ""), "id", folder)


def read(place: SqlRows, **at: Any) -> dict[str, int]:
    """Day -> rows."""
    found = {}
    window = Window(**{"since": None, "until": None, "today": TODAY, **at})
    for offer in place.offers(window):
        with place.fetch(offer) as delivery:
            found[offer.name] = len(delivery.files[0].read_text().splitlines())
    return found


class TestSpans:
    def test_a_first_run_takes_everything_by_day(self, url: str, tmp_path: Path) -> None:
        assert read(place(url, tmp_path)) == {"2026-10-12": 1, "2026-10-13": 2, "2026-10-15": 1}
        assert not (tmp_path / "rows.jsonl").exists()

    @pytest.mark.parametrize(
        ("at", "days"),
        [
            ({"until": date(2026, 10, 15)}, ["2026-10-12", "2026-10-13"]),
            ({"watermark": date(2026, 10, 15)}, ["2026-10-15"]),
            ({"watermark": date(2026, 10, 14)}, ["2026-10-13", "2026-10-15"]),
            (
                {"watermark": date(2026, 10, 15), "since": date(2026, 10, 12), "until": date(2026, 10, 13)},
                ["2026-10-12"],
            ),
            ({"watermark": date(2026, 10, 15), "until": date(2026, 10, 1)}, []),
            ({"today": date(2026, 10, 13)}, ["2026-10-12", "2026-10-13"]),
        ],
    )
    def test_later_runs_ask_for_what_they_need(
        self, url: str, tmp_path: Path, at: dict[str, Any], days: list[str]
    ) -> None:
        assert list(read(place(url, tmp_path), **at)) == days

    def test_rows_of_the_future_do_not_move_the_watermark(self, url: str, tmp_path: Path) -> None:
        insert(url, "far", "2099-01-01 00:00:00")
        assert list(read(place(url, tmp_path)))[-1] == "2026-10-15"

    def test_the_order_of_rows_does_not_depend_on_the_database(self, url: str, tmp_path: Path) -> None:
        for name in ("z", "b", "m"):
            insert(url, name, "2026-10-16 00:00:00")
        made = place(url, tmp_path, fetch_rows=1)
        window = Window(None, None, TODAY, date(2026, 10, 16))
        [offer] = [offer for offer in made.offers(window) if offer.name == "2026-10-16"]
        assert offer.what.parent == tmp_path


class TestRefusals:
    def test_a_query_that_is_wrong(self, url: str, tmp_path: Path) -> None:
        with pytest.raises(UserError, match="the database refuses"):
            read(place(url, tmp_path, "select nothing from nowhere where :since < :until"))

    def test_a_query_that_does_not_keep_to_the_span(self, url: str, tmp_path: Path) -> None:
        loose = "select * from asked where :since <> :until"
        with pytest.raises(UserError, match="asked for"):
            read(place(url, tmp_path, loose), until=date(2026, 10, 13))

    def test_a_watermark_that_is_no_date(self, url: str, tmp_path: Path) -> None:
        query = "select id, question, 'soon' as at from asked where :since <> :until"
        with pytest.raises(DataError, match="date or a moment"):
            read(place(url, tmp_path, query))

    def test_a_database_that_is_away(self, tmp_path: Path) -> None:
        with pytest.raises(SourceError, match="the database failed"):
            read(place("postgresql+psycopg2://me:hunter22@127.0.0.1:1/db", tmp_path))

    def test_a_query_without_a_span_is_refused_in_the_spec(self) -> None:
        with pytest.raises(ValueError, match=":since and :until"):
            SourceSpec(role="feedback", url="sqlite:///x", table="t", sql={"query": "select 1", "watermark": "at"})


def test_a_wrong_password_is_the_users_to_mend_and_is_not_shown(postgres_url: str, tmp_path: Path) -> None:
    spec = SourceSpec(
        role="feedback",
        url=without_password(postgres_url),
        table="t",
        sql={"query": QUERY, "watermark": "at"},
    )
    assert spec.sql is not None
    with pytest.raises(UserError, match="authentication failed") as caught:
        read(SqlRows(spec, spec.sql, Credentials(password="hunter22"), "id", tmp_path))
    assert "hunter22" not in str(caught.value)


def test_from_the_database_to_a_version_and_a_late_row_into_the_next(
    settings: Settings, url: str, tmp_path: Path
) -> None:
    Deliveries(tmp_path / "rules").add("2026-10-01", {"AA": ["Rule 1."]}, [ask(1)])
    parsed = make_url(url)
    query = "select *, null as answer from asked where at >= :since and at < :until"
    live = {
        "role": "production_queries",
        "url": without_password(url),
        "connection": "app",
        "table": "questions",
        "columns": COLUMNS,
        "sql": {"query": query, "watermark": "at", "overlap_days": 3},
    }
    sources = {"rules": {"role": "document_extraction", "url": str(tmp_path / "rules")}, "live": live}
    tables = {"passages": {"key": "passage_key"}, "questions": {"key": "question_id"}}
    spec = make_spec(data={"suite": "compliance_qa", "tables": tables, "sources": sources})
    pipeline = Pipeline(settings, "", spec)
    pipeline.source = None  # type: ignore[assignment]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_APP", f"postgres://:{parsed.password}@" if parsed.password else "sqlite://")
        first = pipeline.run("r1")
        assert (first["rows_in"], first["rows_clean"], first["rows_duplicate"]) == (6, 3, 3)
        assert pipeline.run("r2")["new"] is False
        insert(url, "late", "2026-10-13 18:00:00", question="Was I late?")
        second = pipeline.run("r3")
    found = {
        row["question_id"]: row for row in pipeline.dataset(second["dataset_version"]).table("questions").to_pylist()
    }
    assert (found["late"]["source"], found["late"]["delivery"]) == ("live", "live.2026-10-13")


def test_moments_and_decimals_come_as_text_that_columns_can_read(tmp_path: Path) -> None:
    assert _plain(Decimal("1E+3")) == "1000"
    assert _plain(datetime(2026, 10, 12, 8, tzinfo=UTC)) == "2026-10-12T08:00:00+00:00"
    assert _day_of("2026-10-12T23:30:00-02:00") == date(2026, 10, 13)
    assert _day_of("not a day") is None
