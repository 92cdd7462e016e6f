"""What Prometheus is to ask the gateways, and when it calls a person. Pure; objects of the Prometheus operator.

https://prometheus-operator.dev/docs/api-reference/api/
"""

from __future__ import annotations

from typing import Any

from include.serving.keys import KEY_VARIABLE
from include.spec.serving import ServingSpec

Manifest = dict[str, Any]
API = "monitoring.coreos.com/v1"


def monitor(spec: ServingSpec, metadata: Manifest) -> Manifest:
    """Where the gateways' metrics are; the key that opens them is referred to."""
    secret = {"name": spec.secret, "key": KEY_VARIABLE}
    return {
        "apiVersion": API,
        "kind": "ServiceMonitor",
        "metadata": _labelled(spec, metadata),
        "spec": {
            "selector": {"matchLabels": {"app.kubernetes.io/name": spec.name}},
            "endpoints": [
                {
                    "port": "http",
                    "path": "/metrics",
                    "interval": f"{spec.alerts.scrape_seconds}s",
                    "authorization": {"type": "Bearer", "credentials": secret},
                }
            ],
        },
    }


def rules(spec: ServingSpec, metadata: Manifest) -> Manifest:
    """The alerts. A rollout that goes wrong comes down by itself: these are for what nothing mends by itself."""
    chosen = f'namespace="{spec.namespace}", job="{spec.name}"'
    live = f'{chosen}, lane="live"'
    by = "by (family, version)"
    failing = f"sum {by} (rate(windtunnel_errors_total{{{live}}}[5m]))"
    asked = f"sum {by} (rate(windtunnel_requests_total{{{live}}}[5m]))"
    buckets = f"sum by (family, version, le) (rate(windtunnel_latency_seconds_bucket{{{live}}}[5m]))"
    away = f"sum(rate(windtunnel_turned_away_total{{{chosen}}}[5m]))"
    answered = f"sum(rate(windtunnel_requests_total{{{live}}}[5m]))"
    generations = f"windtunnel_route_generation{{{chosen}}}"
    alerts = spec.alerts
    listed = [
        _alert("WindtunnelGatewayAbsent", f"absent(up{{{chosen}}} == 1)", "2m", "critical",
               "no gateway can be asked: nothing serves, or nobody scrapes"),
        _alert("WindtunnelErrors", f"{failing} / {asked} > {alerts.error_rate:g}", "5m", "critical",
               "{{ $labels.family }} {{ $labels.version }} fails on {{ $value | humanizePercentage }} of its requests"),
        _alert("WindtunnelSlow", f"histogram_quantile(0.95, {buckets}) * 1000 > {alerts.latency_ms:g}", "10m",
               "warning", "{{ $labels.family }} {{ $labels.version }}: p95 is {{ $value | humanize }} ms"),
        _alert("WindtunnelTurnedAway", f"{away} / ({answered} + {away}) > {alerts.turned_away:g}", "5m", "warning",
               "{{ $value | humanizePercentage }} of the requests found no room: more gateways, or a faster model"),
        _alert("WindtunnelRouteFailed", f"max by (family) (windtunnel_route_failed{{{chosen}}}) > 0", "2m", "critical",
               "{{ $labels.family }}: a routing table cannot be loaded, the one before goes on serving"),
        _alert("WindtunnelRoutesDiffer", f"max by (family) ({generations}) - min by (family) ({generations}) > 0",
               "5m", "critical", "{{ $labels.family }}: gateways serve by different routing tables"),
        _alert("WindtunnelLedgerAway", f"min(windtunnel_ledger_up{{{chosen}}}) < 1", "5m", "warning",
               "a gateway cannot read the ledger: it serves on, and follows no change of traffic"),
        _alert("WindtunnelPredictionsWait", f"max(windtunnel_prediction_log_stalled{{{chosen}}}) > 0", "5m", "warning",
               "the object store does not take the prediction log, which waits on the gateways' disks"),
        _alert("WindtunnelPredictionsLost",
               f'increase(windtunnel_prediction_log_rows_total{{{chosen}, outcome="dropped"}}[15m]) > 0', "0m",
               "warning", "rows of the prediction log are lost: look at the object store"),
    ]  # fmt: skip
    return {
        "apiVersion": API,
        "kind": "PrometheusRule",
        "metadata": _labelled(spec, metadata),
        "spec": {"groups": [{"name": f"{spec.name}.rules", "rules": listed}]},
    }


def _alert(name: str, expression: str, lasting: str, severity: str, summary: str) -> Manifest:
    return {
        "alert": name,
        "expr": expression,
        "for": lasting,
        "labels": {"severity": severity},
        "annotations": {"summary": summary},
    }


def _labelled(spec: ServingSpec, metadata: Manifest) -> Manifest:
    return {**metadata, "labels": {**metadata["labels"], **spec.alerts.labels}}
