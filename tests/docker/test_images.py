"""The images hold what their programs need and nothing heavy more, at the versions that everything else has."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DOCKERFILE = (ROOT / "docker" / "Dockerfile").read_text()


def group(name: str) -> dict[str, Requirement]:
    """The requirements of a dependency group, those of the groups that it includes among them."""
    found: dict[str, Requirement] = {}
    for entry in PROJECT["dependency-groups"][name]:
        if isinstance(entry, dict):
            found |= group(entry["include-group"])
        else:
            requirement = Requirement(entry)
            found[canonicalize_name(requirement.name)] = requirement
    return found


def closure(names: set[str]) -> set[str]:
    """Them, and what they need here."""
    seen: set[str] = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        seen.add(name)
        for text in distribution(name).requires or ():
            needed = Requirement(text)
            if needed.marker is None or needed.marker.evaluate({"extra": ""}):
                todo.append(canonicalize_name(needed.name))
    return seen


@pytest.mark.parametrize("name", sorted(PROJECT["dependency-groups"]))
def test_a_group_asks_for_the_same_as_the_project(name: str) -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    whole = [*PROJECT["project"]["dependencies"], *extras["postgres"], *extras["pii"], *extras["tracing"]]
    known = {canonicalize_name(each.name): each for each in map(Requirement, whole)}
    assert {key: str(each.specifier) for key, each in group(name).items()} == {
        key: str(known[key].specifier) for key in group(name)
    }


def test_together_the_groups_are_the_project() -> None:
    """A new dependency must be put into the images that need it."""
    known = {canonicalize_name(Requirement(text).name) for text in PROJECT["project"]["dependencies"]}
    assert known <= group("trainer").keys() | group("airflow").keys()


@pytest.mark.parametrize("name", sorted(PROJECT["dependency-groups"]))
def test_whatever_an_image_holds_is_pinned(name: str) -> None:
    pinned = {canonicalize_name(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    assert closure(set(group(name))) <= pinned


def run_with(name: str, code: str, **environment: str) -> None:
    """Runs `code` in a process that does not find what the image of this group does not hold."""
    held = closure(set(group(name))) | {"windtunnel"}
    absent = [
        module
        for module, owners in packages_distributions().items()
        if not held & {canonicalize_name(owner) for owner in owners}
    ]
    assert {"pytest", "moto"} <= set(absent)
    without = f"""
import sys
class Without:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {absent!r}:
            return self.finder.find_spec(name, path, target)
    def __getattr__(self, name):
        return getattr(self.finder, name)
sys.meta_path[:] = map(Without, sys.meta_path)
"""
    done = subprocess.run(
        [sys.executable, "-c", without + code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]


def test_the_gateway_runs_on_its_group_alone() -> None:
    """The server, the stores, and a family's runtime."""
    assert not {"torch", "apache-airflow", "mlflow", "lightning", "pandas", "scipy"} & closure(set(group("gateway")))
    run_with(
        "gateway",
        "import include.serving.__main__, include.store.database, include.store.objects\n"
        "import include.families.compliance_qa.family, include.families.compliance_qa.runtime\n"
        "import alembic.command, bm25s, boto3, httptools, onnxruntime, psycopg2, Stemmer, tokenizers, uvloop\n",
    )


def test_airflow_reads_the_dags_and_has_what_its_tasks_import(tmp_path: Path) -> None:
    assert not {"torch", "lightning", "transformers"} & closure(set(group("airflow")))
    run_with(
        "airflow",
        "import pathlib, runpy\n"
        "for file in sorted(pathlib.Path('dags').glob('*.py')): runpy.run_path(str(file))\n"
        "import plugins.windtunnel_plugin, plugins.windtunnel.executor, plugins.windtunnel.operators.kubernetes_step\n"
        "import plugins.windtunnel.operators.pod_trigger, asyncpg, kubernetes_asyncio\n"
        "import include.release.candidate, include.release.engine, include.release.mlflow_registry\n"
        "import include.data.recalls, include.data.qa.review, include.monitoring.request, include.training.sweep\n"
        "import mlflow.tracking, optuna\n",
        AIRFLOW_HOME=str(tmp_path),
        WINDTUNNEL_POD_RUNNER="kubernetes",
    )


@pytest.mark.slow
def test_the_trainer_has_what_the_steps_import() -> None:
    assert "apache-airflow" not in closure(set(group("trainer")))
    run_with(
        "trainer",
        "import importlib\n"
        "from include.pods.warm_server import _PRELOAD, _of_families\n"
        "for name in (*_PRELOAD, *_of_families()): importlib.import_module(name)\n",
    )


def test_nobody_is_root_and_the_final_stages_have_no_tools_to_build() -> None:
    stages = re.split(r"(?m)^FROM ", DOCKERFILE)[1:]
    final = {"base", "gateway", "trainer", "airflow-base", "airflow", "worker"}
    by_name = {re.search(r"AS (\S+)", stage)[1]: stage for stage in stages}  # type: ignore[index]
    assert final <= by_name.keys()
    assert "USER 10001:10001" in by_name["base"]
    for name in final:
        assert (
            "pip install" not in by_name[name] and "apt-get" not in by_name[name] and "USER root" not in by_name[name]
        )
        assert by_name[name].startswith(("${PYTHON_IMAGE} AS base", "base AS", "airflow-base AS"))
    assert re.search(r"PYTHON_IMAGE=\S+:3\.11\.\d+-slim-\w+$", DOCKERFILE, re.M), "the tag names a patch release"


def test_the_context_holds_what_is_copied_and_no_more() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().split() if line.startswith("!")}
    copied = {
        word.strip("./") for line in re.findall(r"(?m)^COPY (?!--from)(.+)$", DOCKERFILE) for word in line.split()[:-1]
    }
    assert copied == allowed
    assert all((ROOT / name).exists() for name in allowed)
