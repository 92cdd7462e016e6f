"""Gateways as processes, as in the tests of the gateway itself."""

from tests.serving.conftest import start_gateway, world

__all__ = ["start_gateway", "world"]
