"""The trigger of `benchmarks.pods`: leaves its pod alone when the task is ended, for the next turn."""

from __future__ import annotations

from plugins.windtunnel.operators.pod_trigger import StepPodTrigger


class Keeps(StepPodTrigger):
    async def on_kill(self) -> None:
        pass
