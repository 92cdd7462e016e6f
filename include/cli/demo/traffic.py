"""The users of the demo: a process that replays labelled questions while a candidate is released."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from include.settings import PROJECT_ROOT

_STOP_SECONDS = 20.0


class Traffic:
    """Live questions, from `start` to `stop`.

    Args:
        environment: Of the stack, so that a stop of the stack also finds this process.
    """

    def __init__(self, gateway: str, family: str, rate: int, environment: Mapping[str, str], log: Path) -> None:
        self._gateway = gateway
        self._family = family
        self._rate = rate
        self._environment = dict(environment)
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, dataset_version: str) -> None:
        """Starts to ask, as soon as anything serves."""
        command = [sys.executable, "-m", "include.serving.traffic", "--gateway", self._gateway]
        command += ["--family", self._family, "--dataset", dataset_version, "--rate", str(self._rate)]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                env=self._environment,
                cwd=PROJECT_ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C reaches us; what we started ends when we say so
            )

    @property
    def ended(self) -> bool:
        """Whether it ended by itself: then nobody asks any more."""
        return self._process is not None and self._process.poll() is not None

    def stop(self) -> dict[str, Any] | None:
        """Ends the questions; what they met, None where there is no report."""
        if self._process is None:
            return None
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        return read_summary(self._log)


def read_summary(log: Path) -> dict[str, Any] | None:
    """The report in the last line of the log."""
    try:
        last = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1]
        summary = json.loads(last)
    except (OSError, IndexError, json.JSONDecodeError):
        return None
    return summary if isinstance(summary, dict) else None
