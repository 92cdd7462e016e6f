"""A family without machine learning: its models echo the question, as fast, slow or broken as a test wants them."""

from __future__ import annotations

import json
import os
import signal
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from include.errors import DataError
from include.serving.package import publish, seal
from include.store.objects import ObjectStore

CODE = "tests.fakes.echo_family:EchoFamily"
CONFIG = "echo.json"
#: Set to let go what hangs: calls on `hang_on`, and labels of a truth with `hang`.
RELEASE = threading.Event()
_HANG_SECONDS = 30


class EchoRuntime:
    """Answers `<name>: <question>`.

    Settings in `echo.json`: `name`; `latency_ms` per call and `row_ms` per row; `fail_on`, `refuse_on`, `hang_on`: a
    text in the question that makes the call raise, or hang until `RELEASE`; `die_on`: one that kills the process;
    `passages`: what it cites; `load_ms`, `load_error`: what loading takes, and raises; `die_on_load`: the process is
    killed there; `confidence`: how sure it says that it is.
    """

    inputs: Mapping[str, str] = {"question": "BYTES"}
    outputs: Mapping[str, str] = {"answer": "BYTES", "passage_ids": "BYTES", "score": "FP32"}
    proxies = ("confidence",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings
        self.batches: list[int] = []
        self._lock = threading.Lock()

    def predict(self, inputs: Mapping[str, Sequence[Any]]) -> dict[str, list[Any]]:
        questions = inputs["question"]
        with self._lock:
            self.batches.append(len(questions))
        seconds = (self.settings.get("latency_ms", 0) + self.settings.get("row_ms", 0) * len(questions)) / 1e3
        if seconds:
            time.sleep(seconds)
        together = "\n".join(questions)
        if "fail_on" in self.settings and self.settings["fail_on"] in together:
            raise RuntimeError("the echo broke")
        if "refuse_on" in self.settings and self.settings["refuse_on"] in together:
            raise DataError("the echo does not like this question")
        if "die_on" in self.settings and self.settings["die_on"] in together:
            os.kill(os.getpid(), signal.SIGKILL)
        if "hang_on" in self.settings and self.settings["hang_on"] in together:
            RELEASE.wait(_HANG_SECONDS)
        name = self.settings.get("name", "echo")
        passages = self.settings.get("passages", ["1:1", "1:2"])
        return {
            "answer": [f"{name}: {question}" for question in questions],
            "passage_ids": [list(passages) for _ in questions],
            "score": [float(len(question)) for question in questions],
        }

    def answer(self, outputs: Mapping[str, list[Any]], index: int) -> dict[str, Any]:
        passages = outputs["passage_ids"][index]
        return {
            "answer": outputs["answer"][index],
            "citations": [{"passage": passage, "text": f"text of {passage}"} for passage in passages],
            "passages": passages,
            "score": outputs["score"][index],
            **{name: self.settings[name] for name in self.proxies if name in self.settings},
        }

    def label(self, record: Mapping[str, Any], truth: Mapping[str, Any]) -> dict[str, float]:
        if truth.get("hang") or self.settings.get("hang_label"):
            RELEASE.wait(_HANG_SECONDS)
        gold = truth["citations"]
        return {"hit_at_1": float(record["passages"][0] in gold)}


class EchoFamily:
    """Only the serving half of a family."""

    def load(self, folder: Path) -> EchoRuntime:
        settings = json.loads((folder / CONFIG).read_text())
        time.sleep(settings.get("load_ms", 0) / 1e3)
        if settings.get("die_on_load"):
            os.kill(os.getpid(), signal.SIGKILL)
        if "load_error" in settings:
            raise RuntimeError(settings["load_error"])
        return EchoRuntime(settings)


def echo_package(store: ObjectStore, folder: Path, family: str = "echo", **settings: Any) -> str:
    """Publishes an echo model with these settings and returns its digest."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(settings, sort_keys=True))
    package = seal(folder, family, CODE, {})
    publish(store, folder)
    return package.digest
