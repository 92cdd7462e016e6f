"""Following the ledger: what is new is loaded, what cannot be loaded does no harm."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime

import pytest
from sqlalchemy.exc import OperationalError

from include.release.ledger import Route
from include.release.routing import Role, RoutingTable, Variant
from include.serving.models import LoadedTable, Model
from include.serving.watcher import Watcher
from tests.fakes.echo_family import EchoRuntime


def table(champion: str, challenger: str | None = None, share: float = 0.5) -> RoutingTable:
    return RoutingTable(
        champion=Variant(role=Role.CHAMPION, version=champion, digest=champion),
        challenger=Variant(role=Role.CHALLENGER, version=challenger, digest=challenger) if challenger else None,
        challenger_share=share if challenger else 0.0,
    )


class Routes:
    """A ledger in memory."""

    def __init__(self) -> None:
        self.tables: dict[str, list[RoutingTable]] = {}
        self.away = False

    def newest(self) -> Mapping[str, int]:
        if self.away:
            raise OperationalError("select", {}, Exception("connection refused"))
        return {family: len(tables) for family, tables in self.tables.items()}

    def route(self, family: str, generation: int) -> Route | None:
        return Route(generation, self.tables[family][generation - 1], "", "", datetime.now(UTC))

    def add(self, new: RoutingTable, family: str = "echo") -> None:
        self.tables.setdefault(family, []).append(new)


class Loader:
    """Loads anything but what is `broken`, and remembers what it was asked for."""

    def __init__(self) -> None:
        self.broken: set[str] = set()
        self.error: BaseException | None = None
        self.loaded: list[str] = []

    def load(self, family: str, digest: str) -> Model:
        self.loaded.append(digest)
        if digest in self.broken:
            raise self.error or RuntimeError(f"{digest} is broken")
        return Model(digest, EchoRuntime({"name": digest}), None, {}, False)  # type: ignore[arg-type]


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Scene:
    def __init__(self) -> None:
        self.routes, self.loader, self.clock = Routes(), Loader(), Clock()
        self.opened: list[LoadedTable] = []
        self.watcher = Watcher(self.routes, self.loader, self.opened.append, 0.5, self.clock)  # type: ignore[arg-type]

    def generation(self, family: str = "echo") -> int:
        return self.watcher.tables[family].generation


@pytest.fixture
def scene() -> Scene:
    return Scene()


def test_a_new_generation_replaces_the_table_and_loads_only_new_models(scene: Scene) -> None:
    for new in (table("a"), table("a", "b"), table("a", "b", 0.9), table("b")):
        scene.routes.add(new)
        scene.watcher.poll()
        scene.watcher.poll()
    assert scene.generation() == 4
    assert scene.loader.loaded == ["a", "b"]
    assert [opened.generation for opened in scene.opened] == [1, 2, 3, 4]


def test_a_rollback_to_a_model_that_served_a_moment_ago_loads_nothing(scene: Scene) -> None:
    for champion in ("a", "b", "a"):
        scene.routes.add(table(champion))
        scene.watcher.poll()
    assert scene.loader.loaded == ["a", "b"]


def test_models_that_nothing_needs_are_let_go(scene: Scene) -> None:
    for number in range(12):
        scene.routes.add(table(f"m{number}"))
        scene.watcher.poll()
    assert [model.digest for model in scene.watcher.models] == ["m9", "m10", "m11"]
    gone = scene.watcher.model("echo", "m1")
    assert gone is not None and gone.digest == "m11"  # old answers are labelled by the champion of today


def test_a_table_in_hand_does_not_change(scene: Scene) -> None:
    scene.routes.add(table("a"))
    scene.watcher.poll()
    in_flight = scene.watcher.tables["echo"]
    scene.routes.add(table("b"))
    scene.watcher.poll()
    assert in_flight.models[in_flight.assigned("u").digest].digest == "a"


def test_a_broken_generation_leaves_the_old_one_and_is_tried_again_ever_more_rarely(scene: Scene) -> None:
    scene.routes.add(table("a"))
    scene.watcher.poll()
    scene.loader.broken = {"b"}
    scene.routes.add(table("a", "b"))
    tries: list[float] = []
    for tenth in range(400):
        scene.clock.now = tenth / 10
        before = len(scene.loader.loaded)
        scene.watcher.poll()
        if len(scene.loader.loaded) > before:
            tries.append(scene.clock.now)
    assert scene.generation() == 1
    assert tries == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0]
    shown = scene.watcher.to_json()["echo"]
    assert shown["failed"] == {"generation": 2, "error": "RuntimeError: b is broken"} and not shown["degraded"]
    scene.routes.add(table("c"))  # a newer generation does not wait for the broken one
    scene.watcher.poll()
    assert scene.generation() == 3 and scene.watcher.to_json()["echo"]["failed"] is None


def test_with_nothing_else_to_serve_the_champion_serves_without_its_broken_challenger(scene: Scene) -> None:
    scene.loader.broken = {"b"}
    scene.routes.add(table("a", "b"))
    scene.watcher.poll()
    assert scene.watcher.to_json()["echo"]["degraded"] is True
    assert {scene.watcher.tables["echo"].assigned(f"u{n}").version for n in range(50)} == {"a"}
    scene.loader.broken = set()
    scene.clock.now = 60.0
    scene.watcher.poll()
    shown = scene.watcher.to_json()["echo"]
    assert (shown["degraded"], shown["failed"]) == (False, None)
    assert {scene.watcher.tables["echo"].assigned(f"u{n}").version for n in range(50)} == {"a", "b"}


def test_a_package_that_exits_while_it_loads_is_a_broken_one(scene: Scene) -> None:
    scene.loader.broken, scene.loader.error = {"b"}, SystemExit(3)
    scene.routes.add(table("a"))
    scene.watcher.poll()
    scene.routes.add(table("b"))
    scene.watcher.poll()
    assert scene.generation() == 1
    assert scene.watcher.failed["echo"].error == "SystemExit: 3"


def test_a_broken_champion_serves_nobody(scene: Scene) -> None:
    scene.loader.broken = {"a", "b"}
    scene.routes.add(table("a", "b"))
    scene.watcher.poll()
    assert not scene.watcher.tables
    assert scene.watcher.to_json()["echo"]["generation"] is None


def test_one_family_that_fails_does_not_hold_up_another(scene: Scene) -> None:
    scene.loader.broken = {"a"}
    scene.routes.add(table("a"), "alpha")
    scene.routes.add(table("z"), "zeta")
    scene.watcher.poll()
    assert list(scene.watcher.tables) == ["zeta"] and list(scene.watcher.failed) == ["alpha"]


def test_while_the_ledger_is_away_everything_stays(scene: Scene) -> None:
    scene.routes.add(table("a"))
    scene.watcher.poll()
    scene.routes.away = True
    scene.routes.add(table("b"))
    scene.watcher.poll()
    assert scene.generation() == 1 and "connection refused" in scene.watcher.ledger_error
    scene.routes.away = False
    scene.watcher.poll()
    assert scene.generation() == 2 and scene.watcher.ledger_error == ""
