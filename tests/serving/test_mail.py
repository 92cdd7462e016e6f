"""Feedback that comes to another gateway than the one that answered."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from include.serving.mail import Mail
from include.serving.peers import gateway_of, new_request_id
from include.serving.wire import RequestError
from include.store.objects import LocalObjectStore, ObjectStore, StoreError
from tests.serving.conftest import Gateways, RunningGateway, World

HERE, THERE = "aaaaaaaa", "bbbbbbbb"
TRUTH = {"citations": ["1:1"]}


class Book:
    """Takes feedback, or refuses it as long as `status` says so."""

    def __init__(self) -> None:
        self.given: list[tuple[str, Any, Any]] = []
        self.status = 0

    async def give(self, request_id: str, truth: Mapping[str, Any] | None, helpful: bool | None) -> dict[str, Any]:
        if self.status:
            raise RequestError("no", status=self.status)
        self.given.append((request_id, truth, helpful))
        return {}


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def mail(store: ObjectStore, name: str, book: Book | None = None, clock: Clock | None = None) -> Mail:
    give = (book or Book()).give
    return Mail(store, name, give, collects=True, seconds=0.01, clock=clock or Clock())


async def one_round(box: Mail) -> None:
    await box.start()
    await asyncio.sleep(0.05)


def letters(store: ObjectStore) -> list[str]:
    return list(store.keys("mail/"))


def test_an_id_tells_the_gateway_and_nobody_elses_does() -> None:
    assert gateway_of(new_request_id(HERE, 3)) == HERE
    assert gateway_of(new_request_id(HERE, 3) + ".12") == HERE
    for odd in (
        "",
        "0" * 32,
        "my own id",
        "../" * 13 + "a",
        new_request_id(HERE, 3).upper(),
        new_request_id(HERE, 3) + "/",
    ):
        assert gateway_of(odd) is None


def test_a_letter_is_given_once_and_goes(tmp_path: Path) -> None:
    store, book = LocalObjectStore(tmp_path), Book()

    async def play() -> None:
        there = mail(store, THERE, book)
        await one_round(there)
        asked = new_request_id(THERE, 1)
        here = mail(store, HERE)
        assert here.elsewhere(asked) == THERE and there.elsewhere(asked) is None
        assert here.post(THERE, asked, TRUTH, None) == {
            "request_id": asked, "labels": {}, "counted": False, "passed_on": True,
        }  # fmt: skip
        await asyncio.sleep(0.1)
        assert book.given == [(asked, TRUTH, None)] and not letters(store)
        await there.stop()

    asyncio.run(play())
    assert not list(store.keys("gateways/"))


@pytest.mark.parametrize(("status", "left"), [(503, 1), (504, 0), (404, 0), (422, 0)])
def test_only_what_may_come_true_later_is_tried_again(tmp_path: Path, status: int, left: int) -> None:
    store, book = LocalObjectStore(tmp_path), Book()

    async def play() -> None:
        there = mail(store, THERE, book)
        await one_round(there)
        book.status = status
        mail(store, HERE).post(THERE, "id", None, True)
        store.put(f"mail/{THERE}/zzz.json", b"[no letter")
        await asyncio.sleep(0.1)
        assert len(letters(store)) == left
        book.status = 0
        await there.stop()  # looks once more
        assert len(book.given) == left and not letters(store)

    asyncio.run(play())


def test_what_cannot_be_given_for_minutes_goes(tmp_path: Path) -> None:
    store, book, clock = LocalObjectStore(tmp_path), Book(), Clock()
    book.status = 503

    async def play() -> None:
        there = mail(store, THERE, book, clock)
        await one_round(there)
        mail(store, HERE, clock=clock).post(THERE, "id", None, True)
        await there.collect()
        assert len(letters(store)) == 1
        clock.now += 301
        await there.collect()
        assert not letters(store)
        await there.stop()

    asyncio.run(play())


def test_nothing_is_left_for_a_gateway_that_is_gone(tmp_path: Path) -> None:
    store, clock = LocalObjectStore(tmp_path), Clock()

    async def play() -> None:
        here, there = mail(store, HERE, clock=clock), mail(store, THERE, clock=clock)
        with pytest.raises(RequestError, match="is gone") as told:
            here.post(THERE, "id", None, True)
        assert told.value.status == 404
        await one_round(there)
        there._rounds.cancel()  # type: ignore[union-attr]  # killed
        here.post(THERE, "id", None, True)
        clock.now += 300
        with pytest.raises(RequestError, match="is gone"):
            here.post(THERE, "id", None, True)
        await one_round(here)
        assert [*letters(store), *store.keys("gateways/")] == [f"gateways/{HERE}.json"]
        await here.stop()

    asyncio.run(play())


def test_a_store_that_is_away_is_told(tmp_path: Path) -> None:
    class Away(LocalObjectStore):
        def get(self, key: str) -> bytes:
            raise StoreError("no route to host")

    with pytest.raises(RequestError, match="no route to host") as told:
        mail(Away(tmp_path), HERE).post(THERE, "id", None, True)
    assert told.value.status == 503


def feedback(gateway: RunningGateway, request_id: str) -> httpx.Response:
    return gateway.client.post("/v1/feedback", json={"request_id": request_id, "truth": TRUTH})


def test_two_gateways_label_each_others_answers(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0"))
    one, two = start_gateway("--workers", "2"), start_gateway()
    for gateway in (one, two):
        gateway.wait_generation(1)
    ids = [gateway.ask().json()["request_id"] for gateway in (one, two) for _ in range(5)]
    one.wait_for(lambda: len(list(world.store.keys("gateways/"))) == 2)
    given = [feedback(gateway, request_id).json() for request_id in ids for gateway in (one, two)]
    assert sum(found["counted"] for found in given) == sum(found.get("passed_on", False) for found in given) == 10
    one.wait_for(lambda: not list(world.store.keys("mail/")))
    for gateway in (one, two):
        gateway.wait_for(lambda gateway=gateway: gateway.champion()["labels"] == 10)
        assert gateway.champion()["quality"]["hit_at_1"]["n"] == 10, "each answer is labelled once"
    assert two.stop() == 0
    assert feedback(one, ids[-1]).status_code == 404
    assert one.stop() == 0
    assert not list(world.store.keys("gateways/"))


def test_what_a_killed_gateway_answered_can_not_be_labelled_for_ever(world: World, start_gateway: Gateways) -> None:
    world.route(world.model("1.0.0"))
    one, two = start_gateway(), start_gateway()
    for gateway in (one, two):
        gateway.wait_generation(1)
    request_id = two.ask().json()["request_id"]
    one.wait_for(lambda: len(list(world.store.keys("gateways/"))) == 2)
    two.stop(signal.SIGKILL)
    assert feedback(one, request_id).json()["passed_on"] is True
    name = gateway_of(request_id)
    world.store.put(f"gateways/{name}.json", json.dumps({"at": 0.0}).encode())
    assert feedback(one, request_id).status_code == 404
