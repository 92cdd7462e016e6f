"""The demo, step by step: start, train, release under traffic, ask."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from include.cli import gateway
from include.cli.demo.plan import DemoPlan
from include.cli.demo.record import DemoRecord, stage_records
from include.cli.demo.traffic import Traffic
from include.cli.follow import Snapshot, TaskFailed, failure, follow
from include.cli.output import Output
from include.cli.stack import ProgressLines, client
from include.cli.views import make_view
from include.embedded.airflow_api import AirflowApi, Run
from include.embedded.airflow_settings import apply_settings, read_settings
from include.embedded.processes import MARK
from include.embedded.services import stack_environment, stack_settings
from include.embedded.stack import Stack, StackError, StackView
from include.errors import WindtunnelError
from include.release.ledger import Event, Ledger
from include.settings import Settings
from include.spec import FamilySpec, load_family
from include.store.database import open_database
from include.store.objects import open_store

_DAG_SECONDS = 90.0
_EVENT_SECONDS = 60.0
_SERVE_SECONDS = 30.0


class Refused(WindtunnelError):
    """Everything ran, and the candidate does not fly: its gates or the live traffic said no."""


class Demo:
    """One demo.

    Args:
        record: Filled as things become known, so that it tells the truth after a failure too.
    """

    def __init__(self, settings: Settings, plan: DemoPlan, record: DemoRecord, out: Output) -> None:
        self._plan = plan
        self._record = record
        self._out = out
        self._began = time.monotonic()
        self._spec: FamilySpec = load_family(plan.family, plan.profile)
        self.stack = Stack(settings)

    def run(self) -> None:
        """All of it.

        Raises:
            Refused: The candidate was refused, and what served before goes on serving.
            WindtunnelError: Something failed.
        """
        view, api = self._start()
        settings = stack_settings(self.stack.settings, view.ports)
        ledger = Ledger(open_database(settings.database_url))
        self._record.champion_before = _champion(ledger, self._plan.family)
        traffic = self._traffic(settings, view)
        try:
            trained = self._train(api)
            if not trained.succeeded("announce"):
                raise self._refusal(trained, _champion(ledger, self._plan.family))
            self._release(api, settings, ledger, trained.run, traffic)
        finally:
            self._record.traffic = traffic.stop()
            self._record.champion = _champion(ledger, self._plan.family)
        self._out.line("\nthree questions", style="bold")
        self._record.answers = [self._answer(settings, item) for item in self._questions(settings)]

    # Start ----------------------------------------------------------------------------------------------------------
    def _start(self) -> tuple[StackView, AirflowApi]:
        wanted = read_settings()
        self._out.line("starting Airflow, MLflow and the gateway", style="bold")
        if not self.stack.start():
            self._out.line("  the stack runs already: using it")
        lines = ProgressLines(self._out)
        view = self.stack.wait({"airflow"}, lines)
        api = client(view, self.stack)
        for change in apply_settings(api, wanted):
            self._out.line(f"  {change}")
        self._wait_for_dags(api)
        self.stack.wait(progress=lines)
        self._record.startup_seconds = round(time.monotonic() - self._began, 1)
        return view, api

    def _wait_for_dags(self, api: AirflowApi) -> None:
        """Until Airflow has parsed the DAGs; then they are unpaused."""
        deadline = time.monotonic() + _DAG_SECONDS
        names = [f"{kind}__{self._plan.family}" for kind in ("train", "release", "monitor")]
        while missing := [name for name in names if api.dag(name) is None]:
            errors = api.import_errors()
            if errors or time.monotonic() > deadline:
                detail = str(errors[0].get("stack_trace", "")).strip().splitlines() if errors else []
                raise StackError(
                    f"Airflow has no DAG {missing[0]}",
                    where=str(errors[0].get("filename")) if errors else "dags/",
                    hint="`windtunnel validate` checks the specs; the dag processor's log has more",
                    tail="\n".join(detail[-15:]),
                )
            time.sleep(0.3)
        for name in names:
            api.set_paused(name, False)

    # Train ----------------------------------------------------------------------------------------------------------
    def _train(self, api: AirflowApi) -> Snapshot:
        """Triggers the training run and follows it through its attempts; returns the last run."""
        dag_id = f"train__{self._plan.family}"
        run = api.trigger(dag_id, self._plan.conf)
        self._out.line(f"\ntraining: {api.url}/dags/{dag_id}/runs/{run.run_id}", style="bold")
        while True:
            self._record.attempts += 1
            snapshot = self._follow(api, run)
            self._record.add_tasks(snapshot)
            self._remember_training(api, run)
            if snapshot.run.state != "success":
                raise failure(api, snapshot)
            for reason in self._record.gate.get("why") or []:
                self._out.line(f"  gate: {reason}", style="dim")
            self._out.line(f"  verdict: {self._record.gate.get('verdict')}", style="bold")
            if not snapshot.succeeded("retry"):
                return snapshot
            run = self._next_attempt(api, run)

    def _next_attempt(self, api: AirflowApi, run: Run) -> Run:
        """The run that the failed gate's retrain request started."""
        self._out.line(f"\nthe gate sends the candidate back: attempt {self._record.attempts + 1}", style="bold")
        return self._run_by_event(api, run, run.dag_id)

    def _remember_training(self, api: AirflowApi, run: Run) -> None:
        def result(task_id: str) -> Mapping[str, Any]:
            value = api.xcom(run.dag_id, run.run_id, task_id)
            return value if isinstance(value, Mapping) else {}

        record = self._record
        record.dataset, record.chosen = result("publish"), result("choose")
        record.evaluation, record.gate = result("evaluate"), result("gate")
        record.registered = result("register")

    def _refusal(self, snapshot: Snapshot, champion: Mapping[str, Any] | None) -> Refused:
        serves = f"version {champion['version']} keeps serving" if champion else "nothing serves yet"
        verdict = self._record.gate.get("verdict")
        if snapshot.succeeded("register"):
            return Refused(f"{self._record.registered.get('model_version')} is not released; {serves}", verdict=verdict)
        why = "; ".join(self._record.gate.get("why") or [])
        attempts = f"{self._record.attempts} attempt{'s' if self._record.attempts != 1 else ''}"
        return Refused(f"the candidate's verdict is {verdict} after {attempts}; {serves}. {why}", verdict=verdict)

    # Release --------------------------------------------------------------------------------------------------------
    def _release(self, api: AirflowApi, settings: Settings, ledger: Ledger, trained: Run, traffic: Traffic) -> None:
        """Follows the release that the candidate's event started, until the candidate is the champion."""
        run = self._run_by_event(api, trained, f"release__{self._plan.family}")
        self._out.line(f"\nrelease under traffic: {api.url}/dags/{run.dag_id}/runs/{run.run_id}", style="bold")
        traffic.start(str(self._record.dataset["dataset_version"]))
        snapshot = self._follow(api, run, each=lambda: _check_traffic(traffic))
        self._record.add_tasks(snapshot)
        version = str(self._record.registered["model_version"])
        self._record.stages = self._stages(ledger, version)
        if snapshot.run.state != "success":
            refused = next((stage for stage in self._record.stages if stage["verdict"] != "PASS"), None)
            if refused is None:
                raise failure(api, snapshot)
            champion = _champion(ledger, self._plan.family) or {}
            raise Refused(
                f"live traffic refused {version} at stage {refused['name']} ({refused['verdict']}); "
                f"version {champion.get('version')} serves. {'; '.join(refused.get('why') or [])}"
            )
        self._wait_until_served(settings, ledger, version)
        self._record.promoted = True
        self._out.line(f"  {version} is the champion", style="bold green")

    def _run_by_event(self, api: AirflowApi, cause: Run, dag_id: str) -> Run:
        """The run of `dag_id` that an asset event of `cause` started; waits for it."""
        deadline = time.monotonic() + _EVENT_SECONDS
        while time.monotonic() < deadline:
            for found_dag, run_id in api.runs_by_event(cause.dag_id, cause.run_id):
                found = api.run(dag_id, run_id) if found_dag == dag_id else None
                if found:
                    return found
            self._check_stack()
            time.sleep(0.3)
        raise StackError(
            f"the event of {cause.run_id} started no run of {dag_id} within {_EVENT_SECONDS:.0f} s", where=dag_id
        )

    def _stages(self, ledger: Ledger, version: str) -> list[dict[str, Any]]:
        entries = ledger.entries(self._plan.family, frozenset({Event.STAGE_JUDGED}), limit=100)[::-1]
        return stage_records([entry.record for entry in entries if entry.model_version == version])

    def _wait_until_served(self, settings: Settings, ledger: Ledger, version: str) -> None:
        """The ledger says who is the champion; the gateway must have loaded it before anybody asks."""
        route = ledger.route(self._plan.family)
        if route is None or route.table.champion.version != version:
            serving = route.table.champion.version if route else "nothing"
            raise StackError(f"the release succeeded, but {serving} serves instead of {version}")
        deadline = time.monotonic() + _SERVE_SECONDS
        while time.monotonic() < deadline:
            loaded = gateway.get(settings.gateway_url, "/v1/routes").get(self._plan.family) or {}
            if loaded.get("generation") == route.generation:
                return
            time.sleep(0.2)
        raise StackError(f"the gateway has not loaded generation {route.generation}", where=settings.gateway_url)

    def _traffic(self, settings: Settings, view: StackView) -> Traffic:
        environment = {**stack_environment(self.stack.settings, view.ports), MARK: str(settings.home)}
        log = self.stack.layout.log("traffic")
        return Traffic(settings.gateway_url, self._plan.family, self._plan.rate, environment, log)

    # Questions ------------------------------------------------------------------------------------------------------
    def _questions(self, settings: Settings) -> list[tuple[dict[str, Any], dict[str, Any]]]:
        """Three test questions, far apart in the data, with the truth about them."""
        from include.data.datasets import open_dataset
        from include.families.contract import load_code

        dataset = open_dataset(settings, self._plan.family, str(self._record.dataset["dataset_version"]))
        found = list(load_code(self._spec.code).requests(dataset, "test"))
        return [found[len(found) * index // 3][1:] for index in range(3)] if len(found) >= 3 else [i[1:] for i in found]

    def _answer(self, settings: Settings, item: tuple[dict[str, Any], dict[str, Any]]) -> dict[str, Any]:
        from include.cli.questions import show_answer, show_inputs

        inputs, truth = item
        answer = gateway.ask(settings.gateway_url, self._plan.family, inputs, unit="demo")
        self._out.line()
        show_inputs(inputs, self._out)
        show_answer(answer, self._out, truth)
        return {**inputs, "expected": truth, **answer}

    # Following ------------------------------------------------------------------------------------------------------
    def _follow(self, api: AirflowApi, run: Run, each: Callable[[], None] = lambda: None) -> Snapshot:
        store = open_store(self.stack.settings.store_url)

        def check() -> None:
            self._check_stack()
            each()

        with make_view(self._out) as view:
            return follow(api, store, run, view.show, each=check)

    def _check_stack(self) -> None:
        view = self.stack.view()
        if view is None:
            log = self.stack.layout.log("supervisor")
            raise StackError("the stack stopped", where=str(log), tail=self.stack.tail(log))
        for service in view.services.values():
            if service.failed:
                raise StackError(f"{service.title} stopped", where=str(service.log), tail=self.stack.tail(service.log))


def _check_traffic(traffic: Traffic) -> None:
    if traffic.ended:
        raise TaskFailed("the traffic generator stopped", hint="its log is logs/traffic.log", tail=str(traffic.stop()))


def _champion(ledger: Ledger, family: str) -> dict[str, Any] | None:
    route = ledger.route(family)
    if route is None:
        return None
    champion = route.table.champion
    return {"version": champion.version, "digest": champion.digest, "generation": route.generation}
