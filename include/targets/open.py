"""The target that the site's serving spec names. Its adapter is imported when it is needed, and not before."""

from __future__ import annotations

from collections.abc import Callable

from include.settings import Settings
from include.spec.serving import TargetKind, read_serving
from include.targets.contract import ServingTarget


def open_target(settings: Settings, progress: Callable[[str], None] = lambda _: None) -> ServingTarget:
    """The target of `settings`.

    Args:
        progress: Is told what is waited for, where that takes long.

    Raises:
        SpecError: The serving spec cannot be used.
        UserError: There is no way to its cluster.
    """
    spec = read_serving(settings.serving_spec)
    if spec.target is TargetKind.LOCAL:
        from include.targets.local import LocalTarget

        return LocalTarget(settings)
    from include.targets.api import KubernetesApi

    api = KubernetesApi.connect(spec.namespace, spec.context)
    if spec.target is TargetKind.KSERVE:
        from include.targets.kserve import KServeTarget

        return KServeTarget(settings, spec, api, progress)
    from include.targets.kubernetes import KubernetesTarget

    return KubernetesTarget(settings, spec, api, progress)


def managed(settings: Settings) -> bool:
    """Whether releases keep the target as its spec says."""
    spec = read_serving(settings.serving_spec)
    return spec.by_release and spec.target is not TargetKind.LOCAL
