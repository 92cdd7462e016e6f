"""The page: whole for every kind of version, alone in its file, and nothing that somebody typed becomes markup."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest

from include.dossier.html import Html, code, facts, table, text
from include.dossier.intervals import edge_of, interval_plot
from include.dossier.page import render
from include.release.ledger import Event
from tests.dossier.conftest import leave_run, read, refused, say, stopped
from tests.fakes.tiny_family import FAMILY
from tests.release.conftest import Tunnel

HOSTILE = "\"><script>alert('x')</script><img src=x onerror=alert(1)>"
_VOID = {"meta", "img", "br", "line", "circle"}


class Page(HTMLParser):
    """What a browser would make of the page, as far as it matters here."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.headings: list[str] = []
        self.open: list[str] = []
        self.said = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in _VOID:
            self.open.append(tag)
        if tag in {"h1", "h2", "h3"}:
            self.headings.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.said += data


def check(page: str) -> Page:
    """Well-formed, with a heading for everything, a caption on every table, and nothing that runs or is fetched."""
    found = Page(page)
    assert found.open == []
    assert found.headings[0] == "h1" and found.headings.count("h1") == 1
    assert found.tags.count("table") == found.tags.count("caption") == found.tags.count("thead")
    assert not {"script", "img", "iframe", "form", "object", "base"} & set(found.tags)
    names = {name for name, _ in found.attributes}
    assert not any(name.startswith("on") for name in names) and "src" not in names
    assert not any(value and "://" in value for name, value in found.attributes if name == "href")
    return found


def test_a_version_that_shipped(tunnel: Tunnel) -> None:
    made = tunnel.register(run="train__tiny/r1")
    leave_run(tunnel, "train__tiny/r1", made["digest"])
    rollout = tunnel.begin(made["model_version"])["rollout"]
    for stage in ("shadow", "canary", "full"):
        tunnel.pass_stage(rollout, stage)
    tunnel.promote(rollout)
    page = check(render(read(tunnel)))
    for said in ("100% of the traffic", "promoted", "0 of 400", "beats_guess", "164", "12 steps (9.5 s) done again"):
        assert said in page.said, said
    assert page.tags.count("svg") == 2  # the third gate had no champion to compare with


def test_one_that_was_stopped_one_that_was_refused_and_a_baseline(tunnel: Tunnel) -> None:
    version, digest = stopped(tunnel), refused(tunnel)
    assert "rolled back in canary" in check(render(read(tunnel, version))).said
    assert "refused by its gates: FAIL" in check(render(read(tunnel, digest[:12]))).said
    assert "A baseline is not trained." in check(render(read(tunnel, "0.1.0"))).said


def test_a_page_of_what_is_gone_says_so(tunnel: Tunnel) -> None:
    version = tunnel.fly()
    for key in list(tunnel.store.keys("")):
        tunnel.store.delete(key)
    page = check(render(read(tunnel, version)))
    assert "Not as it should be" in page.said and "the model package is gone" in page.said


def test_what_people_and_data_say_stays_text(tunnel: Tunnel) -> None:
    version = tunnel.register(run=f"train__tiny/{HOSTILE}", signature={"inputs": {HOSTILE: HOSTILE}, "outputs": {}})[
        "model_version"
    ]
    rollout = tunnel.begin(version)["rollout"]
    tunnel.pass_stage(rollout, "shadow")
    say(tunnel, "pause", HOSTILE, actor=HOSTILE)
    say(tunnel, "abort", HOSTILE, actor=HOSTILE)
    record = {"reason": HOSTILE, "why": [HOSTILE]}
    tunnel.ledger.append(
        FAMILY, Event.ARCHIVED, key="x", actor=HOSTILE, at=tunnel.now, model_version=version, record=record
    )
    drill = {"fault": HOSTILE, "outcome": HOSTILE, "stopped_at": HOSTILE}
    tunnel.ledger.append(FAMILY, Event.DRILLED, key="d", actor=HOSTILE, at=tunnel.now, record=drill)
    page = check(render(read(tunnel, version)))
    assert page.said.count(HOSTILE) >= 8


def test_other_versions_are_linked_only_where_there_is_something_to_link_to(tunnel: Tunnel) -> None:
    found = read(tunnel, tunnel.fly())
    assert "a" not in check(render(found)).tags
    linked = check(render(found, links=lambda version: f"./{version}"))
    assert ("href", "./0.1.0") in linked.attributes


class TestPieces:
    def test_everything_is_escaped_once(self) -> None:
        assert text("<b>") == "&lt;b&gt;" and text(Html("<b>")) == "<b>" and text(None) == "-"
        assert code("a'b") == "<code>a&#x27;b</code>"
        assert "&lt;i&gt;" in facts([("<i>", "<i>"), ("left out", None), ("and", "")])
        assert "left out" not in facts([("left out", None)])

    def test_an_empty_table_is_nothing(self) -> None:
        assert table("none", ["a"], []) == ""

    @pytest.mark.parametrize(
        ("gate", "edge"),
        [
            ({"operator": "gte", "threshold": 0.6, "value": 0.7}, 0.6),
            ({"operator": "gt", "margin": 0.05, "value": 0.7}, -0.05),
            ({"operator": "lte", "threshold": 150, "margin": 10, "value": 12}, 160.0),
            ({"operator": "eq", "threshold": 1, "value": 1}, None),
            ({"operator": "gte", "threshold": 0.6, "value": None}, None),
        ],
    )
    def test_the_edge_is_where_the_gate_turns(self, gate: dict[str, float], edge: float | None) -> None:
        assert edge_of(gate) == edge

    def test_an_interval_lies_on_its_side_of_the_edge(self) -> None:
        plot = interval_plot({"operator": "gte", "threshold": 0.0, "value": 0.5, "low": 0.25, "high": 1.0})
        assert 'class="edge" x1="6.0"' in plot and 'cx="70.0"' in plot
