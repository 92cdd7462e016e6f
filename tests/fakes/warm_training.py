"""What the server of forks imports once: the steps of training with torch, Lightning, MLflow and the family's encoder.

No store and no database is opened here, so that no connection and no thread is inherited.
"""

from __future__ import annotations

import importlib

for name in ("training.fit", "training.worker", "training.trial", "training.sweep", "training.study_trials"):
    importlib.import_module(f"include.{name}")
importlib.import_module("include.families.compliance_qa.lightning_parts")
for name in ("mlflow.tracking", "mlflow.store.tracking.sqlalchemy_store", "alembic.command", "alembic.context"):
    importlib.import_module(name)
