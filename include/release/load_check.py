"""The load check: a candidate is loaded and asked in a process of its own before any gateway meets it.

A package that does not load is a nuisance; one that takes its process along when it loads, or keeps a little memory of
every request, would take the champion along, because a gateway's models share one process. So they are found out where
nothing else can be hurt. Requests are real ones of the prediction log where there are any.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

from include.errors import FailureKind, WindtunnelError, clip
from include.release.bounds import boundary, wilson
from include.release.rollout import StageVerdict
from include.release.state import ReleaseError
from include.serving.package import fetch
from include.serving.predictions import read_predictions
from include.settings import PROJECT_ROOT, Settings
from include.spec.models import FamilySpec
from include.store.objects import open_store
from include.store.scratch import scratch_folder

#: How long a package may take to load; a gateway gives it as long.
LOAD_SECONDS = 120.0
#: Memory that is kept per request is held against the limit as if so many requests had come.
PROJECTED_REQUESTS = 100_000
#: Growth of the process in one part of the check that is no noise, MB.
_NOTICEABLE_MB = 1.0
_MOST_REQUESTS = 200
_LOOK_BACK = timedelta(days=1)

_Record = dict[str, Any]


class LoadCheckFailed(ReleaseError):
    """The candidate does not load, fails, or keeps memory; another try would end in the same way."""

    kind = FailureKind.USER


def check(settings: Settings, spec: FamilySpec, digest: str, *, at: datetime) -> _Record:
    """Loads and asks a package whose digest was verified.

    Returns:
        `verdict` (PASS or FAIL), `why` (sentences), and, where it loaded, what `include.serving.soak` found.

    Raises:
        PackageError: The package is missing or altered.
    """
    with scratch_folder("load") as cache:
        folder = fetch(open_store(settings.store_url), spec.family, digest, cache)
        requests = _recent_requests(settings, spec.family, at)
        found, broken = _run(settings, folder, requests, spec.release.load_check_seconds)
    if broken:
        return {"verdict": StageVerdict.FAIL.value, "why": [broken]}
    return {**judge(found, spec), **found}


def judge(found: Mapping[str, Any], spec: FamilySpec) -> _Record:
    """`verdict` and `why` for what the check found. Pure."""
    rails = spec.release.guardrails
    bad = []
    if found["real"] and found["errors"]:  # made-up requests may be wrong in ways that nobody's are
        rate = found["errors"] / found["requests"]
        low, _ = wilson(rate, found["requests"], boundary(found["requests"]))
        if low > rails.max_error_rate:
            bad.append(f"it fails on {found['errors']} of {found['requests']} recent requests ({found['error']})")
    if (kept := _kept(found, rails.max_memory_growth_mb)) is not None:
        bad.append(kept)
    if bad:
        return {"verdict": StageVerdict.FAIL.value, "why": bad}
    refused, answered = found.get("refused", 0), found["requests"] - found.get("refused", 0) - found["errors"]
    why = f"loads, and answered {answered} requests" + (f", {refused} were refused" if refused else "")
    return {"verdict": StageVerdict.PASS.value, "why": [why]}


def _kept(found: Mapping[str, Any], limit: float | None) -> str | None:
    """What is wrong with the memory that the package keeps; None where nothing is, or nobody set a limit.

    The first part is the warm-up. A leak goes on: the process grew in every part after it.
    """
    sizes: Sequence[float] = found["memory_mb"]
    if limit is None or len(sizes) < 2:
        return None
    grown = sizes[-1] - sizes[0]
    text = f"its process grew by {grown:.0f} MB over {found['requests']} requests, allowed {limit:g} MB"
    if grown > limit:
        return text
    steady = all(later - earlier >= _NOTICEABLE_MB for earlier, later in pairwise(sizes))
    asked = found["requests"] * (len(sizes) - 1) / len(sizes)
    projected = grown / max(asked, 1.0) * PROJECTED_REQUESTS
    if steady and projected > limit:
        return f"{text}, and it keeps growing: {projected:.0f} MB after {PROJECTED_REQUESTS:,} requests"
    return None


def _run(
    settings: Settings, folder: Path, requests: Sequence[Mapping[str, Any]], seconds: float
) -> tuple[_Record, str]:
    """What the process said, or in words how it ended."""
    lines = "".join(f"{json.dumps(request)}\n" for request in requests)
    command = [sys.executable, "-m", "include.serving.soak", str(folder), "--seconds", f"{seconds:g}"]
    try:
        done = subprocess.run(
            command,
            input=lines,
            env={**os.environ, **settings.to_env()},
            cwd=PROJECT_ROOT,
            capture_output=True,
            text=True,
            timeout=LOAD_SECONDS + seconds,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}, f"it did not load and answer within {LOAD_SECONDS + seconds:g} s"
    with suppress(ValueError, IndexError):
        found: _Record = json.loads(done.stdout.splitlines()[-1])
        if done.returncode == 0:
            return found, ""
    return {}, f"its process {_ending(done.returncode)} before it answered: {_last_line(done.stderr)}"


def _ending(status: int) -> str:
    if status < 0:
        return f"was killed by {signal.Signals(-status).name}"
    return f"ended with status {status}"


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return clip(lines[-1].strip(), 300) if lines else "it said nothing"


def _recent_requests(settings: Settings, family: str, at: datetime) -> list[Mapping[str, Any]]:
    """Inputs that were asked lately; none where the log is empty or cannot be read: the check does without."""
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    try:  # from the start of a day, because the log is read from there
        rows = read_predictions(open_store(settings.store_url), family, midnight - _LOOK_BACK, at)
        return [row["inputs"] for row in islice(rows, _MOST_REQUESTS)]
    except WindtunnelError:
        return []
