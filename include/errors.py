"""The root of every error that Windtunnel raises on purpose.

An error says what was wrong, where, and what to do next. It carries its data as fields, so that the command line, the
task log and a run's `error.json` can show the same thing without parsing text, and it is bounded in length, so that
one broken row of 50 MB does not become a log line of 50 MB.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

MAX_TEXT = 600


class FailureKind(str, Enum):
    """Who can mend a failure; decides whether trying again makes sense."""

    USER = "user"  # a wrong spec, parameter or environment: trying again changes nothing
    DATA = "data"  # the input is bad: trying again changes nothing until the input changes
    TRAINING = "training"  # training diverged: trying again helps only with other settings
    SYSTEM = "system"  # the outside world failed: trying again may help


#: Kinds that a retry cannot mend.
FINAL_KINDS = frozenset({FailureKind.USER, FailureKind.DATA})


def clip(text: object, limit: int = MAX_TEXT) -> str:
    """`text` on one piece of at most `limit` characters, with a mark where it was cut."""
    string = str(text)
    return string if len(string) <= limit else f"{string[: limit - 12]}... [cut]"


class WindtunnelError(Exception):
    """What was wrong (`message`), where (`where`), and what to do (`hint`).

    Args:
        message: One sentence that names the thing that was wrong.
        where: File and line, table and row, or field path; empty where there is no place.
        hint: What the reader should do next.
        fields: Further data for machines; values must be JSON-serialisable.
    """

    kind: FailureKind = FailureKind.SYSTEM

    def __init__(self, message: str, *, where: str = "", hint: str = "", **fields: Any) -> None:
        self.message = clip(message)
        self.where = clip(where, 200)
        self.hint = clip(hint, 300)
        self.fields = fields
        super().__init__(str(self))

    def __str__(self) -> str:
        place = f"{self.where}: " if self.where else ""
        advice = f"\n  what to do: {self.hint}" if self.hint else ""
        return f"{place}{self.message}{advice}"

    def to_json(self) -> dict[str, Any]:
        """The error as a JSON-serialisable record: `error`, `kind`, `message`, `where`, `hint`, `fields`."""
        return {
            "error": type(self).__name__,
            "kind": self.kind.value,
            "message": self.message,
            "where": self.where,
            "hint": self.hint,
            "fields": {key: clip(value) if isinstance(value, str) else value for key, value in self.fields.items()},
        }


class UserError(WindtunnelError):
    """A person must change a spec, a parameter or the environment."""

    kind = FailureKind.USER


class DataError(WindtunnelError):
    """The data that came in cannot be used as it is."""

    kind = FailureKind.DATA


class Diverged(WindtunnelError):
    """Training went to NaN or infinity: these settings do not train."""

    kind = FailureKind.TRAINING
