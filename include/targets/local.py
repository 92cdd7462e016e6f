"""One gateway on this machine, at `WINDTUNNEL_GATEWAY_URL`.

What the laptop stack or somebody else keeps running there is used and left alone. Otherwise `deploy` starts one as a
local pod, which outlives the command that did.
"""

from __future__ import annotations

import os
import sys
import time
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

from include.errors import UserError
from include.pods.contract import PodPhase, PodSpec
from include.pods.local import LocalPodRunner
from include.release.routing import RoutingTable
from include.serving.config import is_loopback
from include.serving.route_source import LedgerRoutes
from include.settings import Settings
from include.spec.rollout import ReleaseSpec
from include.targets import asking
from include.targets.contract import (
    Deployed,
    GatewayError,
    Replica,
    TargetError,
    TargetPhase,
    TargetStatus,
)
from include.targets.routes import complaints, generations, models
from include.targets.trouble import telling

_START_SECONDS = 60.0
_STOP_SECONDS = 45.0  # requests in flight have 30 s
_POLL_SECONDS = 0.1
_NAME = "gateway"


class LocalTarget:
    """See the module; the contract is `ServingTarget`'s."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._url = settings.gateway_url
        self._pods = LocalPodRunner(settings.home / "serving")

    def check(self, release: ReleaseSpec) -> None:
        """The gateway can do all that a stage may ask for."""

    def deploy(self) -> Deployed:
        began = time.monotonic()
        if self._live():
            self._wait()
            return Deployed(seconds=time.monotonic() - began)
        host, port = self._address()
        command = [sys.executable, "-m", "include.serving", "--host", host, "--port", str(port)]
        spec = PodSpec(_NAME, command, secrets={**os.environ, **self._settings.to_env()})
        started = self._pods.start(spec)
        self._wait()
        return Deployed(("gateway process",) if started else (), seconds=time.monotonic() - began)

    def status(self) -> TargetStatus:
        pod = self._pods.status(_NAME)
        try:
            routes = asking.ask(self._url, "/v1/routes")
        except GatewayError as error:
            if pod.phase is PodPhase.ABSENT or pod.stopped or pod.phase is PodPhase.SUCCEEDED:
                return TargetStatus("local", self._url, TargetPhase.ABSENT)
            why = error.message if pod.phase is PodPhase.RUNNING else self._last_words()
            replica = Replica(_NAME, ready=False, address=self._url, why=why)
            return TargetStatus("local", self._url, TargetPhase.DEGRADED, wanted=1, replicas=(replica,), why=(why,))
        since, said = self._since(routes), tuple(complaints(routes))
        replica = Replica(
            _NAME,
            ready=bool(generations(routes)),
            address=self._url,
            since=since,
            generations=generations(routes),
            why="" if routes else "nothing serves before the first release",
        )
        return TargetStatus(
            "local",
            self._url,
            TargetPhase.DEGRADED if said else TargetPhase.READY,
            wanted=1,
            since=since,
            replicas=(replica,),
            why=said,
            models=models([routes]),
        )

    def scale(self, replicas: int | None) -> TargetStatus:
        if replicas not in (None, 1):
            raise UserError(
                f"a local target has one gateway, not {replicas}",
                where="WINDTUNNEL_SERVING_SPEC",
                hint="target `kubernetes` has as many as you like",
            )
        return self.status()

    def undeploy(self) -> bool:
        if self._pods.status(_NAME).phase is not PodPhase.RUNNING:
            if self._live():
                raise UserError(
                    "the gateway there was not started by `deploy`",
                    where=self._url,
                    hint="stop it where it was started: `windtunnel down`, or your service manager",
                )
            return False
        self._pods.stop(_NAME, _STOP_SECONDS)
        return True

    def follow(
        self, family: str, generation: int, table: RoutingTable | None = None, timeout: float = asking.LOAD_SECONDS
    ) -> float:
        return asking.wait_for_generation(lambda: [self._url], family, generation, table=table, timeout=timeout)

    def stats(self, family: str, generation: int) -> dict[str, Any]:
        return asking.stats([self._url], family, generation)

    def _wait(self) -> None:
        """Until it answers, and has loaded what serves, where something does."""
        deadline = time.monotonic() + _START_SECONDS
        while not self._serves():
            phase = self._pods.status(_NAME).phase
            if phase is not PodPhase.RUNNING and not self._live():
                raise TargetError(
                    f"the gateway ended: {self._last_words()}",
                    where=self._url,
                    tail="\n".join(self._pods.tail(_NAME)[-15:]),
                )
            if time.monotonic() > deadline:
                raise TargetError(f"the gateway did not come up in {_START_SECONDS:g} s", where=self._url)
            time.sleep(_POLL_SECONDS)

    def _serves(self) -> bool:
        try:
            asking.ask(self._url, "/v2/health/ready", seconds=2.0)
        except GatewayError:
            return self._live() and not LedgerRoutes(self._settings.database_url).newest()
        return True

    def _live(self) -> bool:
        try:
            return bool(asking.ask(self._url, "/v2/health/live", seconds=2.0).get("live"))
        except GatewayError:
            return False

    def _address(self) -> tuple[str, int]:
        parts = urlsplit(self._url)
        host = parts.hostname or ""
        if not is_loopback(host):
            raise UserError(
                f"no gateway answers at {self._url}, and only one on this machine can be started from here",
                where="WINDTUNNEL_GATEWAY_URL",
                hint="start it there, or name a target in WINDTUNNEL_SERVING_SPEC",
            )
        return host, parts.port or 80

    def _since(self, routes: dict[str, Any]) -> datetime | None:
        for family in generations(routes):
            try:
                return datetime.fromisoformat(asking.ask(self._url, "/v1/stats", {"family": family})["started_at"])
            except (GatewayError, KeyError):
                return None
        return None

    def _last_words(self) -> str:
        return telling(self._pods.tail(_NAME)) or "it said nothing"
