"""What is known of a request while it passes through the gateway."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from include.serving.keys import Client

VISIT = "windtunnel.visit"


@dataclass(slots=True)
class Visit:
    """A request on its way through the gateway.

    Attributes:
        given_id: The client's own id, None where it sent none (or something that is none).
        trace: (trace id, span) of the `traceparent` header, or of the gateway's own span where it makes traces.
        started: `perf_counter` when it came in.
        model: Which family and version answered.
        payload: What was asked, where the log may say so.
    """

    request_id: str
    given_id: str | None
    trace: tuple[str, str] | None
    started: float
    client: Client | None = None
    status: int = 0
    model: str | None = None
    payload: str | None = None


def visit_of(scope: Mapping[str, object]) -> Visit:
    """The visit that a request belongs to."""
    visit = scope[VISIT]
    assert isinstance(visit, Visit)
    return visit
