"""What the command prints: tables for people, one JSON document for programs; errors on stderr without a traceback."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from include.errors import WindtunnelError

if TYPE_CHECKING:
    from rich.console import Console


_FILE_WIDTH = 200


class Output:
    """Where a command's results go.

    Args:
        as_json: Results are one JSON document on stdout; everything else goes to stderr.
    """

    def __init__(self, as_json: bool = False) -> None:
        self.as_json = as_json
        self._console: Console | None = None

    @property
    def console(self) -> Console:
        """For people; on stderr while a program reads stdout."""
        if self._console is None:
            from rich.console import Console

            stream = sys.stderr if self.as_json else sys.stdout
            width = None if stream.isatty() else _FILE_WIDTH
            self._console = Console(file=stream, highlight=False, width=width)
        return self._console

    def document(self, value: Any) -> None:
        """The result for programs."""
        print(json.dumps(value, indent=1, default=str))

    def line(self, text: str = "", style: str = "") -> None:
        """A line for people; markup characters are shown as they are."""
        self.console.print(text, style=style, markup=False)

    def table(self, columns: Sequence[str], rows: Sequence[Sequence[Any]], title: str = "", empty: str = "") -> None:
        """A table for people; numbers are set to the right."""
        if not rows:
            self.line(empty or "nothing yet")
            return
        from rich.table import Table
        from rich.text import Text

        table = Table(title=title or None, title_justify="left", header_style="bold", box=None, pad_edge=False)
        for index, column in enumerate(columns):
            numeric = all(isinstance(row[index], int | float) or row[index] is None for row in rows)
            table.add_column(column, justify="right" if numeric else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text(show(value)) for value in row))
        self.console.print(table)

    def error(self, error: WindtunnelError) -> None:
        """What was wrong, where, and what to do."""
        if self.as_json:
            print(json.dumps(error.to_json(), indent=1, default=str), file=sys.stderr)
            return
        print(f"error: {error}", file=sys.stderr)
        tail = error.fields.get("tail")
        if tail:
            print("\n".join(f"  | {line}" for line in str(tail).splitlines()), file=sys.stderr)


def show(value: Any) -> str:
    """A table cell."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}" if abs(value) < 1000 else f"{value:.0f}"
    return str(value)
