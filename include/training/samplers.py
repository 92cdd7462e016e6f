# ruff: noqa: TID253 - imported by steps and tasks only
"""Optuna's samplers and pruners, set up for short studies that several workers share."""

from __future__ import annotations

import warnings

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, GPSampler, NSGAIISampler, RandomSampler, TPESampler

from include.spec.search import SweepSpec

_STARTUP = 4  # trials at random before a model is made of them
_KEEP = 3  # successive halving keeps one of so many
_POPULATIONS = 5  # generations that `nsga2` should live to see
_MIN_POPULATION, _MAX_POPULATION = 4, 50


def make_sampler(spec: SweepSpec, seed: int, slot: int) -> BaseSampler:
    """The spec's sampler.

    Args:
        slot: Which worker this is; workers draw differently.
    """
    own = seed + 7919 * slot
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if spec.sampler == "tpe":
            # constant_liar: what other workers are trying counts as tried, so that they do not try the same. group:
            # parameters that are searched together are modelled together, where some apply to a part of the trials.
            return TPESampler(
                seed=own,
                n_startup_trials=_STARTUP,
                multivariate=True,
                group=any(range_.when for range_ in spec.space.values()),
                constant_liar=True,
            )
        if spec.sampler == "gp":
            return GPSampler(seed=own, n_startup_trials=_STARTUP, warn_independent_sampling=False)
        if spec.sampler == "nsga2":
            size = min(_MAX_POPULATION, max(_MIN_POPULATION, spec.trials // _POPULATIONS))
            return NSGAIISampler(seed=own, population_size=size)
    return RandomSampler(seed=own)  # and for a grid, whose points wait in the study


def make_pruner(spec: SweepSpec) -> BasePruner:
    """The spec's pruner. A trial reports after each epoch, from 1."""
    if spec.pruner == "median":
        return MedianPruner(n_startup_trials=2, n_warmup_steps=0)
    if spec.pruner == "halving":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=_KEEP)
    if spec.pruner == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=spec.max_epochs, reduction_factor=_KEEP)
    return NopPruner()
