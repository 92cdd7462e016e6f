"""The name that Airflow's components call this machine by."""

from __future__ import annotations

from include.embedded.ports import LOOPBACK


def loopback() -> str:
    """`127.0.0.1`: all components are on this machine, and asking DNS for its name can take seconds on a laptop."""
    return LOOPBACK
