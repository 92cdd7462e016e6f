"""KServe's InferenceService of a family: a pure function of the serving spec, the routing table and what is there.

KServe splits traffic between the newest revision of a service and the last one that had all traffic, by
`canaryTrafficPercent` (https://kserve.github.io/website/docs/model-serving/predictive-inference/rollout-strategies/canary).
So a routing table cannot be written down at once: the champion must have had all traffic before a challenger comes; and
when one goes back, the champion's new revision gets 0% until it is ready, which gives all to the revision that it had.
`step` says what comes next.

A predictor is a gateway that serves one model. What Knative does not take of a pod is left out, or said of the
container (https://knative.dev/docs/serving/configuration/feature-flags/).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from include.pods.manifest import label, over
from include.release.routing import RoutingTable
from include.serving.route_source import ONLY_VARIABLE
from include.spec.serving import ServingSpec
from include.targets.gateway_pod import Manifest, labels, pod
from include.targets.manifest import HELD, bounds

API, KIND = "serving.kserve.io/v1beta1", "InferenceService"
CONTAINER = "kserve-container"
FAMILY = "windtunnel/family"
#: Annotations: the model of the newest revision, and the one that last had all traffic.
MODEL, ROLLED_OUT = "windtunnel/model", "windtunnel/rolled-out"
_NAME = 50
_HUNDRED = 100


@dataclass(frozen=True)
class State:
    """What an InferenceService is, or is to be.

    Attributes:
        model: Digest of the newest revision's model.
        percent: Of the traffic that it gets; None: all, and the revisions before are done with.
        rolled_out: Digest of the model that last had all traffic, and gets the rest.
    """

    model: str
    percent: int | None = None
    rolled_out: str | None = None


def step(table: RoutingTable, now: State | None, ready: bool = False) -> State:
    """What the service is to be next on its way to `table`; where it is there, what it is.

    Args:
        ready: Whether it is by now what `now` asked for.
    """
    challenger = None if table.shadow else table.challenger
    full = challenger is not None and table.challenger_share == 1.0
    main = challenger.digest if challenger and full else table.champion.digest
    rolled_out = now.rolled_out if now else None
    if now is not None and ready and now.model == main and now.percent is None:
        rolled_out = main
    if rolled_out == main:
        if challenger is not None and not full:
            return State(challenger.digest, whole_percent(table.challenger_share), rolled_out)
        if now is not None and (now.model != main or (now.percent == 0 and not ready)):
            return State(main, 0, rolled_out)
    return State(main, None, rolled_out)


def whole_percent(share: float) -> int | None:
    """`share` in percent; None where that is no whole number, which KServe cannot split by."""
    percent = round(share * _HUNDRED)
    return percent if abs(share * _HUNDRED - percent) < 1e-9 else None


def name_of(spec: ServingSpec, family: str) -> str:
    """The service's name; Knative makes longer ones of it."""
    return f"{spec.name}-{family.replace('_', '-')}"[:_NAME].rstrip("-")


def inference_service(spec: ServingSpec, family: str, state: State, held: int | None = None) -> Manifest:
    """The service in this state."""
    predictor = _predictor(pod(spec, CONTAINER, {ONLY_VARIABLE: f"{family}@{state.model}"})["spec"], spec)
    floor, ceiling = bounds(spec, held)
    share = {} if state.percent is None else {"canaryTrafficPercent": state.percent}
    notes = {
        "serving.kserve.io/deploymentMode": "Serverless",  # the one that splits traffic
        MODEL: state.model,
        **({ROLLED_OUT: state.rolled_out} if state.rolled_out else {}),
        **({HELD: str(held)} if held is not None else {}),
    }
    return {
        "apiVersion": API,
        "kind": KIND,
        "metadata": {
            "name": name_of(spec, family),
            "namespace": spec.namespace,
            "labels": {**labels(spec), FAMILY: label(family)},
            "annotations": notes,
        },
        "spec": {
            "predictor": {
                "minReplicas": floor,
                "maxReplicas": ceiling,
                "scaleMetric": "cpu",
                "scaleTarget": spec.replicas.cpu_percent,
                **share,
                **predictor,
            }
        },
    }


def read(found: Mapping[str, Any]) -> State:
    """The state of a service that is there."""
    notes = found["metadata"].get("annotations") or {}
    percent = found["spec"]["predictor"].get("canaryTrafficPercent")
    return State(notes.get(MODEL, ""), percent, notes.get(ROLLED_OUT))


def trouble(found: Mapping[str, Any]) -> str:
    """Why the service is not ready, by its own conditions; empty where it is."""
    status = found.get("status") or {}
    if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        return "KServe has not looked at it yet"
    predictor = (status.get("components") or {}).get("predictor") or {}
    if predictor.get("latestReadyRevision") != predictor.get("latestCreatedRevision"):
        return f"revision {predictor.get('latestCreatedRevision')} is not ready{_said(status)}"
    ready = any(item["type"] == "Ready" and item["status"] == "True" for item in status.get("conditions") or [])
    return "" if ready else f"not ready{_said(status)}"


def _said(status: Mapping[str, Any]) -> str:
    said = [*_complaints(status)]
    return f": {'; '.join(said)}" if said else ""


def _complaints(status: Mapping[str, Any]) -> Iterator[str]:
    for item in status.get("conditions") or []:
        if item.get("status") == "False" and item.get("message"):
            yield f"{item['type']}: {item['message']}"


def _predictor(given: Manifest, spec: ServingSpec) -> Manifest:
    """A gateway's pod as far as Knative takes it."""
    (container,) = [item for item in given["containers"] if item["name"] == CONTAINER]
    others = [item for item in given["containers"] if item["name"] != CONTAINER]
    user = {key: given["securityContext"][key] for key in ("runAsNonRoot", "runAsUser", "runAsGroup", "seccompProfile")}
    probe = {"path": "/v2/health/ready", "port": spec.port}
    asked = over(
        container,
        {
            "startupProbe": None,
            "ports": [{"containerPort": spec.port, "protocol": "TCP"}],
            "readinessProbe": {"httpGet": probe, "periodSeconds": 5, "timeoutSeconds": 3},
            "livenessProbe": {"httpGet": {**probe, "path": "/v2/health/live"}, "initialDelaySeconds": 60},
            "securityContext": user,
        },
    )
    without = ("securityContext", "topologySpreadConstraints", "terminationGracePeriodSeconds", "containers")
    kept = {key: value for key, value in given.items() if key not in without}
    return {**kept, "containers": [asked, *others]}
