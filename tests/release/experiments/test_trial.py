"""An experiment from declaration to stop, on a ledger and a prediction log: nothing is counted that is not final."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest

from include.errors import DataError, UserError
from include.release import gateway
from include.release.decisions import read_decision, replay
from include.release.experiments.design import Design
from include.release.experiments.trial import ExperimentError, create, look, names, stop
from include.release.ledger import StaleRoute
from include.release.rollback import revert
from include.release.routing import assign
from include.release.state import ReleaseError
from include.store.database import open_database
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel

HOUR = 3600.0


class Lab:
    """A champion, two challengers, and units that ask when a test says so."""

    def __init__(self, tunnel: Tunnel) -> None:
        self.tunnel = tunnel
        self.control = tunnel.fly()
        self.first = tunnel.register(run="second")["model_version"]
        self.second = tunnel.register(run="third")["model_version"]
        self.rows: list[dict[str, Any]] = []
        self.requests = 0

    def design(self, *challengers: str, **changes: Any) -> Design:
        values = {
            "name": "trial",
            "family": FAMILY,
            "variants": [{"version": version} for version in (self.control, *(challengers or (self.first,)))],
            "primary": {"name": "hit"},
            "guardrails": [{"name": "error", "better": "lower", "margin": 0.02}],
            "mde": 0.05,
            "baseline": 0.5,
            "max_days": 14,
            "watch_seconds": HOUR,
            "label_delay_seconds": HOUR,
            **changes,
        }
        return Design.model_validate(values)

    def begin(self, *challengers: str, **changes: Any) -> dict[str, Any]:
        design = self.design(*challengers, **changes)
        return create(self.tunnel.settings, design, actor="me", at=self.tunnel.now)

    def look(self, seconds: float = 0.0) -> dict[str, Any]:
        self.write()
        return look(self.tunnel.settings, FAMILY, "trial", at=self.tunnel.later(seconds))

    def stop(self) -> dict[str, Any]:
        self.write()
        return stop(self.tunnel.settings, FAMILY, "trial", reason="enough", actor="me", at=self.tunnel.now)

    def ask(self, unit: str, at: datetime, hit: float | None = 1.0, delay: float = 60.0, **changes: Any) -> None:
        """One answer to `unit`, and a label after `delay` seconds."""
        route = self.tunnel.ledger.route(FAMILY)
        assert route is not None
        self.requests += 1
        answer = {
            "kind": "prediction", "request_id": f"r{self.requests}", "at": at.isoformat(), "family": FAMILY,
            "version": assign(route.table, unit).version, "generation": route.generation, "shadow": False,
            "direct": False, "unit_id": unit, "latency_ms": 5.0, "error": None, **changes,
        }  # fmt: skip
        self.rows.append(answer)
        if hit is not None:
            labelled = (at + timedelta(seconds=delay)).isoformat()
            said = {"kind": "feedback", "request_id": answer["request_id"], "at": labelled, "family": FAMILY}
            self.rows.append({**said, "labels": {"hit": hit}, "helpful": None})

    def crowd(self, count: int, rate: Callable[[str], float], start: int = 0, **changes: Any) -> None:
        """Units that ask once each, now; the label is 1 in the share of cases that `rate` gives for their variant."""
        route = self.tunnel.ledger.route(FAMILY)
        assert route is not None
        seen: Counter[str] = Counter()
        for number in range(start, start + count):
            version = assign(route.table, f"u{number}").version
            seen[version] += 1
            hit = float(int(seen[version] * rate(version)) > int((seen[version] - 1) * rate(version)))
            self.ask(f"u{number}", self.tunnel.now, hit, **changes)

    def write(self) -> None:
        days: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            days.setdefault(row["at"][:10], []).append(row)
        for day, rows in days.items():
            data = b"\n".join(json.dumps(row).encode() for row in rows) + b"\n"
            self.tunnel.store.put(f"predictions/{FAMILY}/{day}/000000.000000-test-{self.requests:06d}.jsonl", data)
        self.rows.clear()


@pytest.fixture
def lab(tunnel: Tunnel) -> Lab:
    return Lab(tunnel)


def test_a_better_challenger_is_found_and_all_traffic_goes_back(lab: Lab) -> None:
    begun = lab.begin()
    assert lab.tunnel.gateway.waited[-1] == begun["generation"]
    lab.crowd(4000, lambda version: 0.7 if version == lab.first else 0.5)
    early = lab.look(2 * HOUR - 60)
    assert early["verdict"] == "CONTINUE"
    assert sum(early["ratio"]["units"].values()) == 4000, "units are counted at once, outcomes when they are final"
    found = lab.look(120)
    assert (found["verdict"], found["version"]) == ("SHIP", lab.first)
    assert found["running"] and found["days"] == pytest.approx(2 / 24, abs=0.001)
    done = lab.stop()
    assert (done["verdict"], done["changed"]) == ("SHIP", True)
    route = lab.tunnel.ledger.route(FAMILY)
    assert route is not None and not route.table.arms and route.table.champion.version == lab.control
    assert lab.tunnel.gateway.waited[-1] == route.generation
    later = lab.look(24 * HOUR)
    assert not later["running"] and "stopped: enough" in later["ended"]
    assert later["days"] == pytest.approx(2 / 24, abs=0.01)


def test_a_look_is_a_decision_that_can_be_made_again(lab: Lab) -> None:
    lab.begin()
    lab.crowd(3000, lambda version: 0.7 if version == lab.first else 0.5)
    found = lab.look(3 * HOUR)
    engine = open_database(lab.tunnel.settings.database_url)
    assert read_decision(engine, found["decision"]).output["verdict"] == "SHIP"
    assert replay(engine, found["decision"])["same"]
    stricter = replay(engine, found["decision"], {"design.min_units": 5000})
    assert stricter["after"]["verdict"] == "CONTINUE"
    assert lab.look(5)["decision"] == found["decision"], "nothing is new within a minute"


def test_many_challengers_share_the_traffic(lab: Lab) -> None:
    lab.begin(lab.first, lab.second)
    lab.crowd(4500, lambda version: {lab.control: 0.5, lab.first: 0.52, lab.second: 0.7}[version])
    found = lab.look(3 * HOUR)
    assert (found["verdict"], found["version"]) == ("SHIP", lab.second)
    assert len(found["ratio"]["units"]) == 3
    assert names(lab.tunnel.settings, FAMILY) == ["trial"]


class TestWhatCounts:
    def known(self, lab: Lab) -> int:
        return sum(sums["n"] for sums in self.hits(lab).values())

    def hits(self, lab: Lab) -> dict[str, Any]:
        found = lab.look(10 * HOUR)
        engine = open_database(lab.tunnel.settings.database_url)
        return read_decision(engine, found["decision"]).input["metrics"]["hit"]["variants"]

    def test_a_late_label_and_a_late_answer_do_not(self, lab: Lab) -> None:
        lab.begin()
        now = lab.tunnel.now
        lab.ask("in-time", now, 1.0, delay=HOUR - 1)
        lab.ask("label-late", now, 1.0, delay=HOUR + 1)
        lab.ask("twice", now, 1.0)
        lab.ask("twice", now + timedelta(seconds=HOUR - 1), 0.0)
        lab.ask("twice", now + timedelta(seconds=HOUR + 1), 0.0)
        found = self.hits(lab)
        assert sum(sums["n"] for sums in found.values()) == 2
        assert sum(sums["m"] for sums in found.values()) == 3
        assert sum(sums["y"] for sums in found.values()) == 2

    def test_a_unit_whose_time_is_not_over_does_not(self, lab: Lab) -> None:
        lab.begin()
        lab.ask("ripe", lab.tunnel.now)
        lab.ask("young", lab.tunnel.now + timedelta(hours=9))
        assert self.known(lab) == 1

    @pytest.mark.parametrize("changes", [{"shadow": True}, {"direct": True}, {"generation": 1}])
    def test_what_the_split_did_not_decide_does_not(self, lab: Lab, changes: dict[str, Any]) -> None:
        lab.begin()
        lab.ask("unit", lab.tunnel.now, **changes)
        assert self.known(lab) == 0
        assert sum(lab.look()["ratio"]["units"].values()) == 0

    def test_a_unit_that_met_two_variants_does_not_and_many_void_it(self, lab: Lab) -> None:
        lab.begin()
        lab.crowd(3000, lambda version: 0.7 if version == lab.first else 0.5)
        lab.ask("u0", lab.tunnel.now, version=lab.first)
        lab.ask("u0", lab.tunnel.now, version=lab.control)
        assert self.known(lab) == 2999
        assert lab.look()["verdict"] == "SHIP"
        for number in range(60):
            lab.ask(f"x{number}", lab.tunnel.now, version=lab.first)
            lab.ask(f"x{number}", lab.tunnel.now, version=lab.control)
        assert lab.look(60)["verdict"] == "VOID"

    def test_labels_that_come_for_one_variant_only_are_told(self, lab: Lab) -> None:
        lab.begin()
        now = lab.tunnel.now
        route = lab.tunnel.ledger.route(FAMILY)
        assert route is not None
        for number in range(6000):
            mine = assign(route.table, f"u{number}").version == lab.first
            lab.ask(f"u{number}", now, float(number % 2) if number % 3 or not mine else None)
        found = lab.look(3 * HOUR)
        assert any("have one" in said for said in found["open"])

    def test_what_units_did_before_sharpens_the_answer(self, lab: Lab) -> None:
        route = lab.tunnel.ledger.route(FAMILY)
        assert route is not None
        for number in range(400):
            lab.ask(f"u{number}", lab.tunnel.now, float(number % 2))
        lab.tunnel.later(2 * HOUR)
        lab.begin(cuped=True)
        for number in range(400):
            lab.ask(f"u{number}", lab.tunnel.now, float(number % 2 if number % 10 else 1))
        found = lab.look(3 * HOUR)
        assert found["comparisons"][0]["saved"] > 0.5


class TestBeginning:
    def test_it_can_be_repeated_and_goes_on_where_it_stopped(self, lab: Lab) -> None:
        lab.tunnel.gateway.stuck = True
        with pytest.raises(gateway.GatewayError):
            lab.begin()
        lab.tunnel.gateway.stuck = False
        again, third = lab.begin(), lab.begin()
        assert again == third
        route = lab.tunnel.ledger.route(FAMILY)
        assert route is not None and route.generation == again["generation"]

    def test_it_goes_on_after_a_death_between_two_steps(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        real = lab.tunnel.ledger.__class__.append

        def dies(self: Any, family: str, event: Any, **fields: Any) -> bool:
            if event.value == "experiment_started":
                raise KeyboardInterrupt
            return real(self, family, event, **fields)

        with monkeypatch.context() as patch:
            patch.setattr(lab.tunnel.ledger.__class__, "append", dies)
            with pytest.raises(KeyboardInterrupt):
                lab.begin()
        split = lab.tunnel.ledger.route(FAMILY)
        assert split is not None and split.table.arms
        assert lab.begin()["generation"] == split.generation

    def test_a_design_never_changes(self, lab: Lab) -> None:
        lab.begin()
        with pytest.raises(ExperimentError, match="another experiment"):
            lab.begin(mde=0.04)
        lab.stop()
        with pytest.raises(ExperimentError, match="was stopped"):
            lab.begin()

    def test_only_one_thing_has_the_traffic(self, lab: Lab) -> None:
        lab.begin()
        with pytest.raises(ExperimentError, match="under way"):
            lab.begin(lab.second, name="other")
        with pytest.raises(ReleaseError, match="experiment trial of tiny has the traffic"):
            lab.tunnel.begin(lab.second, run="release/other")

    def test_what_may_not_serve_may_not_be_tried(self, lab: Lab) -> None:
        backfilled = lab.tunnel.register(run="old", backfill=True)["model_version"]
        with pytest.raises(ExperimentError, match="backfill"):
            lab.begin(backfilled)
        with pytest.raises(UserError, match="no version"):
            lab.begin("9.9.9")
        design = lab.design().to_json()
        design["variants"].reverse()
        with pytest.raises(ExperimentError, match="must be what serves"):
            create(lab.tunnel.settings, Design.model_validate(design), actor="me", at=lab.tunnel.now)

    def test_what_learned_from_recalled_data_may_not_be_tried(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        def recalled(settings: Any, family: str, version: str) -> None:
            raise DataError(f"dataset {version} of {family} was recalled")

        monkeypatch.setattr("include.release.experiments.trial.refuse_recalled", recalled)
        with pytest.raises(DataError, match=r"dataset 1.0.0 of tiny was recalled"):
            lab.begin()
        route = lab.tunnel.ledger.route(FAMILY)
        assert route is not None and not route.table.arms

    def test_two_that_begin_at_the_same_moment_do_not_both(self, lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
        from include.release.experiments import trial

        real = trial._arms

        def slow(*arguments: Any) -> Any:
            found = real(*arguments)
            monkeypatch.setattr(trial, "_arms", real)
            lab.begin(lab.second, name="other")
            return found

        monkeypatch.setattr(trial, "_arms", slow)
        with pytest.raises(StaleRoute):
            lab.begin()


class TestEnding:
    def test_a_rollback_ends_it(self, lab: Lab) -> None:
        lab.begin(lab.first, lab.second)
        lab.crowd(50, lambda _: 0.5)
        back = revert(lab.tunnel.settings, FAMILY, to=None, reason="alarm", actor="me", at=lab.tunnel.later(60))
        assert back["to"] == lab.control
        found = lab.look(HOUR)
        assert not found["running"] and "alarm" in found["ended"]
        done = lab.stop()
        assert not done["changed"]

    def test_a_log_that_cannot_be_read_does_not_keep_the_traffic(self, lab: Lab) -> None:
        lab.begin()
        day = lab.tunnel.now.date().isoformat()
        lab.tunnel.store.put(f"predictions/{FAMILY}/{day}/bad.jsonl", b"not a row\n")
        done = lab.stop()
        assert done["changed"] and done["verdict"] is None
        assert "not a row" in done["note"]
        assert lab.stop() == done

    def test_what_was_never_declared_is_told(self, lab: Lab) -> None:
        with pytest.raises(ExperimentError, match="not declared"):
            lab.look()
        with pytest.raises(ExperimentError, match="not declared"):
            lab.stop()
