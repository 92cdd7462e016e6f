"""Where a drill is held: an installation of its own, with its own ledger, store and gateway process, gone afterwards.

Production's routing tables, registry and gateway are not touched, nor reachable from there: the drill's settings name
other databases, another store and another port.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from include.errors import WindtunnelError, clip
from include.pods.forking import die_with_parent
from include.release.drill import faults
from include.release.ledger import Ledger
from include.release.registry import NO_MLFLOW, Registration, register
from include.release.rollback import all_to
from include.release.routing import Role, Variant
from include.serving.package import fetch, publish, read_package
from include.settings import PROJECT_ROOT, Settings
from include.steps.fingerprint import code_version, fingerprint
from include.store.database import open_database
from include.store.objects import open_store

_STOP_SECONDS = 40.0


class DrillError(WindtunnelError):
    """The drill could not be held; it says nothing about the family's guardrails."""


@contextmanager
def target(settings: Settings, name: str) -> Iterator[Settings]:
    """The settings of a fresh target whose gateway runs; what a killed drill of this name left is cleared first.

    Raises:
        DrillError: Its gateway does not start.
    """
    for left in (settings.home / "drill").glob(f"{name}-*"):
        shutil.rmtree(left, ignore_errors=True)
    home = settings.home / "drill" / f"{name}-{uuid.uuid4().hex[:8]}"
    faults.allow(home)
    (home / "db").mkdir()
    here = replace(
        settings,
        home=home,
        store_url=(home / "store").as_uri(),
        database_url=f"sqlite:///{home / 'db' / 'ledger.db'}",
        mlflow_url=NO_MLFLOW,
    )
    open_database(here.database_url)
    try:
        with _gateway(here) as url:
            yield replace(here, gateway_url=url)
    finally:
        shutil.rmtree(home, ignore_errors=True)


def serve_copy(settings: Settings, here: Settings, champion: Variant, family: str, *, at: datetime) -> Path:
    """Lets a copy of production's champion serve everything at the target; returns the folder of its package.

    Raises:
        PackageError: The champion's package is missing or altered.
    """
    folder = fetch(open_store(settings.store_url), family, champion.digest, here.home / "cache" / "packages")
    publish(open_store(here.store_url), folder)
    copy = Variant(role=Role.CHAMPION, version=champion.version, digest=champion.digest)
    ledger = Ledger(open_database(here.database_url))
    ledger.swap_route(family, 0, all_to(copy), reason="drill: a copy of production's champion", actor="drill", at=at)
    return folder


def register_bad(here: Settings, family: str, version: str, folder: Path, *, at: datetime) -> None:
    """Registers the package in `folder` at the target as if it had passed its gates."""
    publish(open_store(here.store_url), folder)
    digest = read_package(folder).digest
    entry = Registration(
        family=family,
        fingerprint=fingerprint(drill=version, digest=digest),
        digest=digest,
        verdict="PASS",
        releasable=True,
        dataset_version="drill",
        code_version=code_version(),
        record={"baselines": {}, "change": "drill"},
        choose=lambda _: (version, {}),
        description="bad on purpose",
        tags={},
    )
    register(here, entry, actor="drill", at=at)


@contextmanager
def _gateway(here: Settings) -> Iterator[str]:
    """A gateway on a free port of this machine; its URL."""
    log = here.home / "gateway.log"
    with log.open("w") as stderr:
        process = subprocess.Popen(
            [sys.executable, "-m", "include.serving", "--port", "0"],
            env={**os.environ, **here.to_env()},
            cwd=PROJECT_ROOT,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            preexec_fn=die_with_parent,  # noqa: PLW1509 - the traffic, which has a thread, starts later
        )
    assert process.stdout is not None  # a pipe was asked for
    try:
        url = process.stdout.readline().strip().rpartition(" ")[2]
        if not url.startswith("http"):
            raise DrillError("the drill's gateway did not start", where=str(log), hint=clip(log.read_text()[-300:]))
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
