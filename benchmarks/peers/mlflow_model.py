"""The model behind `mlflow.pyfunc`, in MLflow's models-from-code form."""

from __future__ import annotations

from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel

from benchmarks.peers.packaged import Packaged


class PackageModel(PythonModel):
    """Answers with the records that the gateway answers with."""

    def load_context(self, context: Any) -> None:
        self._model = Packaged()

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        return self._model.records(list(model_input["question"]))


mlflow.models.set_model(PackageModel())
