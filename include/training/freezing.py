"""Which parameters learn, from when on, and how fast: by name, as the spec's `transfer` says.

What the family's own code froze stays frozen, so that it may rely on it; the spec freezes more, and unfreezes of what
it froze (`include.training.unfreezing`).
"""

# ruff: noqa: TID253 - imported by steps only

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from torch import nn

from include.errors import UserError
from include.spec.transfer import TransferSpec

_NOTES = "windtunnel_parameters"  # attribute of a module


@dataclass(frozen=True)
class Notes:
    """What is known about a module's parameters beside whether they learn at the moment, by name.

    Attributes:
        own: The family's own code lets them learn.
        later: They are frozen, and will be unfrozen.
        brought: Their values came from another model.
    """

    own: frozenset[str]
    later: frozenset[str] = frozenset()
    brought: frozenset[str] = frozenset()


def notes(module: nn.Module) -> Notes:
    """What was noted about the module's parameters."""
    own = frozenset(name for name, value in module.named_parameters() if value.requires_grad)
    found: Notes = getattr(module, _NOTES, Notes(own))
    return found


def note(module: nn.Module, **changes: frozenset[str]) -> None:
    """Notes more about the module's parameters."""
    setattr(module, _NOTES, replace(notes(module), **changes))


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits the parameter's name."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def factor_for(name: str, transfer: TransferSpec) -> float:
    """The parameter's share of the learning rate."""
    return next((rate.factor for rate in transfer.rates if matches(name, rate.parameters)), 1.0)


def learning_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that learn, now or later, by name."""
    later = notes(module).later
    return {name: value for name, value in module.named_parameters() if value.requires_grad or name in later}


def moving_names(module: nn.Module) -> set[str]:
    """Names in the module's state, without parameters that never learn: what a checkpoint must hold."""
    return _state_names(module, learning_parameters(module))


def weight_names(module: nn.Module) -> set[str]:
    """Names in the module's state, without parameters that are where the family's own code takes them from: what the
    weights must hold to be exported, or started from by another training."""
    known = notes(module)
    return _state_names(module, known.own | known.brought)


def _state_names(module: nn.Module, parameters: Iterable[str]) -> set[str]:
    others = {name for name, _ in module.named_parameters()}.difference(parameters)
    return set(module.state_dict()) - others


def freeze(module: nn.Module, transfer: TransferSpec) -> None:
    """Freezes what the spec says, and keeps in mind what of it is to be unfrozen.

    Raises:
        UserError: A pattern fits no parameter, nothing would learn, or what is to be unfrozen is not frozen.
    """
    own = {name: value for name, value in module.named_parameters() if value.requires_grad}
    note(module, own=frozenset(own))
    _require_matches(module, transfer)
    frozen = {
        name
        for name in own
        if matches(name, transfer.freeze) or (transfer.learn_only and not matches(name, transfer.learn_only))
    }
    for stage in transfer.unfreeze:
        if not any(matches(name, stage.parameters) for name in frozen):
            raise UserError(
                f"unfreeze names {stage.parameters[0]!r}, and nothing of that is frozen by the spec",
                where="trainer.transfer.unfreeze",
                hint="name it under freeze first; what the family's own code froze stays frozen",
            )
    if len(frozen) == len(own):
        raise UserError(
            "nothing is left to learn",
            where="trainer.transfer",
            hint="freeze less, or widen the patterns of learn_only",
        )
    for name in frozen:
        own[name].requires_grad_(False)
    patterns = [pattern for stage in transfer.unfreeze for pattern in stage.parameters]
    note(module, later=frozenset(name for name in frozen if matches(name, patterns)))
    rest_frozen_modules(module)


def rest_frozen_modules(module: nn.Module) -> None:
    """Puts modules that have parameters and learn none of them into evaluation mode, and the others into training mode.

    Frozen layers then neither drop out nor gather the statistics of batch norms.
    """
    for child in module.children():
        parameters = list(child.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            child.eval()
        else:
            rest_frozen_modules(child)


def _require_matches(module: nn.Module, transfer: TransferSpec) -> None:
    names = [name for name, _ in module.named_parameters()]
    places = {
        "freeze": transfer.freeze,
        "learn_only": transfer.learn_only,
        "unfreeze": [pattern for stage in transfer.unfreeze for pattern in stage.parameters],
        "rates": [pattern for rate in transfer.rates for pattern in rate.parameters],
    }
    for place, patterns in places.items():
        for pattern in patterns:
            if not any(fnmatchcase(name, pattern) for name in names):
                raise UserError(
                    f"no parameter is called {pattern!r}",
                    where=f"trainer.transfer.{place}",
                    hint=f"the model's are called {', '.join(names[:3])}, ..., {names[-1]}",
                )
