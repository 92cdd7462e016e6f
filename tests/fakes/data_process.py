"""The data steps in a process that can be killed, forked from a server that is warm (`tests.fakes.warm_data_steps`).

Starting a step anew takes seconds, most of them for importing Great Expectations; a fork takes none, so that a test can
afford to kill many.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from include.settings import Settings
from include.steps.entry import main
from tests.data.conftest import Pipeline
from tests.fakes.fork_server import forks_of

PACKAGE = "include.data"
STEPS = {name: f"{PACKAGE}.{name}:{name}" for name in ("ingest", "validate", "publish")}


@dataclass(frozen=True)
class Work:
    """What a process is to do: all data steps, one after the other, through their real entry point.

    Attributes:
        environment: Variables beside those of the settings.
    """

    settings: Settings
    source: Path
    run: str = "r1"
    since: str | None = None
    until: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self) -> ForkServerProcess:
        """A process that does it; its exit code is that of the first step that failed."""
        process = forks_of("tests.fakes.warm_data_steps").Process(target=_work, args=(self,))
        process.start()
        return process


def _work(work: Work) -> None:
    sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115 - until the process ends
    os.environ.update({**work.environment, **work.settings.to_env()})
    pipeline = Pipeline(work.settings, work.source)
    given = {"run": work.run, "source": pipeline.source, "since": work.since, "until": work.until}
    for step in STEPS:
        document = pipeline.document(step, given, work.run)
        status = main(STEPS, PACKAGE, [step, "--run", pipeline.store.uri(document.document_key)])
        if status:
            sys.exit(status)
        outputs = json.loads(pipeline.store.get(document.result_key))["outputs"]
        given = (
            {"deliveries": outputs["deliveries"]}
            if step == "ingest"
            else {"checked": outputs.get("checked"), "source": pipeline.source}
        )
