"""Where the laptop stack keeps its things under `.windtunnel/`: one place that knows the names."""

from __future__ import annotations

import json
import os
import tempfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from include.errors import WindtunnelError


class LayoutError(WindtunnelError):
    """The folder of the embedded default cannot be used."""


@dataclass(frozen=True)
class Layout:
    """Paths under the home folder of the embedded default."""

    home: Path

    @property
    def airflow(self) -> Path:
        return self.home / "airflow"

    @property
    def databases(self) -> Path:
        return self.home / "db"

    @property
    def logs(self) -> Path:
        return self.home / "logs"

    @property
    def run(self) -> Path:
        """Locks, and the state of the running stack."""
        return self.home / "run"

    @property
    def state(self) -> Path:
        return self.run / "stack.json"

    @property
    def ports(self) -> Path:
        return self.home / "ports.json"

    @property
    def secrets(self) -> Path:
        return self.home / "secrets.json"

    @property
    def demo(self) -> Path:
        return self.home / "demo.json"

    @property
    def demo_history(self) -> Path:
        """One line per demo that came to a verdict."""
        return self.home / "demos.jsonl"

    def log(self, service: str) -> Path:
        return self.logs / f"{service}.log"

    def make(self) -> None:
        """Makes the folders.

        Raises:
            LayoutError: The home folder cannot be written.
        """
        try:
            for folder in (self.airflow, self.databases, self.logs, self.run):
                folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.run) as probe:
                probe.write(b"x")
        except OSError as error:
            raise LayoutError(
                f"cannot write to the folder of the embedded default: {error}",
                where=str(self.home),
                hint="make it writable, check that the disk is not full, or set WINDTUNNEL_HOME to another folder",
            ) from error


def write_json(path: Path, value: Any, mode: int = 0o644) -> None:
    """Writes `value` so that readers see the old or the new file, never half of one."""
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(value, file, indent=1, default=str)
        file.write("\n")
    temporary.replace(path)


def read_json(path: Path) -> Any | None:
    """The JSON in `path`; None where there is no file, or none that can be read as JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError):
        return None
