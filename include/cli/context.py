"""What commands work on: the settings of the running stack, its Airflow, and the family that is meant."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from include.errors import UserError
from include.settings import Settings

if TYPE_CHECKING:
    from include.embedded.airflow_api import AirflowApi
    from include.embedded.stack import StackView
    from include.release.registry import ModelVersion


def live_settings() -> Settings:
    """The settings, with the addresses of the running stack where the environment names none."""
    from include.embedded.ports import LOOPBACK

    settings = Settings.from_env()
    view = running_stack(settings)
    if view is None:
        return settings
    if not os.environ.get("WINDTUNNEL_GATEWAY_URL"):
        settings = replace(settings, gateway_url=f"http://{LOOPBACK}:{view.ports.gateway}")
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        settings = replace(settings, mlflow_url=f"http://{LOOPBACK}:{view.ports.mlflow}")
    return settings


def running_stack(settings: Settings) -> StackView | None:
    """The stack of this checkout, None while it does not run."""
    from include.embedded.stack import Stack

    return Stack(settings).view()


def airflow_api(settings: Settings) -> AirflowApi:
    """A client of the running stack's Airflow.

    Raises:
        UserError: The stack does not run.
    """
    view = running_stack(settings)
    if view is None:
        raise UserError("the stack does not run", where=str(settings.home), hint="start it with `windtunnel up`")
    from include.embedded.airflow_api import AirflowApi
    from include.embedded.credentials import ADMIN, keep_secrets
    from include.embedded.layout import Layout

    secrets = keep_secrets(Layout(settings.home).secrets)
    return AirflowApi(view.services["airflow"].url, ADMIN, secrets.admin_password)


def chosen_family(name: str | None) -> str:
    """`name` if there is such a family; the only family with a model where no name was given.

    Raises:
        UserError: There is none, or more than one to choose from.
    """
    from include.spec import family_folder, family_names

    if name:
        family_folder(name)
        return name
    names = family_names()
    if len(names) != 1:
        raise UserError("say which family", hint=f"one of: {', '.join(names) or '(there is none)'}")
    return names[0]


def chosen_version(settings: Settings, family: str, version: str | None) -> ModelVersion:
    """The registered version; the one that serves where none was named.

    Raises:
        UserError: It is not registered, or nothing serves yet.
    """
    from include.release.candidate import champion
    from include.release.registry import find_version
    from include.store.database import open_database

    if version is None:
        serving = champion(settings, family)
        if serving is None:
            raise UserError(f"nothing of {family} serves yet", hint="name a version: `windtunnel versions` lists them")
        version = str(serving["version"])
    return find_version(open_database(settings.database_url), family, version)
