"""The `fit` step of `tests.fakes.tiny_torch` in a process that can be killed, forked from a server that is warm.

Starting the step anew takes seconds, most of them for importing torch; a fork takes none.
"""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from datetime import UTC, datetime
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

from include.failures.adjust import Adjustment
from include.settings import Settings
from include.spec import FamilySpec
from include.steps.document import RunDocument, make_document
from include.steps.entry import main
from include.store.objects import ObjectNotFound, open_store
from include.training.lost import read_mark
from tests.fakes import datasets
from tests.fakes.fork_server import forks_of
from tests.fakes.tiny_torch import TinyPoints

STEPS = {"fit": "include.training.fit:fit"}


@dataclass(frozen=True)
class Fit:
    """One piece of work; started again, it goes on.

    Attributes:
        name: Tells the same work in several places apart.
        log: What the process says.
    """

    settings: Settings
    spec: FamilySpec
    name: str
    log: Path
    adjustment: Adjustment = field(default_factory=Adjustment)
    version: str = "1.0.0"

    @property
    def document(self) -> RunDocument:
        inputs = {"dataset_version": self.version, "dataset_digest": "d", "seed": 1, "hyperparameters": {}}
        parts = ("code", "model", "hyperparameters", "trainer", "sweep")
        made = make_document(
            "fit",
            f"test/{self.name}",
            self.spec,
            {**inputs, "name": self.name},
            spec_parts=parts,
            code_version="c",
            created_at=datetime.now(UTC),
        )
        return made.model_copy(update={"adjustment": self.adjustment})

    def start(self) -> ForkServerProcess:
        """A process that does it, in a group of its own."""
        process = forks_of("tests.fakes.warm_training").Process(target=_work, args=(self,))
        process.start()
        return process

    def finish(self) -> dict[str, Any]:
        """Does it to its end and returns its outputs; fails, with the log, where it fails."""
        process = self.start()
        process.join(240)
        assert process.exitcode == 0, self.log.read_text()[-4000:]
        return self.outputs()

    def outputs(self) -> dict[str, Any]:
        outputs: dict[str, Any] = self._json(self.document.result_key)["outputs"]
        return outputs

    def error(self) -> dict[str, Any]:
        """How the last try failed."""
        error: dict[str, Any] = self._json(self.document.error_key)
        return error

    def lost(self) -> list[dict[str, Any]]:
        """What each try that ended badly had done and was done again."""
        try:
            found: list[dict[str, Any]] = self._json(f"{self.document.output}/lost.json")
        except ObjectNotFound:
            return []
        return found

    def step(self) -> int:
        """Optimizer steps that were done, by the mark that training leaves after each; 0 where there is none."""
        mark = self.settings.home / "scratch" / f"{self.document.fingerprint[:20]}.mark"
        found = read_mark(mark)
        return found.step if found else 0

    def is_trained(self) -> bool:
        """Whether what is left is the export."""
        return open_store(self.settings.store_url).exists(f"{self.document.output}/training.json")

    def _json(self, key: str) -> Any:
        return json.loads(open_store(self.settings.store_url).get(key))


def _work(fit: Fit) -> None:
    os.setsid()
    fit.log.parent.mkdir(parents=True, exist_ok=True)
    with fit.log.open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    os.environ.update({**fit.settings.to_env(), "OMP_NUM_THREADS": "1"})
    datasets.serve(lambda family, version: TinyPoints(version))
    document, store = fit.document, open_store(fit.settings.store_url)
    store.put(document.document_key, document.model_dump_json().encode())
    sys.exit(main(STEPS, "include.training", ["fit", "--run", store.uri(document.document_key)]))
