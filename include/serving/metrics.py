"""Prometheus metrics of all processes of the gateway, made from its own counts when they are asked for.

A request pays nothing for them, and whichever process is asked answers for all.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from include.serving.board import Column
from include.serving.tallies import CLIENT_REFUSED
from include.serving.workers import workers_of

if TYPE_CHECKING:
    from include.serving.gateway import Gateway

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_BOUNDS_MS = (1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1000.0, 2500.0, 10_000.0)
_GAUGES = (
    ("windtunnel_prediction_log_pending", "Rows not yet in the store.", Column.ROWS_PENDING),
    ("windtunnel_prediction_log_stalled", "Processes whose rows the store does not take.", Column.LOG_STALLED),
    ("windtunnel_model_calls", "Calls of the models that are loaded.", Column.MODEL_CALLS),
    ("windtunnel_model_rows", "Rows in those calls.", Column.MODEL_ROWS),
    ("windtunnel_requests_under_way", "Requests being answered.", Column.UNDER_WAY),
    ("windtunnel_model_waiting", "Examples that wait.", Column.MODEL_WAITING),
    ("windtunnel_model_stuck", "Models all of whose threads hang.", Column.MODEL_STUCK),
    ("windtunnel_connections", "Open connections.", Column.CONNECTIONS),
)
_COUNTERS = (
    ("windtunnel_shadow_dropped", "Copies that did not fit the shadow queue.", Column.SHADOW_DROPPED),
    ("windtunnel_turned_away", "Requests refused because too many waited.", Column.TURNED_AWAY),
)
_VARIANT = ["family", "role", "version", "lane"]


def exposition(gateway: Gateway) -> bytes:
    """The metrics in Prometheus' text format."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_GatewayCollector(gateway))
    return generate_latest(registry)


class _GatewayCollector(Collector):
    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway

    def collect(self) -> Iterator[Metric]:
        yield from self._variants()
        yield from self._tables()
        yield from self._process()
        yield from self._workers()

    def _variants(self) -> Iterator[Metric]:
        requests = CounterMetricFamily("windtunnel_requests", "Requests answered or failed.", labels=_VARIANT)
        errors = CounterMetricFamily("windtunnel_errors", "Requests on which the model failed.", labels=_VARIANT)
        labels = CounterMetricFamily("windtunnel_labels", "Answers held against a truth.", labels=_VARIANT)
        latency = HistogramMetricFamily("windtunnel_latency_seconds", "Time from request to answer.", labels=_VARIANT)
        for cell in self._gateway.stats.totals():
            place = cell.place
            names = [place.family, place.role.value, place.version, place.lane.value]
            requests.add_metric(names, cell.requests)
            errors.add_metric(names, cell.errors)
            labels.add_metric(names, cell.labels)
            buckets = [(f"{bound / 1e3:g}", float(cell.latency.up_to(bound))) for bound in _BOUNDS_MS]
            latency.add_metric(names, [*buckets, ("+Inf", float(cell.latency.total))], cell.latency.total_ms / 1e3)
        yield from (requests, errors, labels, latency)

    def _tables(self) -> Iterator[Metric]:
        generation = GaugeMetricFamily(
            "windtunnel_route_generation", "Generation of the routing table that serves.", labels=["family"]
        )
        share = GaugeMetricFamily(
            "windtunnel_route_challenger_share", "Share of units that the challenger answers.", labels=["family"]
        )
        failed = GaugeMetricFamily(
            "windtunnel_route_failed", "1 where a newer generation could not be loaded.", labels=["family"]
        )
        watcher = self._gateway.watcher
        status = self._gateway.seat.board.status
        broken = status.get("failed", {})
        for family, table in watcher.tables.items():
            generation.add_metric([family], table.generation)
            share.add_metric([family], sum(list(table.table.shares.values())[1:]))
            failed.add_metric([family], float(family in broken))
        yield from (generation, share, failed)
        yield GaugeMetricFamily(
            "windtunnel_ledger_up", "1 while the ledger can be read.", value=float(not status.get("ledger_error"))
        )

    def _process(self) -> Iterator[Metric]:
        tallies = self._gateway.tallies
        tallies.publish()
        rows = CounterMetricFamily("windtunnel_prediction_log_rows", "Rows of the prediction log.", labels=["outcome"])
        rows.add_metric(["written"], tallies.sum(Column.ROWS_WRITTEN))
        rows.add_metric(["dropped"], tallies.sum(Column.ROWS_DROPPED))
        yield rows
        for name, text, column in _GAUGES:
            yield GaugeMetricFamily(name, text, value=tallies.sum(column))
        for name, text, column in _COUNTERS:
            yield CounterMetricFamily(name, text, value=tallies.sum(column))
        refused = CounterMetricFamily(
            "windtunnel_client_refused", "Requests of a client over its limits.", labels=["client"]
        )
        for client, count in self._gateway.stats.tallies(CLIENT_REFUSED).items():
            refused.add_metric([client], count)
        yield refused

    def _workers(self) -> Iterator[Metric]:
        health = workers_of(self._gateway.seat.board)
        live = GaugeMetricFamily("windtunnel_workers", "Worker processes of this gateway.", labels=["state"])
        live.add_metric(["live"], health["live"])
        live.add_metric(["configured"], health["configured"])
        yield live
        yield CounterMetricFamily(
            "windtunnel_worker_restarts",
            "Worker processes that ended and were replaced.",
            value=sum(worker["restarts"] for worker in health["workers"]),
        )
