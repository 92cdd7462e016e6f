"""How a followed run looks: a live table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

from include.cli.follow import WORKING, Snapshot
from include.cli.output import Output, show
from include.embedded.airflow_api import ENDED_TASK, Task

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

_MARKS = {"success": "done", "failed": "FAILED", "skipped": "skipped", "upstream_failed": "not run", None: ""}
_STYLES = {"success": "green", "failed": "bold red", "running": "cyan", "deferred": "cyan", "up_for_retry": "yellow"}
_QUIET_SECONDS = 5.0


class View(Protocol):
    """Shows snapshots of a run; a context manager around one run."""

    def __enter__(self) -> View: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def show(self, snapshot: Snapshot) -> None: ...

    def note(self, text: str) -> None:
        """Something worth a line while the run goes on."""
        ...


_WORTH_TELLING = 5.0  # seconds


def make_view(out: Output) -> View:
    """The view that fits where the output goes."""
    return LiveView(out) if out.console.is_terminal else PlainView(out)


def progress_text(record: Mapping[str, Any]) -> str:
    """`3/8 trials, 4 min left, recall_at_10 0.8312`."""
    unit = f" {record['unit']}" if record.get("unit") else ""
    done, total = record.get("done"), record.get("total")
    parts = [f"{show(done)}/{show(total)}{unit}"] if total else []
    left = record.get("seconds_left")
    if left is not None and left >= _WORTH_TELLING:
        parts.append(f"{left:.0f} s left" if left < 90 else f"{left / 60:.0f} min left")
    parts += [
        f"{key} {show(value)}" for key, value in (record.get("facts") or {}).items() if not isinstance(value, dict)
    ]
    return ", ".join(parts)[:110]


def waiting_text(run_id: str) -> str:
    """Why nothing happens yet."""
    return f"waits for run {run_id}, which is going on; only one run at a time trains"


class PlainView:
    """A line whenever a task starts, gets further, or ends."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._states: dict[str, str | None] = {}
        self._behind: str | None = None
        self._told: dict[str, tuple[str, float]] = {}

    def __enter__(self) -> View:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def note(self, text: str) -> None:
        self._out.line(f"  {text}")

    def show(self, snapshot: Snapshot) -> None:
        if snapshot.behind and snapshot.behind != self._behind:
            self._behind = snapshot.behind
            self.note(waiting_text(snapshot.behind))
        for task in snapshot.tasks:
            if task.state != self._states.get(task.name):
                self._states[task.name] = task.state
                self._changed(task, snapshot)
            record = snapshot.progress.get(task.name)
            if record:
                self._progress(task, progress_text(record))

    def _changed(self, task: Task, snapshot: Snapshot) -> None:
        if task.state in WORKING:
            again = f" (try {task.try_number})" if task.try_number > 1 else ""
            self._out.line(f"  {task.name}: {task.state}{again}")
        elif task.state == "up_for_retry":
            self._out.line(f"  {task.name}: failed, will be tried again", style="yellow")
        elif task.state in ENDED_TASK and task.state not in {"skipped", "removed"}:
            seconds = task.seconds(snapshot.at)
            took = f" {seconds:.1f} s" if seconds is not None and task.state != "upstream_failed" else ""
            self._out.line(
                f"  {task.name}: {_MARKS.get(task.state, task.state)}{took}", style=_STYLES.get(task.state, "")
            )

    def _progress(self, task: Task, text: str) -> None:
        before, at = self._told.get(task.name, ("", 0.0))
        if text and text != before and time.monotonic() - at >= _QUIET_SECONDS:
            self._told[task.name] = (text, time.monotonic())
            self._out.line(f"  {task.name}: {text}", style="dim")


class LiveView:
    """A table that is redrawn in place."""

    def __init__(self, out: Output) -> None:
        from rich.live import Live

        self._out = out
        self._latest: dict[str, str] = {}
        self._live: Live = Live(console=out.console, refresh_per_second=4, transient=False)

    def __enter__(self) -> View:
        self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.__exit__(kind, error, trace)

    def note(self, text: str) -> None:
        self._live.console.print(f"  {text}", markup=False)

    def show(self, snapshot: Snapshot) -> None:
        for name, record in snapshot.progress.items():
            self._latest[name] = progress_text(record)
        self._live.update(self._table(snapshot))

    def _table(self, snapshot: Snapshot) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(box=None, pad_edge=True, header_style="bold")
        for column, justify in (("task", "left"), ("state", "left"), ("seconds", "right"), ("progress", "left")):
            table.add_column(column, justify="right" if justify == "right" else "left", no_wrap=True)
        if snapshot.behind:
            table.add_row(Text(waiting_text(snapshot.behind), style="yellow"))
        for task in snapshot.tasks:
            if task.start is None or task.state == "skipped":
                continue
            seconds = task.seconds(snapshot.at)
            style = _STYLES.get(task.state or "", "")
            table.add_row(
                Text(task.name),
                Text(_MARKS.get(task.state, task.state) or "", style=style),
                Text(f"{seconds:.1f}" if seconds is not None else ""),
                Text(self._latest.get(task.name, ""), style="dim"),
            )
        return table
