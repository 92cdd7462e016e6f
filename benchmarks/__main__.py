"""`python -m benchmarks NAME [--quick] [--json]`; NAME is a module here, or `all`.

`all` runs each benchmark in a process of its own, so that none warms or slows another, and goes on where one fails;
`--write-readme` keeps what was measured in `figures.json` beside this file, in place of what the same benchmark said
before, writes the table of all of them to `RESULTS.md`, and puts the main ones between the README's markers.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import Figure, machine, replace_between_markers, table
from include.settings import PROJECT_ROOT

NAMES = (
    "parse", "orchestration", "ingest", "experiments", "start", "training", "ddp", "sweep", "pods",
    "serving", "router", "retrieval",
)  # fmt: skip
README = PROJECT_ROOT / "README.md"
RESULTS = PROJECT_ROOT / "benchmarks" / "RESULTS.md"
FIGURES = PROJECT_ROOT / "benchmarks" / "figures.json"


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status 0 where every benchmark was measured."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("name", choices=[*NAMES, "all"])
    parser.add_argument("--quick", action="store_true", help="fewer repeats: shows that it works, not how fast it is")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    parser.add_argument("--write-readme", action="store_true", help="keep the figures and show them in README.md")
    arguments = parser.parse_args(argv)
    if arguments.write_readme and arguments.quick:
        parser.error("--write-readme goes without --quick: the README shows full runs only")
    host = machine()
    failed: list[str] = []
    if arguments.name == "all":
        figures, failed = _all(arguments.quick)
    else:
        figures = importlib.import_module(f"benchmarks.{arguments.name}").run(arguments.quick)
    if arguments.json:
        print(json.dumps({"machine": host, "figures": [figure.to_json() for figure in figures], "failed": failed}))
    else:
        print(table(figures, {figure.benchmark: host for figure in figures}))
    if failed:
        print(f"not measured: {', '.join(failed)}", file=sys.stderr)
    if arguments.write_readme:
        _keep(figures, host)
    return 1 if failed else 0


def _keep(figures: Sequence[Figure], host: Mapping[str, Any]) -> None:
    """Writes `FIGURES`, `RESULTS` and the README's table."""
    kept: dict[str, Any] = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    for name in {figure.benchmark for figure in figures}:
        own = [figure.to_json() for figure in figures if figure.benchmark == name]
        kept[name] = {"machine": dict(host), "figures": own}
    kept = {name: kept[name] for name in NAMES if name in kept}
    FIGURES.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")
    everything = [Figure.from_json(record) for part in kept.values() for record in part["figures"]]
    hosts = {name: part["machine"] for name, part in kept.items()}
    RESULTS.write_text(f"# All figures\n\n{table(everything, hosts)}\n", encoding="utf-8")
    shown = table([figure for figure in everything if not figure.detail], hosts)
    README.write_text(replace_between_markers(README.read_text(encoding="utf-8"), shown), encoding="utf-8")


def _all(quick: bool) -> tuple[list[Figure], list[str]]:
    figures: list[Figure] = []
    failed: list[str] = []
    for name in NAMES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks", name, "--json", *(["--quick"] if quick else [])]
        done = subprocess.run(command, cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True, check=False)
        if done.returncode:
            failed.append(name)
            continue
        for record in json.loads(done.stdout.splitlines()[-1])["figures"]:
            figures.append(Figure.from_json(record))
    return figures, failed


if __name__ == "__main__":
    raise SystemExit(main())
