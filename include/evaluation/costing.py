"""What the contenders cost to serve, measured until the gates on it are decided."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from include.evaluation.adjust import COST_METRICS, UNTRAINED
from include.evaluation.bench import Bench, difference
from include.evaluation.contenders import CANDIDATE
from include.evaluation.gates import TEST_SPLIT, GateInput, Verdict, judge_gate
from include.evaluation.performance import Timings, cost_comparison, cost_summary, machine, measure

_ROUNDS = 5


def measure_costs(bench: Bench) -> dict[str, Any]:
    """Cost of the candidate, the champion and the baselines; the untrained model costs what the candidate costs.

    A machine that is busy with something else makes wide intervals. Where they leave a gate open, more is measured.
    """
    evaluation = bench.asked
    digests = {name: digest for name, digest in bench.digests.items() if name != UNTRAINED}
    bench.context.progress(len(bench.digests), len(bench.digests), "models", force=True, evaluating="serving cost")
    wanted = evaluation.latency_requests
    requests = [inputs for _, inputs, _ in islice(bench.family.requests(bench.dataset, TEST_SPLIT), wanted)]
    folders = {digest: bench.folders[digest] for digest in digests.values()}
    timings = measure(
        folders,
        requests,
        wanted,
        enough=lambda so_far: _decides_costs(bench, _costs(bench, digests, so_far)),
        rounds=_ROUNDS,
    )
    costs = _costs(bench, digests, timings)
    models = {
        name: {**_summary(bench, digest, timings), "load_seconds": round(timings[digest].load_seconds, 3)}
        for name, digest in digests.items()
    }
    asked = int(timings[digests[CANDIDATE]].request_ms.size)
    return {**costs, "performance": {"machine": machine(), "requests": asked, "models": models}}


def _costs(bench: Bench, digests: Mapping[str, str], timings: Mapping[str, Timings]) -> dict[str, Any]:
    candidate = digests[CANDIDATE]

    def comparison(digest: str) -> dict[str, Any]:
        both = (bench.size(candidate), bench.size(digest))
        found = cost_comparison(timings[candidate], timings[digest], both, **bench.bootstrap)
        return {metric: difference(value) for metric, value in found.items()}

    return {
        "summary": _summary(bench, candidate, timings),
        "comparisons": {name: comparison(digest) for name, digest in digests.items() if name != CANDIDATE},
    }


def _summary(bench: Bench, digest: str, timings: Mapping[str, Timings]) -> dict[str, Any]:
    confidence = bench.asked.confidence
    costs = cost_summary(timings[digest], bench.size(digest), confidence)
    return {metric: value.to_json() for metric, value in costs.items()}


def _decides_costs(bench: Bench, costs: Mapping[str, Any]) -> bool:
    """Whether every blocking gate on a cost has a plain answer."""
    evaluation, champion = bench.asked, bench.context.document.inputs.get("champion")
    gates = [gate for gate in evaluation.gates if gate.metric in COST_METRICS and gate.split == TEST_SPLIT]
    given = GateInput.model_validate(
        {
            "gates": gates,
            "confidence": evaluation.confidence,
            "champion": champion["version"] if champion else None,
            "splits": {TEST_SPLIT: costs},
        }
    )
    results = [judge_gate(gate, given) for gate in gates]
    return not any(result.blocks and result.verdict is Verdict.INCONCLUSIVE for result in results)
