"""Packages as the release side sees them: is what was registered still there, whole and unaltered?"""

from __future__ import annotations

from include.serving.package import Package, fetch, read_package
from include.settings import Settings
from include.store.objects import open_store


def verify_package(settings: Settings, family: str, digest: str) -> Package:
    """Fetches the package and holds every file against its digest.

    Raises:
        PackageError: It is missing or altered.
    """
    store = open_store(settings.store_url)
    return read_package(fetch(store, family, digest, settings.home / "cache" / "packages"))
