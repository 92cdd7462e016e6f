"""From a model to its sources and from a delivery to the traffic: both directions, and nothing invented."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from include.errors import UserError
from include.lineage.reference import Kind, Reference, parse_reference
from tests.cli.conftest import Result
from tests.data.conftest import FAMILY, ask
from tests.lineage.conftest import Life

Windtunnel = Callable[..., Result]


def kinds(document: dict[str, object]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for node in document["nodes"]:  # type: ignore[attr-defined]
        found.setdefault(node["kind"], []).append(node["id"])
    return found


class TestUp:
    def test_from_a_model_to_its_deliveries(self, windtunnel: Windtunnel, life: Life) -> None:
        found = kinds(windtunnel("lineage", f"{FAMILY}@1.1.0", "--up", "--json").json)
        assert found["model"] == [f"{FAMILY}@1.1.0"]
        assert found["dataset"] == [f"{FAMILY}:data@2.0.0"]
        assert [name.split("#")[0] for name in found["delivery"]] == [
            f"{FAMILY}:delivery@2026-10-12",
            f"{FAMILY}:delivery@2026-10-19",
        ]
        assert len(found["validation"]) == 2 and len(found["source"]) == 1
        assert "deployment" not in found

    def test_the_tree_is_for_people(self, windtunnel: Windtunnel, life: Life) -> None:
        shown = windtunnel("lineage", f"{FAMILY}@1.1.0", "--up").out
        for words in (
            "made from  compliance_qa@1.1.0",
            "run train/2; data 2.0.0",
            "rate 0.2",
            "major: new in document_id: CC",
            "by read -> validate -> deduplicate -> split",
            "20 clean, 5 in quarantine (duplicate 1, ",
            "2026-10-19 of source-",
        ):
            assert words in shown
        assert "went into" not in shown

    def test_edges_lead_from_origin_to_result(self, windtunnel: Windtunnel, life: Life) -> None:
        made = windtunnel("lineage", f"{FAMILY}@1.0.0", "--up", "--json").json
        assert {"from": f"{FAMILY}:data@1.0.0", "to": f"{FAMILY}@1.0.0"} in made["edges"]
        ids = {node["id"] for node in made["nodes"]}
        assert {end for edge in made["edges"] for end in edge.values()} == ids


class TestDown:
    def test_from_a_delivery_to_the_traffic(self, windtunnel: Windtunnel, life: Life) -> None:
        found = kinds(windtunnel("lineage", f"{FAMILY}:delivery@2026-10-19", "--down", "--json").json)
        assert found["dataset"] == [f"{FAMILY}:data@2.0.0", f"{FAMILY}:data@2.0.1"]
        assert found["model"] == [f"{FAMILY}@1.1.0", f"{FAMILY}@1.2.0"]
        assert len(found["deployment"]) == 3  # 1.1.0 alone, 1.1.0 with a challenger, the challenger

    def test_who_served_when_and_how_much(self, windtunnel: Windtunnel, life: Life) -> None:
        made = windtunnel("lineage", f"{FAMILY}@1.0.0", "--down", "--json").json
        served = [node for node in made["nodes"] if node["kind"] == "deployment"]
        assert [(node["role"], node["share"], node["until"] is None) for node in served] == [
            ("challenger", 0.05, False),
            ("champion", 1.0, False),
        ]
        shown = windtunnel("lineage", FAMILY, "--down").out
        assert "champion, 100% of the traffic, from 2026-11-02 12:00 until 2026-11-02 13:00: step 4" in shown
        assert "champion (canary), 95% of the traffic, from 2026-11-02 13:00 and does now: step 5" in shown

    def test_what_never_served_says_so(self, windtunnel: Windtunnel, life: Life) -> None:
        life.model("9.0.0", "2.0.1")
        assert "never served" in windtunnel("lineage", f"{FAMILY}@9.0.0").out

    def test_the_same_name_with_other_content_is_another_delivery(self, windtunnel: Windtunnel, life: Life) -> None:
        life.source.add("2026-10-26", {}, [ask(70, "AA-1.2")])
        life.pipeline.run("w3 corrected", "2026-10-20", "2026-10-27")
        made = windtunnel("lineage", f"{FAMILY}:delivery@2026-10-26", "--json").json
        assert len(made["roots"]) == 2
        assert [node["id"] for node in made["nodes"] if node["kind"] == "dataset"] == [
            f"{FAMILY}:data@2.0.1",
            f"{FAMILY}:data@2.0.2",
        ]


class TestReferences:
    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("a_b", Reference("a_b", Kind.MODEL, None)),
            ("a_b@1.2.0", Reference("a_b", Kind.MODEL, "1.2.0")),
            ("a_b:data", Reference("a_b", Kind.DATA, None)),
            ("a_b:data@1.2.0", Reference("a_b", Kind.DATA, "1.2.0")),
            ("a_b:delivery@2026-10-12", Reference("a_b", Kind.DELIVERY, "2026-10-12")),
        ],
    )
    def test_what_can_be_named(self, text: str, expected: Reference) -> None:
        assert parse_reference(text) == expected

    @pytest.mark.parametrize("text", ["", "@1.0.0", "a:b@1", "a@", "a@1@2", "A@1", "a:delivery", "a b"])
    def test_what_names_nothing_is_the_users_error(self, text: str) -> None:
        with pytest.raises(UserError, match=r"names nothing|which delivery") as caught:
            parse_reference(text)
        assert "such as" in caught.value.hint

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            (f"{FAMILY}@7.0.0", ["no model version '7.0.0'", "0.1.0, 1.0.0, 1.1.0, 1.2.0"]),
            (f"{FAMILY}@2.0.0", [f"a dataset version of that number: {FAMILY}:data@2.0.0"]),
            (f"{FAMILY}:data@1.1.0", ["no dataset version '1.1.0'", "1.0.0, 2.0.0, 2.0.1"]),
            (f"{FAMILY}:delivery@2025-01-01", ["holds a delivery '2025-01-01'", "2026-10-12, 2026-10-19, 2026-10-26"]),
            ("no_such_family@1.0.0", ["there is no family 'no_such_family'"]),
        ],
    )
    def test_an_error_lists_what_there_is(
        self, windtunnel: Windtunnel, life: Life, text: str, words: list[str]
    ) -> None:
        result = windtunnel("lineage", text)
        assert result.code == 2
        assert all(word in result.err for word in words)

    def test_nothing_yet(self, windtunnel: Windtunnel) -> None:
        assert "nothing serves" in windtunnel("lineage", FAMILY).err
        assert "there is none yet" in windtunnel("lineage", f"{FAMILY}:data").err


def test_kept_events_are_told_one_per_line(windtunnel: Windtunnel, life: Life) -> None:
    assert windtunnel("lineage", FAMILY, "--events").out == ""  # the life was made without step processes
