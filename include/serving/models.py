"""Models that are loaded, and the routing tables over them. Immutable: a change of traffic makes new tables.

A request takes the table of its family once and keeps it to the end, so a swap never touches a request in flight.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, TypeGuard

from include.families.contract import ModelRuntime, load_code
from include.release.routing import RoutingTable, Variant, assign
from include.serving.batching import Batcher
from include.serving.calls import ModelError, answer, shape_of
from include.serving.config import GatewayConfig
from include.serving.package import PackageError, fetch, read_package
from include.serving.tally import Lane, Place
from include.store.objects import ObjectStore

#: A harmless value of each datatype of the Open Inference Protocol, to warm a model up with that has no example of its
#: own (0 for integers).
_WARM_VALUES: Mapping[str, Any] = {"BOOL": False, "FP16": 0.0, "FP32": 0.0, "FP64": 0.0}
_WARM_ROUNDS, _WARM_WORDS = 2, 2
_TRIAL_WORDS = (12, 20, 28, 36, 16, 24, 32, 40)  # texts of different lengths, as questions are
_TRIAL_ROUNDS = 3
_WORTHWHILE = 0.7
_SLOW_SECONDS = 0.05


@dataclass(frozen=True)
class Model:
    """A loaded and warmed-up package.

    Attributes:
        shapes: Output name -> shape of one row (empty for a single value), as seen while warming up.
        batched: Whether waiting requests are merged into one call, because that was found to be faster.
        proxies: Numbers of an answer record that are averaged, whether or not anybody labels it.
    """

    digest: str
    runtime: ModelRuntime
    batcher: Batcher
    shapes: Mapping[str, tuple[int, ...]]
    batched: bool
    proxies: tuple[str, ...] = ()

    def proxies_of(self, record: Mapping[str, Any]) -> dict[str, float]:
        """Those that the record has as finite numbers."""
        values = {name: record.get(name) for name in self.proxies}
        return {name: float(value) for name, value in values.items() if _is_finite(value)}


@dataclass(frozen=True)
class LoadedTable:
    """A generation of a family's routing table whose models are loaded.

    Attributes:
        degraded: Why the challenger is missing although the ledger names one; empty when all is as the ledger says.
    """

    family: str
    generation: int
    table: RoutingTable
    models: Mapping[str, Model]  # by digest
    degraded: str = ""

    def assigned(self, unit: str) -> Variant:
        """The variant that answers `unit`."""
        return assign(self.table, unit)

    def with_version(self, version: str) -> Variant | None:
        """The loaded variant of this model version."""
        return next((variant for variant in self.table.variants if variant.version == version), None)

    @property
    def champion(self) -> Model:
        """The champion's model; all variants of a table take and give the same tensors."""
        return self.models[self.table.champion.digest]

    @property
    def shadow(self) -> Variant | None:
        """The challenger, where it works in the champion's shadow."""
        return self.table.challenger if self.table.shadow else None

    def place(self, variant: Variant, lane: Lane) -> Place:
        """Where answers of `variant` are counted."""
        return Place(self.family, self.generation, variant.role, variant.version, variant.digest, lane)


class ModelLoader:
    """Makes models from packages in the object store.

    Args:
        cache: Folder for downloaded packages.
    """

    def __init__(self, store: ObjectStore, cache: Path, config: GatewayConfig) -> None:
        self._store = store
        self._cache = cache
        self._config = config

    def load(self, family: str, digest: str) -> Model:
        """Fetches, verifies, loads and warms up a package.

        Raises:
            PackageError: The package is missing or altered.
            Exception: Whatever the family's code raises while it loads or answers the warm-up request.
        """
        folder = fetch(self._store, family, digest, self._cache)
        package = read_package(folder)
        if package.family != family:
            raise PackageError(
                f"the package is one of {package.family!r}", where=str(folder), hint="the routing table is wrong"
            )
        runtime = load_code(package.code).load(folder)
        shapes = warm_up(runtime)
        batched = worth_batching(runtime)
        config = self._config
        rows = config.max_batch if batched else 1
        batcher = Batcher(
            runtime,
            workers=config.threads,
            max_rows=rows,
            max_waiting=config.max_waiting,
            max_wait=config.max_wait_seconds,
            seconds=config.answer_seconds,
        )
        return Model(digest, runtime, batcher, shapes, batched, tuple(getattr(runtime, "proxies", ())))


def _is_finite(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and math.isfinite(value)


def warm_up(runtime: ModelRuntime) -> dict[str, tuple[int, ...]]:
    """Makes the first calls, which are slow, before a client does; returns the shapes of the outputs."""
    inputs = {name: [value] for name, value in trial_row(runtime, _WARM_WORDS).items()}
    for _ in range(_WARM_ROUNDS):
        answers = answer(runtime, inputs, 1)
    unknown = runtime.outputs.keys() - answers.outputs.keys()
    if unknown:
        raise ModelError(f"the model promises outputs that it does not give: {', '.join(sorted(unknown))}")
    return {name: shape_of(answers.outputs[name][0]) for name in runtime.outputs}


def worth_batching(runtime: ModelRuntime) -> bool:
    """Whether one call on several requests takes clearly less time than a call each.

    That depends on model and processor: where a single question already fills the arithmetic units (a transformer on
    a CPU core) a batch gains nothing, and loses what the padding to its longest text costs. So it is measured.
    """
    rows = [trial_row(runtime, words) for words in _TRIAL_WORDS]
    if _seconds(runtime, rows[:1]) > _SLOW_SECONDS:  # a new table should not wait for a thorough measurement
        rows = rows[:2]
    alone, merged = [], []
    for _ in range(_TRIAL_ROUNDS):  # taking turns, so that a busy moment does not hit one side only
        alone.append(sum(_seconds(runtime, [row]) for row in rows))
        merged.append(_seconds(runtime, rows))
    return min(merged) <= _WORTHWHILE * min(alone)


def trial_row(runtime: ModelRuntime, words: int) -> dict[str, Any]:
    """Made-up inputs of one request, whose texts have so many words; of a model with an example of its own, that."""
    own: Mapping[str, Any] | None = getattr(runtime, "example", None)
    if own is not None:
        return dict(own)
    text = " ".join(["rule"] * words)
    return {name: text if kind == "BYTES" else _WARM_VALUES.get(kind, 0) for name, kind in runtime.inputs.items()}


def _seconds(runtime: ModelRuntime, rows: list[dict[str, Any]]) -> float:
    """How long one call on `rows` takes."""
    started = perf_counter()
    answer(runtime, {name: [row[name] for row in rows] for name in runtime.inputs}, len(rows))
    return perf_counter() - started
