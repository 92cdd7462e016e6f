"""The drill as a step: a process of its own, that the DAG `drill__<family>` starts."""

from __future__ import annotations

from typing import Any

from include.release.drill.faults import Fault
from include.release.drill.record import drill
from include.steps.entry import StepContext


def run(context: StepContext) -> dict[str, Any]:
    """Holds the drill that the inputs name (`drill`, `fault`, `live`); its outputs are the drill's record."""
    inputs = context.document.inputs
    return drill(
        context.settings,
        context.document.model_spec,
        name=inputs["drill"],
        fault=Fault(inputs["fault"]),
        live=inputs["live"],
    )
