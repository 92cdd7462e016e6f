"""Asks gateways over HTTP: which routing table each serves, and what their variants did."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

from include.errors import clip
from include.release.routing import RoutingTable
from include.serving.keys import own_key
from include.targets.contract import GatewayError

#: How long a gateway may take to fetch, verify, load and warm up the models of a new routing table.
LOAD_SECONDS = 120.0
_ASK_SECONDS = 5.0
_POLL_SECONDS = 0.2

Addresses = Callable[[], Sequence[str]]


def wait_for_generation(
    addresses: Addresses,
    family: str,
    generation: int,
    *,
    table: RoutingTable | None = None,
    timeout: float = LOAD_SECONDS,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> float:
    """Waits until all gateways serve `generation` or a newer one; returns the seconds that took.

    Args:
        addresses: Base URLs of the gateways that answer clients now; asked for again each time.
        table: What they must serve under exactly this generation.

    Raises:
        GatewayError: One says that it cannot load that generation, serves another table under its number (then it reads
            another ledger), or the time is over.
    """
    started, last, where = clock(), "", ""
    while True:
        found = list(addresses())
        waiting = [(url, said) for url in found if (said := _not_yet(url, family, generation, table))]
        if found and not waiting:
            return clock() - started
        where, last = waiting[0] if waiting else ("", "no gateway is ready")
        if clock() - started >= timeout:
            who = "the gateway" if len(found) == 1 else f"{len(waiting) or 'none'} of {len(found)} gateways"
            raise GatewayError(
                f"{who} did not take over generation {generation} of {family} in {timeout:g} s: {last}",
                where=where,
                hint="check that the gateway runs and reaches the ledger; the task can be tried again",
                generation=generation,
            )
        sleep(_POLL_SECONDS)


def stats(addresses: Sequence[str], family: str, generation: int) -> dict[str, Any]:
    """What the variants of a generation did so far (`/v1/stats`): any gateway says it of all of them together.

    Raises:
        GatewayError: All of them are away, or this generation never served.
    """
    query, last = {"family": family, "generation": str(generation)}, GatewayError("no gateway is ready")
    for url in addresses:
        try:
            return ask(url, "/v1/stats", query)
        except GatewayError as error:
            last = error
    raise last


class NoAnswer(GatewayError):
    """The gateway does not answer, or with an error."""


def ask(url: str, path: str, query: dict[str, str] | None = None, seconds: float = _ASK_SECONDS) -> dict[str, Any]:
    """The JSON under `path` of one gateway.

    Raises:
        NoAnswer: It does not answer, or with an error.
    """
    import httpx

    key = own_key(os.environ)
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    try:
        answer = httpx.get(url + path, params=query, headers=headers, timeout=seconds, trust_env=False)
        answer.raise_for_status()
        return cast("dict[str, Any]", answer.json())
    except httpx.HTTPStatusError as error:
        said = clip(error.response.text, 200)
        raise NoAnswer(f"the gateway answered {error.response.status_code}: {said}", where=url + path) from error
    except (httpx.HTTPError, ValueError) as error:
        raise NoAnswer(
            f"the gateway cannot be asked: {type(error).__name__}: {error}",
            where=url,
            hint="check that it runs; `windtunnel target status` tells",
        ) from error


def _not_yet(url: str, family: str, generation: int, table: RoutingTable | None) -> str:
    """What this gateway still does instead; empty where it serves the generation.

    Raises:
        GatewayError: It never will.
    """
    try:
        shown = ask(url, "/v1/routes").get(family) or {}
    except GatewayError as error:
        return error.message
    refuse_failed(url, family, shown, generation)
    serving = shown.get("generation")
    if serving is None:
        return f"it serves no {family} yet"
    if int(serving) < generation:
        return f"it serves generation {serving}"
    if int(serving) == generation and table is not None:
        _check_table(url, family, generation, shown, table)
    return ""


def refuse_failed(url: str, family: str, shown: Mapping[str, Any], generation: int | None = None) -> None:
    """Raises `GatewayError` where the gateway said that it cannot load this generation (None: whichever)."""
    failed = shown.get("failed")
    if failed and generation in (None, failed["generation"]):
        raise GatewayError(
            f"the gateway cannot load generation {failed['generation']} of {family}: {failed['error']}",
            where=url,
            hint="the table before goes on serving; look at the package that it names",
            generation=failed["generation"],
        )


def _check_table(url: str, family: str, generation: int, shown: dict[str, Any], table: RoutingTable) -> None:
    """A gateway that had to leave out a challenger says so in `degraded`; its champion must still be ours."""
    served = RoutingTable.model_validate(shown["table"])
    same = served.champion == table.champion if shown.get("degraded") else served == table
    if not same:
        raise GatewayError(
            f"the gateway serves another routing table of {family} as generation {generation}",
            where=url,
            hint="it reads another ledger; check WINDTUNNEL_GATEWAY_URL and WINDTUNNEL_DATABASE_URL",
            generation=generation,
        )
