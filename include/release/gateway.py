"""What the release engine asks the serving gateway: which routing table it serves, and what its variants did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Any, cast

from include.errors import WindtunnelError, clip
from include.release.routing import RoutingTable
from include.settings import Settings

#: How long a gateway may take to fetch, verify, load and warm up the models of a new routing table.
LOAD_SECONDS = 120.0
_KEY_VARIABLE = "WINDTUNNEL_GATEWAY_API_KEY"
_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.2


class GatewayError(WindtunnelError):
    """The gateway cannot be reached, or did not take over a routing table."""


def stats(settings: Settings, family: str, generation: int) -> dict[str, Any]:
    """What the variants of a generation did so far (`/v1/stats`).

    Raises:
        GatewayError: The gateway is away, or this generation was never loaded there.
    """
    return _get(settings, "/v1/stats", {"family": family, "generation": str(generation)})


def wait_for_generation(
    settings: Settings,
    family: str,
    generation: int,
    *,
    table: RoutingTable | None = None,
    timeout: float = LOAD_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Waits until the gateway serves `generation` or a newer one; returns the seconds that took.

    Args:
        table: What it must serve under exactly this generation.

    Raises:
        GatewayError: It says that it cannot load that generation, serves another table under its number (then it reads
            another ledger), or the time is over.
    """
    started = clock()
    last = "it did not answer"
    while True:
        try:
            shown = _get(settings, "/v1/routes").get(family) or {}
        except GatewayError as error:
            last = error.message
        else:
            failed = shown.get("failed")
            if failed and failed["generation"] == generation:
                raise GatewayError(
                    f"the gateway cannot load generation {generation} of {family}: {failed['error']}",
                    where=settings.gateway_url,
                    hint="the table before goes on serving; look at the package that it names",
                    generation=generation,
                )
            serving = shown.get("generation")
            if serving is not None and int(serving) >= generation:
                if int(serving) == generation and table is not None:
                    _check_table(settings, family, generation, shown, table)
                return clock() - started
            last = f"it serves generation {serving}" if serving is not None else f"it serves no {family} yet"
        if clock() - started >= timeout:
            raise GatewayError(
                f"the gateway did not take over generation {generation} of {family} in {timeout:g} s: {last}",
                where=settings.gateway_url,
                hint="check that the gateway runs and reaches the ledger; the task can be tried again",
                generation=generation,
            )
        sleep(_POLL_SECONDS)


def _check_table(settings: Settings, family: str, generation: int, shown: dict[str, Any], table: RoutingTable) -> None:
    """A gateway that had to leave out a challenger says so in `degraded`; its champion must still be ours."""
    served = RoutingTable.model_validate(shown["table"])
    same = served.champion == table.champion if shown.get("degraded") else served == table
    if not same:
        raise GatewayError(
            f"the gateway serves another routing table of {family} as generation {generation}",
            where=settings.gateway_url,
            hint="it reads another ledger; check WINDTUNNEL_GATEWAY_URL and WINDTUNNEL_DATABASE_URL",
            generation=generation,
        )


def _get(settings: Settings, path: str, query: dict[str, str] | None = None) -> dict[str, Any]:
    import httpx

    key = os.environ.get(_KEY_VARIABLE)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(
            settings.gateway_url + path, params=query, headers=headers, timeout=_ASK_SECONDS, trust_env=False
        )
        answer.raise_for_status()
        return cast("dict[str, Any]", answer.json())
    except httpx.HTTPStatusError as error:
        said = clip(error.response.text, 200)
        raise GatewayError(f"the gateway answered {error.response.status_code}: {said}", where=path) from error
    except (httpx.HTTPError, ValueError) as error:
        raise GatewayError(
            f"the gateway cannot be asked: {type(error).__name__}: {error}",
            where=settings.gateway_url,
            hint="check that it runs (WINDTUNNEL_GATEWAY_URL)",
        ) from error
