"""The model that every peer serves: the same package and runtime as the gateway's, named by the environment."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from include.families.contract import load_code
from include.serving.package import read_package

FOLDER_VARIABLE = "BENCHMARK_PACKAGE"


class Packaged:
    """Answers questions with the records that the gateway answers with."""

    def __init__(self) -> None:
        folder = Path(os.environ[FOLDER_VARIABLE])
        self._runtime = load_code(read_package(folder).code).load(folder)

    def records(self, questions: list[str]) -> list[dict[str, Any]]:
        outputs = self._runtime.predict({"question": questions})
        return [self._runtime.answer(outputs, index) for index in range(len(questions))]
