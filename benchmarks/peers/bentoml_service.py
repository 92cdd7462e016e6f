"""The model behind BentoML: `bentoml serve benchmarks.peers.bentoml_service:Service`."""

from __future__ import annotations

import os
from typing import Any

import bentoml

from benchmarks.peers.packaged import Packaged

WORKERS_VARIABLE = "BENCHMARK_WORKERS"


@bentoml.service(workers=int(os.environ[WORKERS_VARIABLE]))
class Service:
    """One model per worker."""

    def __init__(self) -> None:
        self._model = Packaged()

    @bentoml.api  # type: ignore[untyped-decorator]  # BentoML is in its own environment, without types here
    def ask(self, question: str) -> dict[str, Any]:
        return self._model.records([question])[0]
