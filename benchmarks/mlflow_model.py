"""The peer's model: the same runtime behind `mlflow.pyfunc`, in MLflow's models-from-code form."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mlflow
from mlflow.pyfunc.model import PythonModel

from include.families.contract import load_code
from include.serving.package import read_package


class PackageModel(PythonModel):
    """Answers with the records that the gateway answers with."""

    def load_context(self, context: Any) -> None:
        folder = Path(context.artifacts["package"])
        self.runtime = load_code(read_package(folder).code).load(folder)

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[dict[str, Any]]:
        outputs = self.runtime.predict({"question": list(model_input["question"])})
        return [self.runtime.answer(outputs, index) for index in range(len(model_input))]


mlflow.models.set_model(PackageModel())
