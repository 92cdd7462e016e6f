"""The MLflow side of the registry: model versions with tags and aliases, found again by what they are.

MLflow numbers its versions itself and creates a second one when asked twice. So a version carries the fingerprint of
what it is as a tag, and is looked up by it before one is created; the caller holds the lock that keeps two from looking
at the same time. No model is logged: the source is the package in the object store, which holds no code.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from include.errors import WindtunnelError

if TYPE_CHECKING:
    from mlflow import MlflowClient

FINGERPRINT = "fingerprint"


class RegistryError(WindtunnelError):
    """MLflow's registry refused, or cannot be reached."""


class MlflowRegistry:
    """Registered models of one MLflow server or database; made once per task, because its import takes seconds."""

    def __init__(self, url: str) -> None:
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        self._url = url
        self._client: MlflowClient = MlflowClient(tracking_uri=url, registry_uri=url)

    def ensure_version(
        self, family: str, fingerprint: str, source: str, tags: Mapping[str, str], description: str
    ) -> str:
        """The number of the MLflow version with this fingerprint, created if there is none; see the module's text."""
        found = self._call(
            self._client.search_model_versions, f"name='{family}' and tags.{FINGERPRINT}='{fingerprint}'"
        )
        wanted = {**tags, FINGERPRINT: fingerprint}
        if found:
            first = min(found, key=lambda version: int(version.version))
            self._correct_tags(first, wanted)
            return str(first.version)
        self._ensure_model(family)
        created = self._call(
            self._client.create_model_version,
            family,
            source=self._source(source),
            tags=wanted,
            description=description,
            await_creation_for=0,
        )
        return str(created.version)

    def set_aliases(self, family: str, aliases: Mapping[str, str | None]) -> None:
        """Points each alias at a version, or removes it (None)."""
        present = self._call(self._client.get_registered_model, family).aliases
        for alias, version in aliases.items():
            if version is None and alias in present:
                self._call(self._client.delete_registered_model_alias, family, alias)
            elif version is not None and str(present.get(alias)) != version:
                self._call(self._client.set_registered_model_alias, family, alias, version)

    def _correct_tags(self, version: Any, tags: Mapping[str, str]) -> None:
        """A try that died here may have computed another number than the one that goes on from it."""
        for name, value in tags.items():
            if version.tags.get(name) != value:
                self._call(self._client.set_model_version_tag, version.name, str(version.version), name, value)

    def _ensure_model(self, family: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(family)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise self._error(error) from error

    def _source(self, uri: str) -> str:
        """An MLflow server refuses local folders as sources, whoever asks; a URI of our own names the package
        instead."""
        if self._url.startswith("http") and uri.startswith("file:"):
            return f"windtunnel:/models/{uri.partition('/models/')[2]}"
        return uri

    def _call(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        from mlflow.exceptions import MlflowException

        try:
            return method(*args, **kwargs)
        except MlflowException as error:
            raise self._error(error) from error

    def _error(self, error: Exception) -> RegistryError:
        where = self._url.rpartition("@")[2]  # a database URL may hold a password before the @
        return RegistryError(f"MLflow's registry failed: {error}", where=where, hint="check that MLflow can be reached")
