"""What the server of forks imports once: the `fit` step with torch, Lightning and MLflow, for `tests.fakes.tiny_torch`.

No store and no database is opened here, so that no connection and no thread is inherited.
"""

from __future__ import annotations

import importlib

import include.data.datasets
from tests.fakes.tiny_torch import TinyPoints

include.data.datasets.open_dataset = lambda settings, family, version, fold: TinyPoints(version)  # type: ignore[assignment]

for name in ("fit", "worker", "trial"):
    importlib.import_module(f"include.training.{name}")
for name in ("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "alembic.context"):
    importlib.import_module(name)
