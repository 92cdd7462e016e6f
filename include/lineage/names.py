"""Names of jobs, runs and datasets in OpenLineage events. Pure.

They say what a thing is, not where it lies: a dataset keeps its name when the object store moves from a folder to a
bucket. Where it lies goes along as a symlink facet.
"""

from __future__ import annotations

import os
import uuid

_RUNS = uuid.UUID("6f9c2a52-9a3e-5d0b-8f57-3f1f4d3f7a10")


def namespace() -> str:
    """The namespace of everything that this installation tells of: `OPENLINEAGE_NAMESPACE`, else `windtunnel`."""
    return os.environ.get("OPENLINEAGE_NAMESPACE") or "windtunnel"


def job_name(family: str, *parts: str) -> str:
    """Such as `compliance_qa.publish` or `compliance_qa.release.canary`."""
    return ".".join((family, *parts))


def run_id(*parts: object) -> str:
    """The UUID (version 5) of a run that is known by `parts`: the same parts, the same run."""
    return str(uuid.uuid5(_RUNS, "\0".join(str(part) for part in parts)))


def source_name(family: str, source: str) -> str:
    return f"{family}/source/{source}"


def raw_name(family: str, source: str) -> str:
    """Raw batches of a source."""
    return f"{family}/raw/{source}"


def clean_name(family: str, table: str) -> str:
    """Rows of a table that passed the gate."""
    return f"{family}/clean/{table}"


def quarantine_name(family: str) -> str:
    return f"{family}/quarantine"


def table_name(family: str, table: str) -> str:
    """A table of the published dataset; its version facet says which version."""
    return f"{family}/data/{table}"


def data_name(family: str) -> str:
    """The published dataset as a whole, which models are trained on."""
    return f"{family}/data"


def study_name(family: str) -> str:
    """The hyperparameter studies."""
    return f"{family}/study"


def model_name(family: str) -> str:
    """The model; its version facet says which."""
    return f"{family}/model"


def report_name(family: str) -> str:
    """Evaluation reports."""
    return f"{family}/report"


def traffic_name(family: str) -> str:
    """Live traffic; its version is the generation of the routing table."""
    return f"{family}/traffic"
