"""Bad data was published: who learned from it, how to go back, and that nobody learns from it again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from include.data.recalls import refuse_recalled
from include.errors import DataError
from include.release.ledger import Event
from tests.cli.conftest import Result
from tests.data.conftest import FAMILY, ask
from tests.lineage.conftest import Life

Windtunnel = Callable[..., Result]
WHY = ("--reason", "rules were mixed up")


def recall(windtunnel: Windtunnel, version: str, *more: str) -> Result:
    return windtunnel("recall", f"{FAMILY}:data@{version}", *WHY, *more)


class TestImpact:
    def test_a_version_is_recalled_with_all_that_hold_what_it_brought(self, windtunnel: Windtunnel, life: Life) -> None:
        result = recall(windtunnel, "2.0.0", "--json")
        made = result.json
        assert [held["delivery"] for held in made["recall"]["deliveries"]] == ["2026-10-19"]
        assert made["dataset_versions"] == ["2.0.0", "2.0.1"]
        assert [(model["version"], model["share"]) for model in made["models"]] == [("1.1.0", 0.95), ("1.2.0", 0.05)]
        assert made["live_share"] == 1.0
        assert made["target"] == "1.0.0"
        assert result.code == 3

    def test_the_first_version_takes_everything_with_it_and_nothing_can_take_over(
        self, windtunnel: Windtunnel, life: Life
    ) -> None:
        result = recall(windtunnel, "1.0.0")
        assert result.code == 3
        assert "no version can take over" in result.out
        assert "0.1.0 holds recalled data" in result.out
        assert f"windtunnel train {FAMILY}" in result.out
        assert recall(windtunnel, "1.0.0", "--json").json["command"] is None

    def test_one_delivery_is_recalled_wherever_it_is(self, windtunnel: Windtunnel, life: Life) -> None:
        made = recall(windtunnel, "2.0.1", "--delivery", "2026-10-26", "--json").json
        assert made["dataset_versions"] == ["2.0.1"]
        assert [model["version"] for model in made["models"]] == ["1.2.0"]
        assert made["live_share"] == pytest.approx(0.05)
        assert made["target"] == "1.1.0"  # the champion: the rollout ends, the rest stays

    def test_it_is_in_models_that_started_from_the_weights_of_one_that_learned_it(
        self, windtunnel: Windtunnel, life: Life
    ) -> None:
        life.model("1.3.0", "1.0.0", origins={"init_from": {"version": "1.2.0", "data": ["2.0.1"]}})
        made = recall(windtunnel, "2.0.1", "--delivery", "2026-10-26", "--json").json
        assert [model["version"] for model in made["models"]] == ["1.2.0", "1.3.0"]

    def test_one_row_is_recalled_wherever_it_is(self, windtunnel: Windtunnel, life: Life) -> None:
        made = recall(windtunnel, "2.0.1", "--row", "q-030", "--json").json
        [row] = made["recall"]["rows"]
        assert (row["table"], row["delivery"]) == ("questions", "2026-10-19")
        assert made["dataset_versions"] == ["2.0.0", "2.0.1"]

    def test_a_corrected_row_is_not_the_recalled_one(self, windtunnel: Windtunnel, life: Life) -> None:
        life.source.add("2026-10-26", {}, [ask(70, "AA-1.2"), ask(71, "AA-1.3")])
        assert life.pipeline.run("w4", "2026-10-20", "2026-10-27")["dataset_version"] == "2.0.2"
        assert recall(windtunnel, "2.0.1", "--row", "q-070", "--json").json["dataset_versions"] == ["2.0.1"]

    def test_a_model_in_the_shadow_counts_as_in_the_traffic(self, windtunnel: Windtunnel, life: Life) -> None:
        life.serve("1.0.0", "1.2.0", shadow=True)
        result = recall(windtunnel, "2.0.1", "--delivery", "2026-10-26", "--json")
        assert (result.code, result.json["live_share"], result.json["serving"]) == (3, 0.0, ["1.2.0"])

    def test_every_arm_of_an_experiment_has_its_share(self, windtunnel: Windtunnel, life: Life) -> None:
        life.experiment("1.1.0", "1.2.0", "1.0.0")
        made = recall(windtunnel, "2.0.0", "--dry-run", "--json").json
        assert [(model["version"], model["share"]) for model in made["models"]] == [("1.1.0", 0.5), ("1.2.0", 0.25)]

    def test_a_package_that_is_gone_is_no_target(self, windtunnel: Windtunnel, life: Life) -> None:
        life.broken.add("100" * 8)
        made = recall(windtunnel, "2.0.0", "--json").json
        assert made["target"] == "0.1.0"
        assert any("1.0.0 does not load" in why for why in made["passed_over"])

    def test_what_another_recall_holds_is_no_target(self, windtunnel: Windtunnel, life: Life) -> None:
        life.model("1.3.0", "2.0.0")
        life.serve("1.3.0")
        recall(windtunnel, "2.0.1", "--delivery", "2026-10-12")
        made = recall(windtunnel, "2.0.0", "--json").json
        assert made["target"] is None

    def test_nothing_is_recorded_by_a_dry_run(self, windtunnel: Windtunnel, life: Life) -> None:
        result = windtunnel("recall", f"{FAMILY}@2.0.0", "--dry-run")
        assert "would be recalled" in result.out and result.code == 3
        refuse_recalled(life.settings, FAMILY, "2.0.0")


class TestReverting:
    def test_the_command_that_is_shown_takes_the_traffic_back(self, windtunnel: Windtunnel, life: Life) -> None:
        command = recall(windtunnel, "2.0.0", "--json").json["command"]
        assert command == f"windtunnel rollback {FAMILY} --to 1.0.0 --reason 'recall of {FAMILY}:data@2.0.0'"
        assert command in recall(windtunnel, "2.0.0").out
        assert windtunnel(*command.replace("'", "").split(" ", 6)[1:]).code == 0
        route = life.ledger.route(FAMILY)
        assert route is not None and (route.table.champion.version, route.table.challenger) == ("1.0.0", None)
        assert recall(windtunnel, "2.0.0").code == 0

    def test_revert_does_it_at_once(self, windtunnel: Windtunnel, life: Life) -> None:
        result = recall(windtunnel, "2.0.0", "--revert", "--json")
        assert (result.code, result.json["reverted"]["to"], result.json["live_share"]) == (0, "1.0.0", 0.0)
        back = life.ledger.entries(FAMILY, frozenset({Event.ROLLED_BACK}))[0]
        assert "rules were mixed up" in back.record["reason"]

    def test_a_rollback_without_a_target_goes_past_recalled_data(self, windtunnel: Windtunnel, life: Life) -> None:
        life.serve("1.2.0")  # now 1.1.0 served last, and is recalled with 2.0.0
        recall(windtunnel, "2.0.0")
        assert windtunnel("rollback", FAMILY, "--reason", "errors", "--json").json["to"] == "1.0.0"

    def test_a_person_may_go_back_to_recalled_data_by_name(self, windtunnel: Windtunnel, life: Life) -> None:
        life.serve("1.2.0")
        recall(windtunnel, "2.0.0")
        assert windtunnel("rollback", FAMILY, "--to", "1.1.0", "--reason", "it is an emergency").code == 0

    def test_an_experiment_ends_and_its_champion_takes_over(self, windtunnel: Windtunnel, life: Life) -> None:
        life.experiment("1.1.0", "1.2.0", "1.0.0")
        result = recall(windtunnel, "2.0.1", "--delivery", "2026-10-26", "--revert", "--json")
        assert (result.code, result.json["reverted"]["to"]) == (0, "1.1.0")
        assert [model["served"] for model in result.json["models"]] == [True]

    def test_without_a_safe_target_nothing_is_moved(self, windtunnel: Windtunnel, life: Life) -> None:
        result = recall(windtunnel, "1.0.0", "--revert")
        route = life.ledger.route(FAMILY)
        assert result.code == 3 and route is not None and route.generation == 5

    def test_data_that_nobody_serves_needs_no_revert(self, windtunnel: Windtunnel, life: Life) -> None:
        life.serve("1.1.0")
        result = recall(windtunnel, "2.0.1", "--delivery", "2026-10-26", "--revert")
        assert result.code == 0 and "no model that was trained on it is in the traffic" in result.out


class TestRefusal:
    def test_nobody_trains_on_a_version_that_holds_recalled_data(self, windtunnel: Windtunnel, life: Life) -> None:
        recall(windtunnel, "2.0.0")
        refuse_recalled(life.settings, FAMILY, "1.0.0")
        for version in ("2.0.0", "2.0.1"):
            with pytest.raises(DataError, match=rf"dataset {version} of compliance_qa holds recalled data") as caught:
                refuse_recalled(life.settings, FAMILY, version)
            assert "rules were mixed up" in caught.value.message
            assert "--lift" in caught.value.hint

    def test_it_is_not_published_again_nor_under_a_new_number(self, windtunnel: Windtunnel, life: Life) -> None:
        recall(windtunnel, "2.0.0")
        with pytest.raises(DataError, match="holds recalled data"):
            life.pipeline.run("again")
        life.source.add("2026-11-02", {}, [ask(90, "AA-1.1")])
        with pytest.raises(DataError, match="delivery 2026-10-19"):
            life.pipeline.run("more")

    def test_a_corrected_delivery_may_be_published(self, windtunnel: Windtunnel, life: Life) -> None:
        recall(windtunnel, "2.0.0")
        life.source.add("2026-10-19", {"CC": ["Rule 0 of CC."]}, [ask(30, "CC-1.1", answer="Corrected.")])
        made = life.pipeline.run("corrected")
        refuse_recalled(life.settings, FAMILY, made["dataset_version"])

    def test_a_version_that_brought_nothing_is_refused_by_its_number(self, windtunnel: Windtunnel, life: Life) -> None:
        split = life.pipeline.spec.split.model_copy(update={"seed": 8})
        life.pipeline.spec = life.pipeline.spec.model_copy(update={"split": split})
        made = life.pipeline.run("dealt anew")
        assert recall(windtunnel, made["dataset_version"], "--json").json["recall"]["deliveries"] == []
        with pytest.raises(DataError, match="holds recalled data"):
            life.pipeline.run("dealt anew again")

    def test_a_lifted_recall_refuses_nothing_and_can_be_made_again(self, windtunnel: Windtunnel, life: Life) -> None:
        recall(windtunnel, "2.0.0")
        assert recall(windtunnel, "2.0.0", "--lift").code == 0
        refuse_recalled(life.settings, FAMILY, "2.0.1")
        assert not life.pipeline.run("again")["new"]
        assert recall(windtunnel, "2.0.0", "--json").json["recorded"]
        with pytest.raises(DataError):
            refuse_recalled(life.settings, FAMILY, "2.0.1")

    def test_the_ledger_is_told_once(self, windtunnel: Windtunnel, life: Life) -> None:
        recall(windtunnel, "2.0.0")
        assert not recall(windtunnel, "2.0.0", "--json").json["recorded"]
        [entry] = life.ledger.entries(FAMILY, frozenset({Event.DATASET_RECALLED}))
        assert entry.record["dataset_version"] == "2.0.0" and "via windtunnel recall" in entry.actor
        assert entry.at <= datetime.now(UTC)
        assert "dataset_recalled" in windtunnel("ledger", FAMILY).out


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("9.9.9", *WHY), "there are: 1.0.0, 2.0.0, 2.0.1"),
            (("2.0.0",), "say why"),
            (("2.0.0", *WHY, "--delivery", "2020-01-01"), "it has: 2026-10-12, 2026-10-19"),
            (("2.0.0", *WHY, "--row", "q-999"), "questions by question_id"),
            (("2.0.0", *WHY, "--lift"), "nothing is recalled"),
            (("2.0.0", *WHY, "--lift", "--revert"), "--lift goes with neither"),
        ],
    )
    def test_they_are_told(self, windtunnel: Windtunnel, life: Life, arguments: tuple[str, ...], words: str) -> None:
        version, *more = arguments
        result = windtunnel("recall", f"{FAMILY}:data@{version}", *more)
        assert result.code == 2 and words in result.err

    def test_a_model_is_no_dataset(self, windtunnel: Windtunnel) -> None:
        assert "is no dataset version" in windtunnel("recall", f"{FAMILY}:delivery@2026-10-12", *WHY).err
        assert "is no dataset version" in windtunnel("recall", FAMILY, *WHY).err
