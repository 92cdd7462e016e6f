"""Do the experiments keep their promises? Simulated experiments whose truth is known, looked at 1,000 times each.

The peer is the usual z-test at 5%, looked at as often, or once at its planned end. Sums are simulated in one piece for
all experiments, by the same formulas as the analysis; `_check` holds them against the analysis itself in every run. The
last figures go through everything: units are assigned by the routing table, and every look is a whole decision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.harness import Figure
from include.release.bounds import wilson
from include.release.experiments.analysis import RATIO_ALPHA, decide
from include.release.experiments.comparison import compare
from include.release.experiments.design import Design
from include.release.experiments.estimate import Sums
from include.release.experiments.sequential import CONCENTRATION, best_precision, boundary, ratio_always_valid
from include.release.routing import Arm, Role, RoutingTable, Variant, assign, unit_point

LOOKS = 1000
_Z = 1.96
_A, _B = "1.0.0", "1.1.0"
_RATE, _MDE = 0.2, 0.02
_CHUNK = 250
_NOTE = "± is half of a 95% interval over the n simulated experiments; rate 20%, smallest effect 2 points, planned size"
_PEEKED = "z-test at 5%, looked at as often"
_ONCE = "z-test at 5%, looked at once"

Floats = NDArray[np.float64]


def design() -> Design:
    """The experiment that is simulated: one challenger, one rate."""
    return Design.model_validate(
        {
            "name": "simulated",
            "family": "simulated",
            "variants": [{"version": _A}, {"version": _B}],
            "primary": {"name": "hit"},
            "mde": _MDE,
            "baseline": _RATE,
            "max_days": 1000,
        }
    )


@dataclass(frozen=True)
class Ends:
    """How simulated experiments ended, shape (n,) each, for one way of testing.

    Attributes:
        crossed: Whether a difference was claimed at any look.
        units: Units per variant when it stopped.
        estimate: Difference at that moment.
        covered: Whether the interval at that moment held the truth.
    """

    crossed: NDArray[np.bool_]
    units: Floats
    estimate: Floats
    covered: NDArray[np.bool_]


def run(quick: bool) -> list[Figure]:
    """False alarms, power, bias, coverage, share check, and whole decisions on A/A traffic."""
    rng = np.random.default_rng(20_261_121)
    plan = design().plan()
    n, step = 500 if quick else 4000, round(plan.always[0] / LOOKS)
    null, null_naive = simulate(rng, n, _RATE, _RATE, step)
    real, real_naive = simulate(rng, n, _RATE, _RATE + _MDE, step)
    large, _ = simulate(rng, n // 2, _RATE, _RATE + 2 * _MDE, step)
    skewed, skewed_naive = simulate_skewed(rng, n // 4, step)
    once = _once(rng, n, plan.once[0])
    return [
        _share(f"false alarms in {LOOKS} looks, promised 0.05", null.crossed, _PEEKED, null_naive.crossed),
        _share(f"false alarms in {LOOKS} looks, log-normal values", skewed.crossed, _PEEKED, skewed_naive.crossed),
        _share("power at the smallest effect, planned 0.8", real.crossed, f"{_ONCE}, {plan.once[0]} units", once),
        _mean("units per variant until it stops, smallest effect", real.units, plan.once[0]),
        _mean("units per variant until it stops, twice the effect", large.units, plan.once[0]),
        _bias("estimate over truth where a winner was found", real, real_naive),
        _share("interval holds the truth where it stopped", real.covered, _PEEKED, real_naive.covered),
        _share("the same without an effect", null.covered, _PEEKED, null_naive.covered),
        *share_checks(rng, n // 2),
        *whole_decisions(10 if quick else 100),
    ]


def simulate(rng: np.random.Generator, n: int, control: float, challenger: float, step: int) -> tuple[Ends, Ends]:
    """`n` experiments on rates, with `step` new units per variant before each look: always-valid, and the z-test."""
    parts = []
    for start in range(0, n, _CHUNK):
        size = (min(_CHUNK, n - start), LOOKS)
        hits = [rng.binomial(step, rate, size).cumsum(axis=1) for rate in (control, challenger)]
        parts.append(_ends(*_rates(hits[0], hits[1], step), challenger - control, step))
        if start == 0:
            _check(hits[0], hits[1], step)
    return _joined([own for own, _ in parts]), _joined([naive for _, naive in parts])


def simulate_skewed(rng: np.random.Generator, n: int, step: int) -> tuple[Ends, Ends]:
    """As `simulate`, with log-normal values (skewness 6.2, as latencies have) and no effect."""
    parts = []
    for start in range(0, n, _CHUNK // 5):
        size = (2, min(_CHUNK // 5, n - start), LOOKS, step)
        values = rng.lognormal(0.0, 1.0, size).astype(np.float32)
        sums, squares = values.sum(axis=3).cumsum(axis=2), (values**2).sum(axis=3).cumsum(axis=2)
        units = step * np.arange(1, LOOKS + 1)
        variance = (squares / units - (sums / units) ** 2).sum(axis=0) / units
        parts.append(_ends((sums[1] - sums[0]) / units, np.sqrt(variance), 0.0, step))
    return _joined([own for own, _ in parts]), _joined([naive for _, naive in parts])


def share_checks(rng: np.random.Generator, n: int) -> list[Figure]:
    """How often the share check is wrong at 5% in 1,000 looks, and how soon it sees that 5 of 100 units are lost."""
    from scipy.special import chdtrc, gammaln

    step = 20
    total = step * np.arange(1, LOOKS + 1)

    def p_values(share: float) -> tuple[Floats, Floats]:
        counts = rng.binomial(step, share, (n, LOOKS)).cumsum(axis=1)
        half = CONCENTRATION / 2
        evidence = gammaln(CONCENTRATION) - gammaln(CONCENTRATION + total) - total * np.log(0.5)
        for seen in (counts, total - counts):
            evidence = evidence + gammaln(half + seen) - gammaln(half)
        own = np.exp(-np.maximum(evidence, 0.0))
        for look in (10, 500, LOOKS - 1):
            pair = [int(counts[0, look]), int(total[look] - counts[0, look])]
            _same(own[0, look], ratio_always_valid(pair, [1, 1]))
        return own, chdtrc(1, (2 * counts - total) ** 2 / total)

    own, naive = p_values(0.5)
    lost, _ = p_values(1 / 1.95)  # 5 of 100 units of one variant never reach the log
    found: NDArray[np.bool_] = np.any(lost < RATIO_ALPHA, axis=1)
    peer = "chi-square at 5%, looked at as often"
    alarms = _share(
        f"share check: false alarms at 5% in {LOOKS} looks",
        np.asarray(np.any(own <= 0.05, axis=1)),
        peer,
        np.asarray(np.any(naive <= 0.05, axis=1)),
    )
    seen = _share(f"share check: sees 5% of one side's {LOOKS * step // 2:,} units lost", found)
    return [alarms, seen]


def whole_decisions(runs: int) -> list[Figure]:
    """A/A traffic through the routing table and the whole analysis: 50 looks per experiment, any verdict but go on."""
    shipped, voided, kept = [], [], []
    for number in range(runs):
        verdict = _experiment(f"aa{number}", units=8000, looks=50)
        shipped.append(verdict == "SHIP")
        voided.append(verdict == "VOID")
        kept.append(verdict in {"KEEP", "CONTINUE"})
    figures = [("shipped (promised: at most 0.025)", shipped), ("void", voided), ("kept or went on", kept)]
    return [_share(f"A/A, assigned and decided as in production: {name}", np.array(seen)) for name, seen in figures]


def _experiment(salt: str, units: int, looks: int) -> str:
    variants = [
        Variant(role=role, version=version, digest="0" * 64) for role, version in zip(Role, (_A, _B), strict=True)
    ]
    table = RoutingTable(
        champion=variants[0], rollout=salt, arms=tuple(Arm(variant=item, weight=1) for item in variants)
    )
    shape, counts, hits = design().to_json(), {_A: 0, _B: 0}, {_A: 0, _B: 0}
    verdict = "CONTINUE"
    for unit in range(units):
        version = assign(table, f"unit-{unit}").version
        counts[version] += 1
        hits[version] += unit_point(f"{salt} outcome", str(unit)) < _RATE
        if (unit + 1) % (units // looks) == 0:
            sums = {name: _binary(counts[name], hits[name]).model_dump() for name in counts}
            given = {
                "design": shape,
                "days": 1,
                "exposed": dict(counts),
                "metrics": {"hit": {"share": True, "variants": sums}},
            }
            verdict = str(decide(given)["verdict"])
            if verdict != "CONTINUE":
                break
    return verdict


def _ends(gap: Floats, error: Floats, truth: float, step: int) -> tuple[Ends, Ends]:
    shape = design()
    units = step * np.arange(1, LOOKS + 1)
    precision = best_precision(sum(shape.plan().always), shape.alpha)
    reach = np.array([boundary(2 * int(count), shape.alpha, precision) for count in units])
    early = units < shape.min_units
    return tuple(_stopped(gap, error, np.where(early, np.inf, limit), truth, units) for limit in (reach, _Z))  # type: ignore[return-value]


def _stopped(gap: Floats, error: Floats, reach: Floats, truth: float, units: NDArray[np.int64]) -> Ends:
    beyond = np.abs(gap) > reach * error
    crossed: NDArray[np.bool_] = np.any(beyond, axis=1)
    at = np.where(crossed, beyond.argmax(axis=1), LOOKS - 1)
    rows = np.arange(len(at))
    estimate, width = gap[rows, at], reach[at] * error[rows, at]
    return Ends(crossed, units[at].astype(float), estimate, np.abs(estimate - truth) <= width)


def _rates(control: NDArray[np.int64], challenger: NDArray[np.int64], step: int) -> tuple[Floats, Floats]:
    """Differences and standard errors, as `estimates` computes them for shares."""
    units = step * np.arange(1, LOOKS + 1)
    rates = [control / units, challenger / units]
    variance = [(units * p * (1 - p) + p**2 + (1 - p) ** 2) / (units + 1) / units for p in rates]
    return rates[1] - rates[0], np.sqrt(variance[0] + variance[1])


def _check(control: NDArray[np.int64], challenger: NDArray[np.int64], step: int) -> None:
    """The analysis itself must say of some of these sums what the simulation says."""
    shape = design()
    gap, error = _rates(control, challenger, step)
    precision = best_precision(sum(shape.plan().always), shape.alpha)
    for look in (LOOKS // 5, LOOKS // 2, LOOKS - 1):
        n = step * (look + 1)
        groups = {_A: _binary(n, int(control[0, look])), _B: _binary(n, int(challenger[0, look]))}
        (found,) = compare(shape, {"hit": (groups, True)})
        _same(gap[0, look], found.difference)
        _same(gap[0, look] - boundary(2 * n, shape.alpha, precision) * error[0, look], found.low)


def _same(simulated: float, said: float | None) -> None:
    if said is None or abs(simulated - said) > 1e-6 * max(abs(said), 1e-6):
        raise AssertionError(f"the simulation says {simulated}, the analysis {said}")


def _binary(n: int, hits: int) -> Sums:
    return Sums(n=n, y=hits, m=n, yy=hits, mm=n, ym=hits)


def _once(rng: np.random.Generator, n: int, units: int) -> NDArray[np.bool_]:
    hits = [rng.binomial(units, rate, n) / units for rate in (_RATE, _RATE + _MDE)]
    error = np.sqrt(sum(rate * (1 - rate) for rate in hits) / units)
    found: NDArray[np.bool_] = np.abs(hits[1] - hits[0]) > _Z * error
    return found


def _joined(parts: Sequence[Ends]) -> Ends:
    return Ends(*(np.concatenate([getattr(part, name) for part in parts]) for name in Ends.__dataclass_fields__))


def _share(figure: str, seen: NDArray[np.bool_], peer: str = "", peer_seen: NDArray[np.bool_] | None = None) -> Figure:
    value, spread = _with_interval(seen)
    other: tuple[float | None, float | None] = (None, None) if peer_seen is None else _with_interval(peer_seen)
    return Figure("experiments", figure, value, spread, len(seen), "", peer, *other, _NOTE)


def _with_interval(seen: NDArray[np.bool_]) -> tuple[float, float]:
    rate = float(seen.mean())
    low, high = wilson(rate, len(seen), _Z)
    return rate, (high - low) / 2


def _mean(figure: str, values: Floats, peer: float) -> Figure:
    return Figure("experiments", figure, *_centre(values), len(values), "", _ONCE, float(peer), 0.0, _NOTE)


def _bias(figure: str, own: Ends, naive: Ends) -> Figure:
    ratios = [ends.estimate[ends.crossed & (ends.estimate > 0)] / _MDE for ends in (own, naive)]
    return Figure("experiments", figure, *_centre(ratios[0]), len(ratios[0]), "", _PEEKED, *_centre(ratios[1]), _NOTE)


def _centre(values: Floats) -> tuple[float, float]:
    """The mean, and half of its 95% interval."""
    result: tuple[Any, Any] = values.mean(), _Z * values.std(ddof=1) / len(values) ** 0.5
    return float(result[0]), float(result[1])
