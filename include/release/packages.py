"""Packages as the release side sees them: is what was registered still there, whole and unaltered?"""

from __future__ import annotations

from include.serving.package import Package, fetch, read_package
from include.settings import Settings
from include.store.objects import open_store
from include.store.scratch import scratch_folder


def verify_stored(settings: Settings, family: str, digest: str) -> Package:
    """Reads the package from the store, whatever copies there are here, and holds every file against its digest.

    Raises:
        PackageError: It is missing or altered.
    """
    with scratch_folder("verify") as folder:
        return read_package(fetch(open_store(settings.store_url), family, digest, folder))


def verify_usable(settings: Settings, family: str, digest: str) -> Package:
    """As `verify_stored`, but a whole copy on this machine is enough: going back must not wait for a download.

    Raises:
        PackageError: There is neither a whole copy here nor a whole package in the store.
    """
    return read_package(fetch(open_store(settings.store_url), family, digest, settings.home / "cache" / "packages"))
