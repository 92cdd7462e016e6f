"""A family of many inputs on a real gateway: both protocols, feedback, and `windtunnel ask`."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from include.cli.main import main
from include.data import datasets
from include.data.catalogue import Catalogue, VersionEntry
from include.families.demand_forecasting.family import DemandForecasting
from include.families.demand_forecasting.features import INPUTS
from include.families.demand_forecasting.history import Forecasts, forecasts
from include.frameworks.sklearn_models import save_estimator
from include.release.routing import Role, Variant
from include.serving.package import publish, seal
from include.settings import Settings
from include.spec import load_family
from include.store.database import open_database
from tests.fakes.bicycle_hours import BicycleHours
from tests.serving.conftest import Gateways, RunningGateway, make_world

FAMILY = "demand_forecasting"
HOURS = BicycleHours()


@pytest.fixture(scope="module")
def asked() -> Forecasts:
    return forecasts(HOURS, "test")


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[RunningGateway, Settings]]:
    """A gateway on which a few trees of scikit-learn serve, beside another family."""
    folder = tmp_path_factory.mktemp("forecasts")
    settings = Settings.from_env({"WINDTUNNEL_HOME": str(folder / "windtunnel")})
    world, gateways = make_world(settings, folder), Gateways(settings, folder)
    code, spec, package = DemandForecasting(), load_family(FAMILY), folder / "package"
    arrays = code.arrays(spec, HOURS, "train")
    trees = code.estimator(spec, spec.hyperparameters, 1).set_params(max_iter=8)
    save_estimator(trees.fit(arrays.features, arrays.targets, sample_weight=arrays.weights), folder / "best.skops")
    package.mkdir()
    facts = code.export(spec, HOURS, spec.hyperparameters, folder / "best.skops", package)
    digest = seal(package, FAMILY, spec.code, facts).digest
    publish(world.store, package)
    entry = VersionEntry(FAMILY, "1.0.0", "f", "k", datetime(2026, 11, 2, tzinfo=UTC))
    Catalogue(open_database(settings.database_url)).add_version(entry)
    world.route(Variant(role=Role.CHAMPION, version="1.0.0", digest=digest), family=FAMILY)
    world.route(world.model("2.0.0"))
    gateway = gateways()
    gateway.wait_generation(1, FAMILY)
    gateway.wait_generation(1)
    yield gateway, settings
    gateways.end()
    open_database.cache_clear()


@pytest.fixture
def windtunnel(
    served: tuple[RunningGateway, Settings], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Runs `windtunnel ask demand_forecasting ...` beside that gateway; exit status, output, errors."""
    gateway, settings = served
    for name, value in settings.to_env().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WINDTUNNEL_GATEWAY_URL", gateway.url)
    monkeypatch.setattr(datasets, "open_dataset", lambda *_: HOURS)

    def run(*arguments: str) -> tuple[int, str, str]:
        code = main(["ask", FAMILY, *arguments])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def _rentals(gateway: RunningGateway, inputs: dict[str, Any]) -> float:
    answer = gateway.client.post("/v1/ask", json={"family": FAMILY, "inputs": inputs})
    assert answer.status_code == 200, answer.text
    return float(answer.json()["rentals"])


def test_both_protocols_give_the_same_forecast_and_take_the_truth(
    served: tuple[RunningGateway, Settings], asked: Forecasts
) -> None:
    gateway, _ = served
    declared = gateway.client.get(f"/v2/models/{FAMILY}").json()
    assert {item["name"]: item["datatype"] for item in declared["inputs"]} == dict(INPUTS)
    assert declared["outputs"] == [{"name": "rentals", "datatype": "FP32", "shape": [-1]}]
    rows = [30, 31, 40]
    tensors = [
        {"name": name, "datatype": kind, "shape": [3], "data": [asked.inputs[name][row] for row in rows]}
        for name, kind in INPUTS.items()
    ]
    told = gateway.client.post(f"/v2/models/{FAMILY}/infer", json={"inputs": tensors}).json()
    assert told["outputs"][0]["data"] == pytest.approx([_rentals(gateway, asked.request(row)) for row in rows])
    one = gateway.client.post("/v1/ask", json={"family": FAMILY, "inputs": asked.request(30)}).json()
    feedback = {"request_id": one["request_id"], "truth": {"rentals": float(asked.rentals[30])}}
    labelled = gateway.client.post("/v1/feedback", json=feedback)
    assert labelled.status_code == 200, labelled.text
    gateway.wait_for(lambda: _stats(gateway)["labels"])


