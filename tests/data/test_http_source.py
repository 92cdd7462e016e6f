"""Files behind HTTP: fetched when they changed, asked for with patience, and never larger than allowed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from include.data.sources.credentials import Credentials, SourceError
from include.data.sources.http import ATTEMPTS, HttpFiles
from include.data.sources.place import Offer, Window
from include.errors import DataError, UserError
from include.spec.sources import SourceSpec
from tests.servers.scripted_http import Answer, ScriptedServer

TODAY = date(2026, 10, 14)
CHANGED = "Mon, 12 Oct 2026 08:00:00 GMT"


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    made = ScriptedServer()
    yield made
    made.stop()


@pytest.fixture
def place(server: ScriptedServer, tmp_path: Path) -> Callable[..., HttpFiles]:
    """Makes a place at a path of the server; `waits` collects how long it would have waited."""

    def make(path: str = "/feed.jsonl", waits: list[float] | None = None, **changes: Any) -> HttpFiles:
        credentials = changes.pop("credentials", Credentials())
        spec = SourceSpec(role="feedback", url=server.url + path, table="t", **changes)
        return HttpFiles(spec, credentials, tmp_path, (waits if waits is not None else []).append)

    return make


def window(tags: dict[str, dict[str, str]] | None = None, **changes: Any) -> Window:
    return Window(**{"since": None, "until": None, "today": TODAY, "tags": tags or {}, **changes})


def read(place: HttpFiles, at: Window | None = None) -> list[tuple[Offer, bytes]]:
    found = []
    for offer in place.offers(at or window()):
        with place.fetch(offer) as delivery:
            found.append((offer, delivery.files[0].read_bytes()))
    return found


class TestOneFile:
    def test_it_is_a_delivery_of_the_day_of_its_last_change(self, server: ScriptedServer, place: Any) -> None:
        server.script["/feed.jsonl"] = [Answer(headers={"ETag": '"v1"', "Last-Modified": CHANGED})]
        [(offer, body)] = read(place())
        assert (offer.name, offer.delivered_on, body) == ("feed", date(2026, 10, 12), b'{"a": 1}\n')

    def test_the_spec_or_the_address_may_tell_the_day(self, server: ScriptedServer, place: Any) -> None:
        for path in ("/feed.jsonl", "/2026-10-01/feed.jsonl"):
            server.script[path] = [Answer()]
        assert read(place())[0][0].delivered_on == TODAY
        assert read(place(delivered_on="2026-09-09"))[0][0].delivered_on == date(2026, 9, 9)
        assert read(place("/2026-10-01/feed.jsonl"))[0][0].delivered_on == date(2026, 10, 1)

    def test_an_unchanged_file_is_not_sent_again(self, server: ScriptedServer, place: Any) -> None:
        server.script["/feed.jsonl"] = [Answer(headers={"ETag": '"v1"', "Last-Modified": CHANGED})]
        [(first, _)] = read(place())
        [second] = place().offers(window({"feed": {first.tag: "digest"}}))
        assert (second.tag, second.delivered_on, second.what) == (first.tag, first.delivered_on, None)
        assert server.asked[-1][1]["if-none-match"] == '"v1"'
        assert server.asked[-1][1]["if-modified-since"] == CHANGED

    def test_a_file_that_was_lost_here_is_fetched_although_unchanged(self, server: ScriptedServer, place: Any) -> None:
        server.script["/feed.jsonl"] = [Answer(headers={"ETag": '"v1"'})]
        [(first, _)] = read(place())
        assert read(place(), window({"feed": {first.tag: "digest"}}))[0][1] == b'{"a": 1}\n'

    def test_a_changed_file_is(self, server: ScriptedServer, place: Any) -> None:
        server.script["/feed.jsonl"] = [Answer(headers={"ETag": '"v1"'}), Answer(b"new\n", headers={"ETag": '"v2"'})]
        [(first, _)] = read(place())
        [(second, body)] = read(place(), window({"feed": {first.tag: "digest"}}))
        assert body == b"new\n"
        assert second.tag != first.tag


class TestPatience:
    def test_a_server_that_stumbles_is_asked_again(self, server: ScriptedServer, place: Any) -> None:
        waits: list[float] = []
        server.script["/feed.jsonl"] = [Answer(status=503), Answer(cut=True), Answer(b"at last\n")]
        assert read(place(waits=waits))[0][1] == b"at last\n"
        assert len(waits) == 2
        assert 0.5 <= waits[0] <= 1.0 <= waits[1] <= 2.0

    def test_it_waits_as_long_as_it_is_told(self, server: ScriptedServer, place: Any) -> None:
        waits: list[float] = []
        server.script["/feed.jsonl"] = [Answer(status=429, headers={"Retry-After": "7"}), Answer()]
        read(place(waits=waits))
        assert waits == [7.0]

    def test_but_not_for_an_hour(self, server: ScriptedServer, place: Any) -> None:
        server.script["/feed.jsonl"] = [Answer(status=503, headers={"Retry-After": "3600"})]
        with pytest.raises(SourceError, match="3600 s"):
            read(place())
        assert len(server.asked) == 1

    def test_it_gives_up_in_the_end(self, server: ScriptedServer, place: Any) -> None:
        server.script["/feed.jsonl"] = [Answer(status=500)]
        with pytest.raises(SourceError, match="after 5 attempts: status 500"):
            read(place())
        assert len(server.asked) == ATTEMPTS

    def test_a_server_that_is_away(self, place: Any, server: ScriptedServer) -> None:
        made = place()
        server.stop()
        with pytest.raises(SourceError, match="cannot be read"):
            read(made)


class TestRefusals:
    @pytest.mark.parametrize(
        ("status", "error"), [(404, DataError), (400, DataError), (401, UserError), (403, UserError)]
    )
    def test_what_trying_again_cannot_mend_is_said_at_once(
        self, server: ScriptedServer, place: Any, status: int, error: type[Exception]
    ) -> None:
        server.script["/feed.jsonl"] = [Answer(status=status)]
        with pytest.raises(error):
            read(place())
        assert len(server.asked) == 1

    def test_a_file_that_is_too_large(self, server: ScriptedServer, place: Any, tmp_path: Path) -> None:
        server.script["/feed.jsonl"] = [Answer(b"x" * 2_000_000)]
        with pytest.raises(DataError, match="more than 5000 bytes"):
            read(place(max_file_bytes=5_000))
        assert sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()) < 600_000

    def test_a_secret_goes_nowhere_else(self, server: ScriptedServer, place: Any) -> None:
        other = ScriptedServer()
        server.script["/feed.jsonl"] = [Answer(status=302, headers={"Location": f"{other.url}/feed.jsonl"})]
        other.script["/feed.jsonl"] = [Answer(b"there\n")]
        with pytest.raises(UserError, match="elsewhere"):
            read(place(credentials=Credentials(extra={"token": "s3cret-token"})))
        assert server.asked[-1][1]["authorization"] == "Bearer s3cret-token"
        assert other.asked == []
        assert read(place())[0][1] == b"there\n"
        assert "authorization" not in other.asked[-1][1]
        other.stop()


class TestOneFilePerDay:
    def days(self, server: ScriptedServer, *days: str) -> None:
        for day in days:
            server.script[f"/{day}.json"] = [Answer(json.dumps([day]).encode())]

    def names(self, place: HttpFiles, **at: Any) -> list[str]:
        return [offer.name for offer, _ in read(place, window(**at))]

    def test_days_from_the_start_to_today_without_those_that_are_not_there(
        self, server: ScriptedServer, place: Any
    ) -> None:
        self.days(server, "2026-10-10", "2026-10-12", "2026-10-20")
        made = place("/{date}.json", start="2026-10-09")
        assert self.names(made) == ["2026-10-10", "2026-10-12"]
        assert [path for path, _ in server.asked] == [f"/2026-10-{day:02}.json" for day in range(9, 15)]

    def test_later_runs_begin_at_the_watermark_or_at_their_interval(self, server: ScriptedServer, place: Any) -> None:
        made = place("/{date}.json", start="2026-10-01")
        self.names(made, watermark=date(2026, 10, 13))
        assert [path for path, _ in server.asked] == ["/2026-10-13.json", "/2026-10-14.json"]
        server.asked.clear()
        self.names(made, watermark=date(2026, 10, 13), since=date(2026, 10, 5), until=date(2026, 10, 7))
        assert [path for path, _ in server.asked] == ["/2026-10-05.json", "/2026-10-06.json"]
