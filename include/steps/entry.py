"""Runs one step from its run document: the `main` behind `python -m include.training fit --run URI` and its like.

The contract of a step process, the same as a local process and in a pod:

* it reads its run document from the object store, and writes `<output>/result.json` last of all;
* a result that is already there is used, and the work is not done again;
* exit status 0: the result is written; 2: a person must change something or the data is bad (trying again is useless);
  1: anything else. On 1 and 2 the error is in `<output>/error.json` and, readable, at the end of the log;
* progress goes to the log and to the object store, at most twice a second;
* what it read and made is told as OpenLineage events, which can neither fail nor hold up the step.
"""

from __future__ import annotations

import argparse
import importlib
import json
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from include.costs.gather import step_cost
from include.errors import FINAL_KINDS, FailureKind, UserError, WindtunnelError, clip
from include.lineage.step_events import StepLineage
from include.settings import Settings
from include.steps.document import RunDocument
from include.store.objects import ObjectStore, open_store

EXIT_OK, EXIT_RETRY, EXIT_FINAL = 0, 1, 2

Step = Callable[["StepContext"], dict[str, Any]]


@dataclass
class Pace:
    """How fast a step goes, from where it was first seen in the present unit: a resumed training starts at step 500."""

    _unit: str = ""
    _began: tuple[float, float] = (0.0, 0.0)  # seconds, units done

    def left(self, now: float, done: float, total: float, unit: str) -> float | None:
        """Seconds that are left; None where nothing is, or nothing was done yet."""
        if unit != self._unit or done < self._began[1]:
            self._unit, self._began = unit, (now, done)
        seconds, units = now - self._began[0], done - self._began[1]
        return seconds / units * (total - done) if units > 0 and done < total else None


@dataclass
class StepContext:
    """What a step works with.

    Attributes:
        document: The step's run document.
        store: The object store that holds inputs and outputs.
        settings: This installation's settings.
    """

    document: RunDocument
    store: ObjectStore
    settings: Settings
    _last_progress: float = field(default=0.0, repr=False)
    _started: float = field(default_factory=time.monotonic, repr=False)
    _pace: Pace = field(default_factory=Pace, repr=False)

    def cost(self) -> dict[str, Any]:
        """What the step cost so far, over all tries (`include.costs.price.cost_record`)."""
        return step_cost(self.store, self.document, time.monotonic() - self._started)

    def put_json(self, name: str, value: Any) -> str:
        """Writes `value` as `<output>/<name>`; returns its key."""
        key = f"{self.document.output}/{name}"
        self.store.put(key, json.dumps(value, indent=1, allow_nan=False, default=str).encode())
        return key

    def progress(self, done: float, total: float, unit: str = "", *, force: bool = False, **facts: Any) -> None:
        """Shows how far the step is: `done` of `total` `unit`s, with further facts such as the latest metric.

        Once the pace is known, the seconds that are left are shown as well.
        """
        now = time.monotonic()
        left = self._pace.left(now, done, total, unit)
        if not force and now - self._last_progress < 0.5:
            return
        self._last_progress = now
        shown = " ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in facts.items()
        )
        if left is not None:
            shown = f"{shown} left={left:.0f}s".lstrip()
        print(f"progress {self.document.step} {done:g}/{total:g} {unit} {shown}".rstrip(), flush=True)
        record = {
            "step": self.document.step,
            "done": done,
            "total": total,
            "unit": unit,
            "facts": facts,
            "seconds_left": None if left is None else round(left, 1),
            "at": time.time(),
        }
        self.store.put(self.document.progress_key, json.dumps(record, default=str).encode())


def read_json(store: ObjectStore, key: str) -> Any:
    """The JSON object under `key`. Raises `ObjectNotFound`."""
    return json.loads(store.get(key))


def main(
    steps: Mapping[str, str],
    program: str,
    argv: Sequence[str] | None = None,
    run: Callable[[StepContext, Step], int] | None = None,
) -> int:
    """Command line of a package's steps.

    Args:
        steps: Step name -> `module:function`; imported only when it is run.
        program: How the command is called, for the help text.
        run: Runs the step and returns the exit status; `run_step` unless told otherwise.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description="Runs one step of a pipeline run.")
    parser.add_argument("step", choices=sorted(steps))
    parser.add_argument("--run", required=True, metavar="URI", help="URI of the run document in the object store")
    arguments = parser.parse_args(argv)
    quiet_libraries()
    if os.getpid() == 1:  # the kernel gives a container's first process only the signals that it handles
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = Settings.from_env()
    store = open_store(settings.store_url)
    document = RunDocument.model_validate_json(store.get(store.key(arguments.run)))
    if document.step != arguments.step:
        raise UserError(f"the run document is for step {document.step!r}, not {arguments.step!r}", where=arguments.run)
    module, _, function = steps[arguments.step].partition(":")

    def step(context: StepContext) -> dict[str, Any]:
        # Imported in here, so that a broken import is recorded like any other failure of the step.
        outputs: dict[str, Any] = getattr(importlib.import_module(module), function)(context)
        return outputs

    return (run or run_step)(StepContext(document, store, settings), step)


def run_step(context: StepContext, step: Step) -> int:
    """Runs `step` under the contract above and returns the exit status."""
    document, store = context.document, context.store
    if store.exists(document.result_key):
        print(
            f"{document.step}: already done for fingerprint {document.fingerprint[:12]}, using that result", flush=True
        )
        return EXIT_OK
    store.delete(document.error_key)  # of an earlier attempt: it must not explain how this one ends
    started = time.monotonic()
    lineage = StepLineage(document, store)
    lineage.start()
    try:
        outputs = step(context)
    except WindtunnelError as error:
        _report(context, error.to_json())
        print(f"{document.step} failed ({error.kind.value} error)\n{error}", file=sys.stderr, flush=True)
        lineage.fail(error)
        return EXIT_FINAL if error.kind in FINAL_KINDS else EXIT_RETRY
    except Exception as error:  # the edge of the process: whatever it was, it must be recorded before we go
        traceback.print_exc()
        kind = FailureKind.SYSTEM.value
        _report(
            context,
            {
                "error": type(error).__name__,
                "kind": kind,
                "message": clip(error),
                "where": "",
                "hint": "",
                "fields": {},
            },
        )
        lineage.fail(error)
        return EXIT_RETRY
    result = {
        "step": document.step,
        "run": document.run,
        "fingerprint": document.fingerprint,
        "outputs": outputs,
        "cost": context.cost(),
        "seconds": round(time.monotonic() - started, 3),
        "reused": False,
    }
    store.put(document.result_key, json.dumps(result, indent=1, allow_nan=False, default=str).encode())
    lineage.complete(outputs)
    return EXIT_OK


def quiet_libraries() -> None:
    """Keeps the logs for what a person on call wants to read: libraries speak from WARNING on."""
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stdout)
    for name in (
        "great_expectations",
        "mlflow",
        "onnxruntime",
        "alembic",
        "lightning",
        "pytorch_lightning",
        "optuna",
        "botocore",
        "urllib3",
        "httpx",
        "evidently",
        "openlineage",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)


def _report(context: StepContext, record: dict[str, Any]) -> None:
    try:
        context.store.put(context.document.error_key, json.dumps(record, indent=1, default=str).encode())
    except WindtunnelError as error:  # the store itself may be what failed; the log still tells the story
        print(f"could not store the error: {error}", file=sys.stderr, flush=True)