def _stats(gateway: RunningGateway) -> dict[str, Any]:
    found: dict[str, Any] = gateway.stats(family=FAMILY)["variants"]["champion"]
    return found


def test_a_question_of_words_is_none_for_it(served: tuple[RunningGateway, Settings], asked: Forecasts) -> None:
    gateway, _ = served
    wrong = gateway.client.post("/v1/ask", json={"family": FAMILY, "question": "How many?"})
    assert wrong.status_code == 422 and "hour" in wrong.json()["error"]
    wrong = gateway.client.post("/v1/ask", json={"family": FAMILY, "inputs": {**asked.request(0), "hour": 24}})
    assert 400 <= wrong.status_code < 500 and "hour is 24" in wrong.json()["error"]
    without = gateway.client.post("/v1/ask", json={"inputs": asked.request(0)})
    assert 400 <= without.status_code < 500  # two families serve: which is meant?


def test_it_is_asked_by_name_and_value(
    served: tuple[RunningGateway, Settings], windtunnel: Any, asked: Forecasts, tmp_path: Path
) -> None:
    gateway, _ = served
    request = asked.request(5)
    words = [f"{name}={str(value).lower() if isinstance(value, bool) else value}" for name, value in request.items()]
    code, out, _ = windtunnel(*words, "--json")
    assert code == 0 and json.loads(out)["rentals"] == pytest.approx(_rentals(gateway, request))
    assert set(json.loads(out)) > {"request_id", "model_version", "variant"}
    (tmp_path / "inputs.json").write_text(json.dumps(request))
    code, out, _ = windtunnel("weather=light rain or snow", "--file", str(tmp_path / "inputs.json"), "--json")
    wet = _rentals(gateway, {**request, "weather": "light rain or snow"})
    assert json.loads(out)["rentals"] == pytest.approx(wet)


def test_an_example_is_shown_beside_its_truth(windtunnel: Any, asked: Forecasts) -> None:
    code, out, err = windtunnel("--example")
    assert code == 0, err
    assert f"(was {asked.rentals[0]:.4g})" in out and f"hour {asked.inputs['hour'][0]}" in out
    assert "version 1.0.0 (champion)" in out
    found = json.loads(windtunnel("--example", asked.ids[7], "--json")[1])
    assert (found["inputs"], found["truth"]) == (asked.request(7), {"rentals": asked.rentals[7]})
    code, _, err = windtunnel("--example", "no-such-hour")
    assert code == 2 and "no example 'no-such-hour'" in err


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "hour (INT64), weekday (INT64)"),
        (("How many?",), "'How many?' gives no input"),
        (("minute=3",), "'minute=3' gives no input"),
        (("hour=noon",), "'noon' is no INT64"),
        (("holiday=maybe",), "'maybe' is no BOOL"),
        (("hour=8", "hour=9"), "hour is given twice"),
        (("hour=8",), "is missing"),
        (("--file", "/nowhere.json"), "cannot read the inputs"),
        (("--file", __file__), "not JSON"),
    ],
)
def test_what_cannot_be_asked_is_told(windtunnel: Any, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = windtunnel(*arguments)
    assert (code, out) == (2, "") and said in err


def test_the_other_family_takes_its_one_input_as_it_is(served: tuple[RunningGateway, Settings]) -> None:
    from include.cli.gateway import inputs
    from include.cli.questions import read_inputs

    declared = inputs(served[0].url, "echo")
    assert read_inputs(["a=b, why?"], declared) == {"question": "a=b, why?"}
    assert read_inputs(["question=a=b"], declared) == {"question": "a=b"}


def test_a_family_for_which_nothing_serves_is_told_how_to_get_one(windtunnel: Any, capsys: Any) -> None:
    assert main(["ask", "compliance_qa", "Who?"]) == 2
    assert "windtunnel train compliance_qa --release" in capsys.readouterr().err
